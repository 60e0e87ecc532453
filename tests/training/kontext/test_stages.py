"""The losses of stages 1 and 2, and what a network is asked."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from editkit.models.kontext import ids
from editkit.training.kontext import adapters, flux, measuring, world
from editkit.training.kontext.stages import Guidance, Recipe, interpolated


@pytest.fixture
def guidance(network):
    """guidance(**recipe): stage 2 whose student was just made of its teacher."""

    def make(**recipe):
        teacher = network()
        student = flux.with_guidance(flux.config_of(teacher), teacher.state_dict(), 1)
        return Guidance(student, teacher, world.World(), Recipe(text_to_image=0.0, **recipe))

    return make


def asked(net, references=(), scale=None, size=(6, 6), seed=0):
    random = torch.Generator().manual_seed(seed)
    noisy = torch.randn(2, 4, *size, generator=random)
    states, pooled = (torch.stack([x, x]) for x in world.text("remove the disc"))
    return noisy, flux.velocity(net, noisy, torch.tensor([0.3, 0.8]), states, pooled, references, scale)


def test_tokens_are_packed_as_bfl_does():
    latent = torch.arange(2 * 4 * 4 * 6.0).view(2, 4, 4, 6)
    tokens = flux.pack(latent)
    assert tokens.shape == (2, 6, 16) and torch.equal(flux.unpack(tokens, (4, 6)), latent)
    assert torch.equal(tokens[0, 1].view(4, 2, 2), latent[0, :, :2, 2:4])


def test_references_are_further_tokens_at_their_virtual_times(network, monkeypatch):
    """Eq. 2: (0, h, w) for the target, (i, h, w) for reference i, of whatever size."""
    net, given = network(), {}
    forward = net.forward
    monkeypatch.setattr(net, "forward", lambda **kw: given.update(kw) or forward(**kw))
    references = [torch.randn(2, 4, 6, 6), torch.randn(2, 4, 4, 8)]
    with torch.no_grad():
        noisy, found = asked(net, references)
    assert found.shape == noisy.shape and given["hidden_states"].shape == (2, 9 + 9 + 8, 16)
    assert torch.equal(given["hidden_states"][:, 9:18], flux.pack(references[0]))
    wanted = torch.cat([
        ids.grid_ids((6, 6)), ids.grid_ids((6, 6), ids.Place(1)), ids.grid_ids((4, 8), ids.Place(2)),
    ])  # fmt: skip
    assert torch.equal(given["img_ids"], wanted) and not given["txt_ids"].any()


@torch.no_grad()
def test_the_order_of_references_counts_and_none_is_text_to_image(network):
    net, (one, two) = network(), torch.randn(2, 2, 4, 6, 6)
    outs = [asked(net, refs)[1] for refs in ([], [one], [two], [one, two], [two, one])]
    assert all(not torch.allclose(a, b) for i, a in enumerate(outs) for b in outs[:i])


def test_the_loss_is_eq_3(flow, monkeypatch):
    """|v - (ε - x)|², with v asked at z_t = (1 - t)x + tε."""
    stage, told = flow(), {}
    batch = stage._tensors(stage.examples.draw(np.random.default_rng(0), "edit", 3), torch.tensor([0.1, 0.5, 0.9]),
                           torch.ones(3), None)  # fmt: skip
    monkeypatch.setattr(stage, "ask", lambda net, z, t, *rest: told.update(z=z, t=t) or torch.zeros_like(z))
    torch.manual_seed(4)
    loss = stage.losses(*batch)["loss"]
    torch.manual_seed(4)
    noise, x, t = torch.randn_like(batch[0]), batch[0], batch[1].view(3, 1, 1, 1)
    assert loss.item() == pytest.approx((noise - x).square().mean().item())
    assert torch.equal(told["z"], (1 - t) * x + t * noise) and torch.equal(told["t"], batch[1])


def test_a_dropped_text_is_the_empty_prompt(flow, monkeypatch):
    stage, told = flow(dropout=0.5), []
    monkeypatch.setattr(stage, "ask", lambda net, z, t, g, s, p, r: told.append((s, p)) or torch.zeros_like(z))
    rng, dropped = np.random.default_rng(0), 0
    for _ in range(40):
        batch = stage.batch(rng, 4, 0)
        stage.losses(*batch)
        states, pooled = told[-1]
        for i, gone in enumerate(batch[3]):
            assert torch.equal(states[i], stage.empty_states[0] if gone else batch[4][i])
            assert torch.equal(pooled[i], stage.empty_pooled[0] if gone else batch[5][i])
        dropped += int(batch[3].sum())
    assert 55 < dropped < 105


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0, 0), (0.25, 10, 40), (1.0, 100, 100)])
def test_edits_and_text_to_image_are_mixed(flow, share, low, high):
    stage, rng = flow(text_to_image=share), np.random.default_rng(0)
    pairs = sum(len(stage.batch(rng, 1, 0)) == 6 for _ in range(100))
    assert low <= pairs <= high
    held = {bool(e.references) for group in stage.held for e in group}
    assert held == {True, False} if 0 < share < 1 else held == {share == 0}


def test_times_are_of_the_resolutions_mu(flow):
    example = world.World().held()[0]
    for recipe, median in (({"mu": 2.0}, 0.881), ({"mu": -1.0, "sigma": 0.5}, 0.269), ({}, 0.6127)):
        drawn = flow(**recipe).times(np.random.default_rng(0), 20_001, example)
        assert float(drawn.median()) == pytest.approx(median, abs=0.01)


def test_measuring_is_always_the_same(flow):
    stage = flow(sample=3, sample_steps=2)
    with torch.no_grad():
        torch.manual_seed(1)
        one = stage.validate()
        state = torch.get_rng_state()
        assert one == stage.validate() and {"loss", "loss_edit", "loss_pair", "error", "followed", "score"} == set(one)
        assert torch.equal(state, torch.get_rng_state())


def test_gradient_checkpointing_changes_nothing(flow):
    gradients = []
    for checkpointed in (False, True):
        stage = flow()
        if checkpointed:
            stage.enable_checkpointing()
        batch = stage.batch(np.random.default_rng(0), 2, 0)
        torch.manual_seed(0)
        stage.losses(*batch)["loss"].backward()
        gradients.append({n: p.grad for n, p in stage.net.named_parameters()})
    one, two = gradients
    assert all(torch.allclose(one[n], two[n], atol=1e-7) for n in one)


def test_a_student_begins_as_its_teacher_whatever_it_is_told(guidance):
    stage = guidance()
    noisy, unguided = asked(stage.teacher)
    for scale in (1.0, 4.0):
        assert torch.equal(asked(stage.net, scale=torch.full((2,), scale))[1], unguided)


def test_guidance_is_classifier_free_guidance_of_the_teacher(guidance, monkeypatch):
    """v_u + g·(v_c - v_u), v_u with the same references; it is what the student's loss is against."""
    stage = guidance()
    batch = stage.batch(np.random.default_rng(0), 3, 0)
    target, time, scale, _, states, pooled, *references = batch
    with torch.no_grad():
        one = torch.ones(3)
        with_text = stage.ask(stage.teacher, target, time, one, states, pooled, references)
        empty = (x.expand(3, *x.shape[1:]) for x in (stage.empty_states, stage.empty_pooled))
        without = stage.ask(stage.teacher, target, time, one, *empty, references)
    wanted = without + scale.view(3, 1, 1, 1) * (with_text - without)
    found = stage.guided(stage.teacher, target, time, scale, states, pooled, references)
    assert torch.allclose(found, wanted, atol=1e-6) and not torch.allclose(found, with_text, atol=1e-3)
    monkeypatch.setattr(stage, "ask", lambda net, *rest: torch.zeros_like(target))
    monkeypatch.setattr(stage, "guided", lambda *_: torch.full_like(target, 3.0))
    assert stage.losses(*batch)["loss"].item() == pytest.approx(9)


