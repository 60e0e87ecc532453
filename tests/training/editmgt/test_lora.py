"""LoRA: what trains, what is merged, and the reference's path alone."""

import numpy as np
import pytest
import torch

from editkit.models.editmgt.adapters import Adapters
from editkit.models.editmgt.lora import merged
from editkit.models.errors import EditError
from editkit.training.editmgt import world
from editkit.training.editmgt.stages import Phase, Recipe


def awake(adapters):
    """Adapters that do something: B begins as 0."""
    for parameter in adapters.parameters():
        torch.nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(parameter.numel()))
    return adapters


@pytest.fixture
def out():
    """out(net, reference): logits of one edit."""
    encoders, example = world.World(), world.edited(np.random.default_rng(0))
    text = encoders.text(example.text)

    @torch.no_grad()
    def run(net, reference=True):
        ids = torch.full_like(example.source, net.config.mask_token)[None]
        prompt = net.prompt(text.states, text.pooled, example.source[None] if reference else None)
        return net(ids, prompt, torch.tensor([3.0]))

    return run


def test_a_lora_begins_as_nothing_and_comes_off_again(network, out):
    net = network()
    before = out(net)
    adapters = Adapters(net, 4, 8.0)
    assert torch.equal(out(net), before)
    awake(adapters)
    assert not torch.allclose(out(net), before)
    adapters.remove()
    assert torch.equal(out(net), before)


@pytest.mark.parametrize("targets", [("to_q", "to_k", "to_v"), ("to_q", "to_out.0", "proj_mlp", "ff.net.0.proj")])
def test_a_merged_lora_gives_the_same(network, out, targets):
    net = network()
    adapters = awake(Adapters(net, 3, 6.0, targets))
    alive, base = out(net), net.state_dict()
    adapters.remove()
    state = merged(base, adapters.loras())
    changed = {name for name in base if not torch.equal(base[name], state[name])}
    assert changed == {f"{name}.weight" for name in adapters.names}
    net.load_state_dict(state)
    assert torch.allclose(out(net), alive, atol=1e-4)


def test_only_the_lora_learns(network):
    net = network()
    stage = Phase("phase2", net, world.World(), world.Drawn(world.edited), Recipe(), world.SIDE, Adapters(net, 2, 2.0))
    learning = [name for name, p in stage.named_parameters() if p.requires_grad]
    assert len(learning) == 2 * 3 * 4 and all(name.startswith("adapters.") for name in learning)
    assert set(stage.parts()) == {"phase2_lora"}
    assert len(stage.role_parameters("main")) == len(learning)
    awake(stage.adapters)
    stage.losses(*stage.batch(np.random.default_rng(0), 2, world.SIDE))["loss"].backward()
    assert all((p.grad is not None) == p.requires_grad for p in stage.parameters())


def test_on_the_reference_alone_a_lora_leaves_text_and_picture_as_they_are(network, out):
    """Without a reference it does nothing; with one, only the reference's queries, keys and values are its."""
    net = network()
    plain, with_reference = out(net, reference=False), out(net)
    block, x = net.single_transformer_blocks[0], torch.randn(1, 5, net.config.width)
    before = block.attn.project(x)
    adapters = awake(Adapters(net, 2, 2.0, part="reference"))
    assert torch.equal(out(net, reference=False), plain)
    assert not torch.allclose(out(net), with_reference)
    for one, two, other in zip(before, block.attn.project(x), block.attn.project_reference(x)):
        assert torch.equal(one, two) and not torch.allclose(one, other)
    adapters.remove()
    assert torch.equal(out(net), with_reference)


def test_on_all_tokens_the_reference_is_among_them(network):
    net, x = network(), torch.randn(1, 5, 64)
    awake(Adapters(net, 2, 2.0))
    attention = net.transformer_blocks[0].attn
    assert all(map(torch.equal, attention.project(x), attention.project_reference(x)))


@pytest.mark.parametrize(
    ("rank", "targets", "part", "said"),
    [
        (0, ("to_q",), "all", "rank 0"),
        (2, ("to_w",), "all", "to_w; layers are .*attn.to_q"),
        (2, (), "all", "nothing"),
        (2, ("to_out.0",), "reference", "to_q, to_k, to_v"),
        (2, ("to_q",), "picture", "'picture'"),
    ],
)
def test_a_lora_that_cannot_be_is_refused(network, rank, targets, part, said):
    with pytest.raises(EditError, match=said):
        Adapters(network(), rank, 1.0, targets, part)
