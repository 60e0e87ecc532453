"""What a phase's loss is made of: masked tokens alone, the source at timestep 0, dropped instructions."""

import numpy as np
import pytest
import torch
from torch import nn

from editkit.models.editmgt import sampling
from editkit.models.editmgt.transformer import EditMGT
from editkit.training.editmgt import release, stages, world
from editkit.training.editmgt.stages import Phase, Recipe


@pytest.fixture
def phase(network):
    """phase(kind, connector, **recipe): a phase of the small world, in pairs or in edits."""

    def make(kind=world.edited, connector="linear", **recipe):
        return Phase("phase2", network(connector), world.World(), world.Drawn(kind), Recipe(**recipe), world.SIDE)

    return make


def batch(stage, seed=0, count=3):
    return stage.batch(np.random.default_rng(seed), count, world.SIDE)


@torch.no_grad()
def test_the_loss_counts_masked_tokens_alone(phase):
    """Eq. 1 by hand: minus the log probability of each masked token, as sampling would see it."""
    stage = phase()
    target, masked, rate, states, pooled, source = batch(stage)
    hidden = target.clone()
    hidden[masked] = stage.net.config.mask_token
    prompt = stage.net.prompt(states, pooled, source, stage.micro)
    logits = stage.net(hidden, prompt, 1000 * rate)
    by_hand = [
        -logits[b, :, i, j].log_softmax(0)[target[b, i, j]] for b, i, j in masked.nonzero().tolist()
    ]  # fmt: skip
    assert 0 < masked.float().mean() < 1 and len(by_hand) == int(masked.sum())
    loss = stage.losses(target, masked, rate, states, pooled, source)["loss"]
    assert loss.item() == pytest.approx(float(sum(by_hand) / len(by_hand)), rel=1e-5)


@pytest.mark.parametrize("time", ["ratio", "step"])
def test_the_source_stays_at_timestep_0(phase, monkeypatch, time):
    """The picture is told its time; the source is conditioned on 0, whatever that is."""
    seen, plan = [], EditMGT.plan

    def spy(net, prompt, *more):
        seen.append((prompt, plan(net, prompt, *more)))
        return seen[-1][1]

    monkeypatch.setattr(EditMGT, "plan", spy)
    stage = phase(time=time)
    given = batch(stage)
    stage.losses(*given)
    (prompt, step), rate = seen[0], given[2]
    told = 1000 * rate if time == "ratio" else 15 - (16 * torch.arccos(rate) * 2 / torch.pi).floor()
    assert torch.equal(step.vectors.reference, stage.net.condition(prompt, torch.zeros(3)))
    assert torch.equal(step.vectors.conditions[0], stage.net.condition(prompt, told))


def test_a_tenth_of_the_instructions_is_dropped(phase):
    stage, rng = phase(dropped="nothing"), np.random.default_rng(0)
    told = [stage.told(rng, "make it blue") for _ in range(5000)]
    assert set(told) == {"nothing", "make it blue"} and told.count("nothing") / 5000 == pytest.approx(0.1, abs=0.015)


@pytest.mark.parametrize("dropped", ["", "ugly, blurred"])
def test_a_dropped_instruction_is_the_encoded_negative_one(phase, dropped):
    """Each picture by itself, and what is remembered of an instruction is never the dropped one."""
    stage, encoders = phase(dropout=0.5, dropped=dropped), world.World()
    *_, states, pooled, _ = batch(stage, count=40)
    without = encoders.text(dropped)
    is_dropped = (states == without.states).flatten(1).all(1)
    assert 8 < int(is_dropped.sum()) < 32
    assert torch.equal(is_dropped, (pooled == without.pooled).all(1))
    assert torch.equal(stage.texts(["remove the red circle"]).states, encoders.text("remove the red circle").states)


def test_no_instruction_is_dropped_when_measuring(phase):
    stage = phase(dropout=1.0)
    states = stage._held_batch(stage.held[:8], 0)[3]
    assert torch.equal(states, stage.texts([e.text for e in stage.held[:8]]).states)


def test_every_weight_learns_from_edits_and_all_but_the_sources_from_pairs(phase):
    for kind in (world.edited, world.described):
        stage = phase(kind)
        stage.losses(*batch(stage))["loss"].backward()
        without = {n for n, p in stage.net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
        last = f"single_transformer_blocks.{stage.net.config.num_single_layers - 1}"
        assert all(name.startswith((last, "transformer_blocks.1.ff_context")) for name in without), without


def test_checkpointing_changes_nothing_but_the_memory(phase):
    gradients = []
    for checkpointing in (False, True):
        stage = phase()
        if checkpointing:
            stage.enable_checkpointing()
        stage.losses(*batch(stage))["loss"].backward()
        gradients.append({n: p.grad for n, p in stage.net.named_parameters() if p.grad is not None})
    one, two = gradients
    assert one.keys() == two.keys() and all(torch.allclose(one[n], two[n], atol=1e-7) for n in one)


def test_measuring_is_always_the_same_and_sees_high_and_low_rates(phase):
    stage = phase(follow=3, sampling=sampling.Options(steps=3, guidance=2.0))
    with torch.no_grad():
        assert stage.validate() == stage.validate()
    for first in range(0, world.HELD, stages.MEASURED):
        rate = stage._held_batch(stage.held[first : first + stages.MEASURED], first)[2]
        assert rate.min() < 0.5 and rate.max() > 0.9


def test_an_untrained_network_follows_nothing(phase):
    measured = phase(follow=8, sampling=sampling.Options(steps=4)).follow()
    assert measured["followed"] == 0 and measured["kept"] < 0.3


def test_bfloat16_trains_too(phase):
    stage = phase()
    given = batch(stage)
    with torch.autocast("cpu", torch.bfloat16):
        half = stage.losses(*given)["loss"]
    half.backward()
    assert half.item() == pytest.approx(stage.losses(*given)["loss"].item(), rel=0.02)


def test_the_optimizer_is_the_papers(phase):
    made = phase().optimizer([nn.Parameter(torch.ones(1))], 1e-4, 0.01)
    assert type(made) is torch.optim.AdamW
    wanted = {"lr": 1e-4, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}
    assert {name: made.defaults[name] for name in wanted} == wanted


@pytest.mark.parametrize("connector", release.CONNECTORS)
def test_every_connector_learns_and_samples(phase, connector):
    stage = phase(connector=connector)
    stage.losses(*batch(stage))["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in stage.net.connector.parameters())
    text, edit = stage.texts(["remove the red circle"]), stage.held[0]
    made = sampling.run(stage.net, text, stage.texts([""]), (8, 8), sampling.Options(steps=3),
                        reference=edit.source[None], generator=torch.Generator().manual_seed(0))  # fmt: skip
    assert made.tokens.max() < world.CODES
