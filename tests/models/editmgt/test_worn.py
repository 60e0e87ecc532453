"""LoRAs that a transformer wears: as if they were merged, and gone afterwards."""

import pytest
import torch

from editkit.models.editmgt.attention import Attend
from editkit.models.editmgt.lora import Lora, merged
from editkit.models.editmgt.transformer import EditMGT
from editkit.models.editmgt.worn import Worn, fitting, wearing
from editkit.models.errors import EditError
from editkit.tests.tiny_editmgt_release import CODES, TRANSFORMER, randomised

SINGLE = "single_transformer_blocks"
QKV = ("transformer_blocks.0.attn.to_q", f"{SINGLE}.0.attn.to_k", f"{SINGLE}.1.attn.to_v")
MORE = (*QKV, "transformer_blocks.0.ff.net.0.proj", f"{SINGLE}.1.norm.linear")


@pytest.fixture
def net():
    made = EditMGT(TRANSFORMER)
    made.load_state_dict(randomised(made, 0))
    return made.eval().requires_grad_(False)


def lora(net, names=QKV, rank=2, scale=2.0, seed=0):
    draw = torch.Generator().manual_seed(seed)
    shapes = {name: net.get_submodule(name).weight.shape for name in names}
    return {
        n: Lora(torch.randn(rank, i, generator=draw) / 4, torch.randn(o, rank, generator=draw) / 4, scale)
        for n, (o, i) in shapes.items()
    }


@torch.no_grad()
def out(net, reference=True, dtype=torch.float32):
    draw = torch.Generator().manual_seed(1)
    ids, shown = (torch.randint(CODES, (1, 4, 4), generator=draw) for _ in range(2))
    text = torch.randn(1, 5, TRANSFORMER.joint_attention_dim, generator=draw).to(dtype)
    pooled = torch.randn(1, TRANSFORMER.pooled_projection_dim, generator=draw).to(dtype)
    prompt = net.prompt(text, pooled, shown if reference else None)
    return net(ids, prompt, torch.ones(1), attention=Attend(1.1))


@pytest.mark.parametrize("names", [QKV, MORE])
@pytest.mark.parametrize("strength", [1.0, -0.7])
def test_worn_is_as_merged_and_afterwards_it_is_gone(net, names, strength):
    plain, state, loras = out(net), {k: v.clone() for k, v in net.state_dict().items()}, lora(net, names)
    with wearing(net, [Worn(loras, strength)]):
        worn = out(net)
    assert torch.equal(out(net), plain) and all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    net.load_state_dict(merged(state, loras, strength))
    torch.testing.assert_close(worn, out(net), rtol=0, atol=2e-5)
    assert not torch.allclose(worn, plain, atol=1e-2)


def test_several_add_up_whatever_their_ranks(net):
    one, two = lora(net, seed=1), lora(net, MORE, rank=5, scale=0.5, seed=2)
    with wearing(net, [Worn(one, 0.5), Worn(two)]):
        worn = out(net)
    net.load_state_dict(merged(merged(net.state_dict(), one, 0.5), two))
    torch.testing.assert_close(worn, out(net), rtol=0, atol=2e-5)


def test_on_the_reference_alone_text_and_picture_stay(net):
    """As the training's own adapters act there; one on all tokens beside it acts on all."""
    plain, alone = out(net), out(net, reference=False)
    worn, attention = Worn(lora(net), part="reference"), net.single_transformer_blocks[0].attn
    x = torch.randn(1, 3, net.config.width)
    keys = attention.project(x)[1]
    with wearing(net, [worn]):
        assert torch.equal(out(net, reference=False), alone)
        assert not torch.allclose(out(net), plain, atol=1e-3)
        assert torch.equal(attention.project(x)[1], keys)
        of_reference = attention.project_reference(x)[1]
    assert not torch.allclose(of_reference, keys)
    assert "project_reference" not in vars(attention) and torch.equal(out(net), plain)
    with wearing(net, [Worn(lora(net))]):
        assert torch.equal(attention.project(x)[1], of_reference)
        everywhere = out(net)
    with wearing(net, [worn, Worn(lora(net), part="all")]):
        assert not torch.allclose(out(net), everywhere, atol=1e-3)


def test_no_strength_is_no_lora_at_all(net):
    plain = out(net)
    with wearing(net, [Worn(lora(net), 0.0), Worn(lora(net), 0.0, "reference")]):
        assert not any(module._forward_hooks for module in net.modules())
        assert torch.equal(out(net), plain)


def test_it_comes_off_when_a_run_is_cancelled(net):
    plain = out(net)
    with pytest.raises(KeyboardInterrupt), wearing(net, [Worn(lora(net)), Worn(lora(net), part="reference")]):
        raise KeyboardInterrupt
    assert torch.equal(out(net), plain) and not any(module._forward_hooks for module in net.modules())


def test_it_computes_as_the_network_does(net):
    net = net.bfloat16()
    with wearing(net, [Worn(lora(net))]):
        worn = out(net, dtype=torch.bfloat16)
    assert worn.dtype == torch.bfloat16 and not torch.equal(worn, out(net, dtype=torch.bfloat16))


@pytest.mark.parametrize(
    ("worn", "said"),
    [
        (Worn({"elsewhere": Lora(torch.ones(1, 2), torch.ones(2, 1))}), "'elsewhere', which this transformer does not"),
        (Worn({QKV[0]: Lora(torch.ones(1, 7), torch.ones(5, 1))}), "5x7 weights, and the transformer's are 32x32"),
        (Worn({}, part="text"), "all or reference, not on 'text'"),
        (Worn({"transformer_blocks.0.ff.net.0.proj": Lora(torch.ones(1, 32), torch.ones(128, 1))}, part="reference"),
         "may change to_q, to_k, to_v, and this one changes 'transformer_blocks.0.ff"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(net, worn, said):
    with pytest.raises(EditError, match=said):
        fitting(net, worn)
    assert fitting(net, Worn(lora(net, MORE))).part == "all"
