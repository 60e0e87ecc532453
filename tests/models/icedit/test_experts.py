"""The mixture of LoRA experts: who is chosen, how the gates weigh, and that nothing else is added."""

import pytest
import torch

from editkit.models.icedit.experts import Experts, delta, mean, route


def mixture(count=4, rank=3, inside=10, out=6, **options):
    torch.manual_seed(0)
    return Experts(
        torch.randn(count * rank, inside), torch.randn(out, count * rank), torch.randn(count, inside), **options
    )


def one_by_one(x, experts):
    """Eq. 2 as it is written: the experts one after the other, each weighted by its gate."""
    r = experts.rank
    total = torch.zeros(*x.shape[:-1], len(experts.up))
    for token in [(b, n) for b in range(x.shape[0]) for n in range(x.shape[1])]:
        logits = experts.router @ x[token]
        best = sorted(range(experts.count), key=lambda i: -float(logits[i]))[: experts.chosen]
        weights = torch.softmax(logits[best], 0)
        for weight, i in zip(weights, best, strict=True):
            change = experts.up[:, i * r : (i + 1) * r] @ (experts.down[i * r : (i + 1) * r] @ x[token])
            total[token] += weight * experts.scale * change
    return total


@pytest.mark.parametrize("chosen", [1, 2, 4])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_mixture_is_equation_2(chosen, scale):
    experts, x = mixture(chosen=chosen, scale=scale), torch.randn(2, 7, 10)
    assert torch.allclose(delta(x, experts), one_by_one(x, experts), atol=1e-5)


def test_with_one_expert_per_token_the_gate_is_exactly_one():
    routing = route(torch.randn(3, 50, 10), mixture())
    assert routing.gates.unique().tolist() == [0.0, 1.0] and bool((routing.gates.sum(-1) == 1).all())
    assert torch.equal(routing.gates.argmax(-1), routing.indices[..., 0])
    assert torch.equal(routing.indices[..., 0], routing.logits.argmax(-1))


def test_gates_of_several_experts_sum_to_one_and_order_is_best_first():
    routing = route(torch.randn(1, 40, 10), mixture(chosen=3))
    assert torch.allclose(routing.gates.sum(-1), torch.ones(1, 40))
    values = routing.logits.gather(-1, routing.indices)
    assert bool((values.diff(dim=-1) <= 0).all()) and bool(((routing.gates > 0).sum(-1) == 3).all())


def test_tokens_are_routed_on_their_own():
    experts, x = mixture(), torch.randn(1, 30, 10)
    changed = x.clone()
    changed[:, 11] = torch.randn(10)
    same = torch.arange(30) != 11
    assert torch.equal(delta(x, experts)[:, same], delta(changed, experts)[:, same])


def test_strength_scales_and_nothing_remains_at_zero():
    experts, x = mixture(), torch.randn(1, 5, 10)
    assert torch.allclose(delta(x, experts, 0.5), 0.5 * delta(x, experts)) and not delta(x, experts, 0.0).any()


def test_bf16_tokens_get_a_bf16_change_from_float_weights():
    experts, x = mixture(), torch.randn(1, 5, 10)
    made = delta(x.bfloat16(), experts)
    assert made.dtype == torch.bfloat16 and (made.float() - delta(x, experts)).abs().max() < 0.4


def test_the_mean_of_the_experts_is_one_plain_lora():
    experts, x = mixture(scale=2.0), torch.randn(8, 10)
    down, up = mean(experts)
    r = experts.rank
    each = [
        2.0 * (experts.up[:, i * r : (i + 1) * r] @ experts.down[i * r : (i + 1) * r]) for i in range(experts.count)
    ]
    assert torch.allclose(x @ (up @ down).T, x @ (sum(each) / len(each)).T, atol=1e-5)
