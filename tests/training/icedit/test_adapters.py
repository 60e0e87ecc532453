"""The trainable LoRA and mixture: what they compute, which gradients they get, and the files that they become."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from editkit.models.errors import EditError
from editkit.models.icedit import experts as reference
from editkit.models.icedit import lora as files
from editkit.models.icedit import transformer
from editkit.tests.training.icedit.conftest import MIXTURE
from editkit.training.icedit import adapters, world
from editkit.training.icedit.adapters import Choice, Mixture
from editkit.training.icedit.stages import Diptychs

TOKENS = torch.randn(3, 7, 12, generator=torch.Generator().manual_seed(0))


def layer(**changes):
    torch.manual_seed(1)
    made = Mixture(nn.Linear(12, 5), Choice(**{"rank": 2, "experts": 4} | changes))
    nn.init.normal_(made.up)
    return made


def naive(made, x):
    """Eq. 2 one token at a time, with matrices of its own."""
    downs, ups = made.down.chunk(4), made.up.chunk(4, dim=1)
    out = torch.empty(*x.shape[:-1], 5)
    for place in torch.cartesian_prod(*(torch.arange(n) for n in x.shape[:-1])).tolist():
        token = x[tuple(place)]
        logits = made.router @ token
        order = logits.argsort(descending=True)[: made.choice.chosen]
        gates = logits.softmax(0)[order] if made.choice.softmax_first else logits[order].softmax(0)
        change = sum(g * (ups[i] @ (downs[i] @ token)) for g, i in zip(gates, order.tolist()))
        out[tuple(place)] = made.base(token) + change
    return out


@pytest.mark.parametrize("changes", [{}, {"chosen": 2}, {"softmax_first": True}, {"chosen": 3, "softmax_first": True}])
def test_the_forward_is_eq_2_and_that_of_our_nodes(changes):
    made = layer(**changes)
    with torch.no_grad():
        found = made(TOKENS)
        assert torch.allclose(found, naive(made, TOKENS), atol=1e-5)
        assert torch.equal(found, made.base(TOKENS) + reference.delta(TOKENS, made.experts()))
    if changes:
        assert not torch.allclose(found, layer()(TOKENS), atol=1e-2)


def test_at_top_1_the_released_layer_gives_its_router_no_gradient_at_all():
    """The softmax over one logit is 1, whatever the router says; with more of them, or softmax first, it learns."""
    for changes, learns in (({}, False), ({"chosen": 2}, True), ({"softmax_first": True}, True)):
        made = layer(**changes)
        made(TOKENS).square().sum().backward()
        assert bool(made.router.grad.any()) is learns and made.down.grad.any() and made.up.grad.any()


def test_the_load_balance_loss_takes_a_router_off_its_favourite():
    made = layer()
    tokens = TOKENS + 1  # with a direction that a router can like
    with torch.no_grad():
        made.router[0] += 0.1
    holder = nn.ModuleList([made])
    made(tokens)
    before = float(adapters.imbalance(holder).detach()), adapters.used(holder)
    for _ in range(60):
        made(tokens)
        (gradient,) = torch.autograd.grad(adapters.imbalance(holder), made.router)
        with torch.no_grad():
            made.router -= 0.05 * gradient
    made(tokens)
    after = float(adapters.imbalance(holder).detach()), adapters.used(holder)
    assert after[0] < before[0] - 0.1 and after[1] > before[1] + 0.5, (before, after)


def test_imbalance_is_1_for_even_shares_and_e_for_one_expert():
    made = layer()
    holder = nn.ModuleList([made])
    for shares, loss, used in ((torch.full((4,), 0.25), 1.0, 4.0), (torch.eye(4)[2], 4.0, 1.0)):
        made.shares = made.chances = shares
        assert float(adapters.imbalance(holder)) == pytest.approx(loss)
        assert adapters.used(holder) == pytest.approx(used)


def test_it_begins_as_nothing_and_trains_only_itself(network):
    for choice in (Choice(3), MIXTURE):
        plain, with_it = network(), adapters.attach(network(), choice, 0)
        stages = [Diptychs("x", net.eval(), world.World(), None, None) for net in (plain, with_it)]
        assert all(torch.equal(a, b) for a, b in zip(*(run(s) for s in stages)))
        trained = {name for name, p in with_it.named_parameters() if p.requires_grad}
        assert trained and all("lora_" in n or n.rsplit(".")[-1] in ("down", "up", "router") for n in trained)


def run(stage):
    """Velocities of the stage's network on two diptychs."""
    from editkit.training.icedit import fill
    from editkit.training.icedit.examples import stacked

    target, masked, states, pooled = stacked(stage.examples.held()[:2])
    time = torch.tensor([0.8, 0.3])
    with torch.no_grad():
        return fill.velocity(stage.net, target, fill.condition(masked, 8), time, states, pooled, torch.ones(2))