def test_scales_are_drawn_from_their_range_and_told(guidance):
    stage = guidance(scales=(2.0, 3.0))
    drawn = stage.told(np.random.default_rng(0), 1000)
    assert 2 <= drawn.min() < 2.05 and 2.95 < drawn.max() <= 3
    with torch.no_grad():
        nn.init.normal_(stage.net.time_text_embed.guidance_embedder.linear_2.weight)
        low, high = (asked(stage.net, scale=torch.full((2,), g))[1] for g in (2.0, 3.0))
    assert not torch.allclose(low, high)


def test_only_the_student_learns(guidance):
    stage = guidance()
    assert {n.split(".")[0] for n, p in stage.named_parameters() if p.requires_grad} == {"net"}
    stage.losses(*stage.batch(np.random.default_rng(0), 2, 0))["loss"].backward()
    assert all((p.grad is not None) == p.requires_grad for p in stage.parameters())


def test_sampling_follows_eulers_method_over_eq_12(flow, monkeypatch):
    """A velocity that is ε - x for one x leads from any noise to x, in any number of steps."""
    stage = flow()
    edits = [e for e in stage.examples.held() if len(e.references) == 1][:3]
    where, times = {}, []

    def ask(net, z, time, *rest):
        times.append(float(time[0]))
        return (z - where["x"]) / time.view(-1, 1, 1, 1)

    where["x"] = torch.stack([e.target for e in edits])
    monkeypatch.setattr(stage, "ask", ask)
    made = measuring.edit(stage, stage.net, edits, 5, 1.0)
    assert torch.allclose(torch.stack(made), where["x"], atol=1e-5)
    assert times[0] == 1.0 and len(times) == 5 and times[1] > 0.8 + 0.05  # later than evenly spaced, by μ > 0
    assert measuring.compared(made, edits) == {"error": pytest.approx(0, abs=1e-5), "followed": 1.0}
    sources = [e.references[0] for e in edits]
    unchanged = measuring.compared(sources, edits)
    assert unchanged["followed"] == 0 and unchanged["error"] > 0.1


