"""Stage 3: what the student is given, what the critic sees, and who learns from what."""

import copy
import math

import numpy as np
import pytest
import torch

from editkit.models.kontext import schedule
from editkit.training.kontext import ladd, timesteps, world
from editkit.training.kontext.stages import Recipe


@pytest.fixture
def stage(network):
    """stage(**few): stage 3 whose student is still its teacher."""

    def make(**few):
        net = network(guidance_embeds=True)
        options = ladd.Few(**{"width": 16, "every": 1, **few})
        return ladd.Ladd(net, copy.deepcopy(net), world.World(), Recipe(text_to_image=0.0, scale=3.0), options)

    return make


def batch(stage, count=3):
    return stage.batch(np.random.default_rng(0), count, 0)


def learns(module):
    return {n for n, p in module.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


def test_the_student_starts_where_its_sampling_stands(stage):
    """The times of the few steps by Eq. 12, pure noise as often as said."""
    made, example = stage(steps=4, first=0.7), world.World().held()[0]
    drawn = made.times(np.random.default_rng(0), 20_000, example)
    wanted = schedule.sigmas(4, timesteps.mu_of((6, 6)))[:-1]
    assert torch.equal(drawn.unique(), wanted.unique()) and wanted[0] == 1
    assert float((drawn == 1).float().mean()) == pytest.approx(0.7, abs=0.02)
    assert float((drawn == wanted[3]).float().mean()) == pytest.approx(0.1, abs=0.02)
    assert stage(steps=1, first=0.2).times(np.random.default_rng(0), 5, example).tolist() == [1.0] * 5


def test_what_the_student_makes_is_its_x0(stage, monkeypatch):
    """z_t - t·v: the data itself, if v is ε - x."""
    made = stage()
    target, time, scale, _, states, pooled, *references = batch(made)

    def perfect(net, noisy, time, told, *rest):
        assert torch.equal(told, torch.full((3,), 3.0))
        return (noisy - target) / time.view(-1, 1, 1, 1)

    monkeypatch.setattr(made, "ask", perfect)
    assert torch.allclose(made.made(target, time, scale, (states, pooled), references), target, atol=1e-5)


def test_the_critic_sees_the_targets_tokens_after_each_chosen_block(stage):
    made = stage()
    target, time, _, _, states, pooled, *references = batch(made)
    found = made.features(target, time, (states, pooled), references)
    assert [tuple(x.shape) for x in found] == [(3, 9, 32)] * 2
    assert stage(every=4).critic.chosen == (1,)
    other = made.features(target, time, (states, pooled), [r + 1 for r in references])
    assert not torch.allclose(found[-1], other[-1])  # the teacher sees the references, and the critic through it
    logits = made.critic(found, pooled, time, 3)
    assert [tuple(x.shape) for x in logits] == [(3, 3, 3)] * 2
    for changed in (made.critic(found, pooled + 1, time, 3), made.critic(found, pooled, time / 2, 3)):
        assert not torch.allclose(logits[0], changed[0])


def test_each_learns_from_its_own_loss(stage):
    """The student through the frozen teacher; the heads alone from the critic's loss; the teacher never."""
    made = stage(distillation=0.5, r1=0.1)
    before = {n: p.clone() for n, p in made.teacher.named_parameters()}
    losses = made("generator", *batch(made))
    losses["loss"].backward()
    assert any(n.startswith("x_embedder") for n in learns(made.net)) and not learns(made.teacher)
    assert {"loss", "adversarial", "distillation"} == set(losses)
    made.zero_grad()
    losses = made("critic", *batch(made))
    losses["loss"].backward()
    heads = {n for n, _ in made.critic.named_parameters() if not n.endswith("leave.bias")}  # whose halves cancel
    assert learns(made.critic) >= heads and not learns(made.net)
    assert all(torch.equal(p, before[n]) for n, p in made.teacher.named_parameters())
    roles = [set(map(id, made.role_parameters(role))) for role in made.roles]
    assert not roles[0] & roles[1] and not (roles[0] | roles[1]) & set(map(id, made.teacher.parameters()))


def test_the_losses_are_the_hinge(stage, monkeypatch):
    made = stage()
    given = batch(made)
    values = iter([2.0, -0.5])  # logits of data, then of the student's
    monkeypatch.setattr(made, "judged", lambda x, *a, **k: ([torch.full((3, 3, 3), next(values))], torch.zeros(())))
    found = made("critic", *given)
    assert found["loss"].item() == pytest.approx(0 + 0.5) and (found["real"], found["fake"]) == (2.0, -0.5)
    values = iter([-0.5])
    assert made("generator", *given)["loss"].item() == pytest.approx(0.5)


def test_what_is_judged_is_noised_by_the_critics_times(stage, monkeypatch):
    made, seen = stage(critic_mu=1.5, critic_sigma=0.4), []
    monkeypatch.setattr(made, "features", lambda noisy, time, *rest: seen.append((noisy, time)) or [])
    x = torch.zeros(4000, 4, 4, 4)
    made.judged(x, (None, torch.zeros(4000, world.POOLED)), [])
    noisy, time = seen[0]
    logits = torch.logit(time)
    assert float(logits.mean()) == pytest.approx(1.5, abs=0.03) and float(logits.std()) == pytest.approx(0.4, abs=0.03)
    assert torch.allclose(noisy.std((1, 2, 3)).mean(), time.mean(), atol=0.02)


def test_the_penalty_is_the_squared_gradient(stage):
    """R1 of a critic that is linear in its features, by hand."""
    features = torch.randn(2, 9, 5, requires_grad=True)
    weight = torch.arange(5.0)
    assert ladd.Ladd.penalty([features @ weight], [features]).item() == pytest.approx(9 * 30.0)


def test_the_teachers_x0_is_what_distillation_is_against(stage, monkeypatch):
    made = stage(distillation=2.0, adversarial=0.0)
    given = batch(made)
    monkeypatch.setattr(made, "taught", lambda x, *rest: x.detach() + 3)
    assert made("generator", *given)["loss"].item() == pytest.approx(18.0)


def test_times_are_told_apart():
    told = ladd.waves(torch.tensor([0.0, 0.2, 0.21, 1.0]))
    assert told.shape == (4, 2 * ladd.WAVES) and torch.cdist(told, told).fill_diagonal_(math.inf).min() > 0.5