@pytest.mark.parametrize("choice", [Choice(3), MIXTURE, Choice(2, 3, 2), Choice(2, 4, 1, True)])
def test_the_file_read_back_by_our_reader_computes_the_same(network, choice):
    """On the frozen network alone, with what the nodes read; and the right layers are in it."""
    net, bare = network(choice).eval(), network().eval()
    state = adapters.to_file(adapters.view(net).state_dict(), choice)
    routing = files.SOFTMAX_FIRST if choice.softmax_first else None
    lora = files.parse(state, choice.chosen, routing)
    assert not files.foreign(lora, transformer.shapes(bare)) and not files.missing(lora, transformer.shapes(bare))
    assert len(lora.experts) == (2 if choice.experts else 0) and lora.rank == choice.rank
    examples = world.World()
    trained = run(Diptychs("x", net, examples, None))
    with transformer.attached(bare, lora):
        read = run(Diptychs("x", bare, examples, None))
    plain = run(Diptychs("x", bare, examples, None))
    assert float((read - trained).abs().max()) < 1e-5 < 0.05 < float((plain - trained).abs().max())


@pytest.mark.parametrize(("choice", "name", "count"), [
    (Choice(), "normal", 686), (Choice(experts=4), "moe", 1085),
])  # fmt: skip
def test_at_full_size_the_file_has_the_released_names_and_shapes(root, choice, name, count):
    """On the meta device: every one of the official files' tensors, and no other."""
    from diffusers import FluxTransformer2DModel

    with torch.device("meta"):
        net = FluxTransformer2DModel(in_channels=384, out_channels=64, guidance_embeds=True)
        adapters.attach(net, choice, 0)
    made = adapters.to_file(dict(adapters.view(net).named_parameters()), choice)
    path = root / f"tests/fixtures/moelora/official_{name}_lora_expected_keys_shapes.json"
    wanted = json.loads(path.read_text())
    assert {k: list(v.shape) for k, v in made.items()} == wanted and len(made) == count


def test_checkpointed_blocks_give_the_same_gradients(stage):
    """With the balance's own, which comes from the middle of the blocks."""
    found = []
    for again in (False, True):
        one = stage(balance=0.5)
        if again:
            one.enable_checkpointing()
        torch.manual_seed(0)
        one.train()
        one.losses(*one.batch(np.random.default_rng(0), 2, 0))["loss"].backward()
        found.append([p.grad for p in one.parameters() if p.requires_grad])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*found))
    routers = [p.grad for n, p in one.named_parameters() if n.endswith("router")]
    assert routers and all(grad.any() for grad in routers)


@pytest.mark.parametrize(("choice", "said"), [(Choice(0), "rank 0"), (Choice(2, 4, 5), "5 of 4 experts")])
def test_no_rank_and_too_many_experts_are_refused(network, choice, said):
    with pytest.raises(EditError, match=said):
        adapters.attach(network(), choice, 0)