def test_any_of_the_right_results_is_right(flow):
    several = [e for e in world.World().held() if e.right is not None and len(e.right) == 3]
    assert several
    for example in several[:3]:
        for result in example.right:
            assert measuring.compared([result], [example])["error"] == 0
        assert measuring.compared([example.wrong[0]], [example])["followed"] == 0


def test_bfloat16_trains_too(flow):
    stage = flow()
    given = stage.batch(np.random.default_rng(0), 2, 0)
    losses = []
    for enabled in (True, False):
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            losses.append(stage.losses(*given)["loss"])
    losses[0].backward()
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=0.02)


def test_a_lora_begins_as_nothing_and_alone_learns(network, flow):
    choice = adapters.Choice(2, 4.0)
    before = asked(network())[1]
    net = adapters.attach(network(), choice, 0)
    assert torch.equal(asked(net)[1], before)
    stage = flow(net, lora=choice)
    learning = {n for n, p in stage.named_parameters() if p.requires_grad}
    assert len(learning) == 2 * (8 + 3) and all("lora" in n for n in learning)
    assert set(stage.parts()) == {"flow_lora"} and len(stage.parts()["flow_lora"].state_dict()) == len(learning)
    for p in stage.role_parameters("main"):
        nn.init.normal_(p, std=0.2)
    assert not torch.allclose(asked(net)[1], before)


@torch.no_grad()
def test_a_merged_lora_gives_the_same(network):
    choice, plain = adapters.Choice(3, 6.0, ("attn.to_q", "proj_mlp", "ff.net.2")), network()
    net = adapters.attach(copy.deepcopy(plain), choice, 0)
    for p in adapters.view(net).parameters():
        nn.init.normal_(p, std=0.2)
    state = adapters.merged(plain.state_dict(), adapters.view(net).state_dict(), choice)
    changed = {n for n, v in plain.state_dict().items() if not torch.equal(v, state[n])}
    assert changed == {f"{layer}.weight" for layer in adapters.pairs(adapters.view(net).state_dict())}
    merged = flux.build(flux.config_of(plain), state)
    assert torch.allclose(asked(merged)[1], asked(net)[1], atol=1e-5)


def test_the_interpolation_is_eq_3s():
    x, noise = torch.randn(2, 3, 16, 2, 2)
    z = interpolated(x, noise, torch.tensor([0.0, 1.0, 0.25]))
    assert torch.equal(z[0], x[0]) and torch.equal(z[1], noise[1])
    assert torch.allclose(z[2], 0.75 * x[2] + 0.25 * noise[2])
