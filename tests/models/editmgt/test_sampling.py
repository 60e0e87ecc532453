"""A run of EditMGT: each of its savings equals the plain path, and what is held is held."""

import pytest
import torch

from editkit.models.editmgt import sampling, schedule
from editkit.models.editmgt.attention import Attend
from editkit.models.editmgt.layers import Capture
from editkit.models.editmgt.sampling import Options, Text, run
from editkit.models.editmgt.transformer import at
from editkit.models.errors import EditError
from editkit.tests.tiny_editmgt_release import CODES, MASK, TRANSFORMER

SIZE, MICRO = (6, 4), (96, 64, 0, 0, 6)


def text(seed, batch=2, rows=5):
    draw = torch.Generator().manual_seed(seed)
    pooled = torch.randn(batch, TRANSFORMER.pooled_projection_dim, generator=draw)
    return Text(torch.randn(batch, rows, TRANSFORMER.joint_attention_dim, generator=draw), pooled)


def picture(batch=2, seed=5):
    return torch.randint(CODES, (batch, *SIZE), generator=torch.Generator().manual_seed(seed))


def region():
    """A mask [2, 6, 4], another for each picture."""
    mask = torch.zeros(2, *SIZE, dtype=torch.bool)
    mask[0, 1:4, 1:3], mask[1, 3:, :2] = True, True
    return mask


@torch.no_grad()
def edited(net, options, seed=3, **more):
    more = {"reference": picture()} | more
    return run(net, text(1), text(2), SIZE, options, generator=torch.Generator().manual_seed(seed), micro=MICRO, **more)


@torch.no_grad()
def plain(net, options, reference, seed=3, mask=None):
    """The run as it is written down: both halves through dense attention and the vocabulary head, a step at a time.

    (tokens, the probabilities of the unknown positions of each step)
    """
    generator, found = torch.Generator().manual_seed(seed), []
    one, other = text(1), text(2)
    tokens = torch.full((2, *SIZE), MASK) if mask is None else torch.where(mask, MASK, reference)
    share = 1.0 if mask is None else mask.flatten(1).float().mean(1, keepdim=True)
    heat = schedule.temperatures(options.steps, options.temperature)
    for index in range(options.steps):
        logits = []
        for said in (other, one):
            prompt = net.prompt(said.states, said.pooled, reference, MICRO)
            told = torch.full((2,), options.steps - 1.0 - index)
            logits.append(net(tokens, prompt, told, attention=Attend(options.gamma, dense=True), short=False))
        guided = (logits[0] + options.guidance * (logits[1] - logits[0])).flatten(2).permute(0, 2, 1)
        where = (tokens == MASK).flatten().nonzero()[:, 0]
        rows = schedule.Rows(where, guided.flatten(0, 1)[where].softmax(-1), (2, SIZE[0] * SIZE[1]))
        found.append(rows.probabilities)
        last = index == options.steps - 1
        drawn = schedule.draw(rows, generator, last=last)
        ratio = None if last else share * schedule.mask_ratio(index, options.steps)
        made = schedule.step(
            tokens.flatten(1), drawn, rows.of, mask_token=MASK, ratio=ratio, temperature=float(heat[index])
        )
        tokens = made.tokens.view(2, *SIZE)
    return tokens, found


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("gamma", [1.0, 1.1, 0.6])
def test_a_run_equals_the_plain_path(net, monkeypatch, gamma, masked):
    found, draw = [], schedule.draw
    monkeypatch.setattr(schedule, "draw", lambda rows, *a, **k: found.append(rows.probabilities) or draw(rows, *a, **k))
    options, mask = Options(steps=5, gamma=gamma, guidance=3.0), region() if masked else None
    tokens = edited(net, options, mask=mask).tokens
    monkeypatch.setattr(schedule, "draw", draw)
    expected, probabilities = plain(net, options, picture(), mask=mask)
    assert torch.equal(tokens, expected)
    for mine, theirs in zip(found, probabilities, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=2e-5)


def test_all_tokens_are_settled_and_the_seed_counts(net):
    first, again, other = (edited(net, Options(steps=4), seed).tokens for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert int(first.min()) >= 0 and int(first.max()) < CODES


def test_each_picture_of_a_batch_is_edited_by_itself(net):
    """Row by row, with the same draws, a batch gives what its pictures give alone."""
    options = Options(steps=1, temperature=(0.0, 0.0))
    draws = torch.Generator().manual_seed(0)
    together = run(net, text(1), text(2), SIZE, options, reference=picture(), generator=draws, micro=MICRO).tokens
    draws = torch.Generator().manual_seed(0)
    alone = []
    for row in range(2):
        one, other = (Text(t.states[row : row + 1], t.pooled[row : row + 1]) for t in (text(1), text(2)))
        of_row = picture()[row : row + 1]
        alone.append(run(net, one, other, SIZE, options, reference=of_row, generator=draws, micro=MICRO).tokens)
    assert torch.equal(together, torch.cat(alone))


def test_a_mask_holds_the_rest_from_first_to_last(net):
    seen, mask, reference = [], region(), picture()
    kept = reference.clone()
    result = edited(net, Options(steps=4), mask=mask, reference=reference, report=seen.append)
    assert len(seen) == 4 and all(torch.equal(told.tokens[~mask], reference[~mask]) for told in seen)
    assert (seen[0].tokens[mask] == MASK).any()
    assert torch.equal(result.held, ~mask)
    assert (result.tokens[mask] != reference[mask]).any() and torch.equal(reference, kept)


def test_the_aliased_mask_of_the_released_code_puts_mask_tokens_into_the_reference(net, monkeypatch):
    shown, prompt = [], net.prompt
    monkeypatch.setattr(net, "prompt", lambda t, p, r, m: shown.append(r) or prompt(t, p, r, m))
    for alias in (False, True):
        edited(net, Options(steps=1, guidance=1.0, alias_mask=alias), mask=region())
    assert torch.equal(shown[0], picture())
    assert torch.equal(shown[1], torch.where(region(), MASK, picture()))


def localiser(values):
    """Localisation maps that are `values` [b, h', w'], whatever the attention."""
    return lambda maps, grid: values.expand(-1, *grid)


@pytest.mark.parametrize("hold", schedule.HOLDS)
def test_a_threshold_above_all_scores_holds_everything(net, hold):
    options = Options(steps=4, threshold=0.9, hold=hold, blocks=(1,))
    result = edited(net, options, localise=localiser(torch.full((2, 1, 1), 0.5)))
    assert torch.equal(result.tokens, picture()) and bool(result.held.all())


def test_no_token_below_the_threshold_changes_and_the_mask_out_says_which(net):
    scores = torch.rand(2, *net.grid(picture()), generator=torch.Generator().manual_seed(1))
    options = Options(steps=4, threshold=0.5, blocks=(1,))
    result = edited(net, options, localise=lambda maps, grid: scores)
    below = schedule.hold_where(scores, 0.5, SIZE).view(2, *SIZE)
    assert torch.equal(result.tokens[below], picture()[below])
    assert torch.equal(result.held, below) and bool(below.any()) and bool((~below).any())


def test_mask_and_threshold_hold_together(net):
    scores = torch.zeros(2, *net.grid(picture()))
    scores[..., 1:, :] = 1
    options = Options(steps=4, threshold=0.5, blocks=(1,))
    result = edited(net, options, mask=region(), localise=lambda maps, grid: scores)
    below = schedule.hold_where(scores, 0.5, SIZE).view(2, *SIZE)
    assert torch.equal(result.held, below | ~region())


def test_strict_keeps_what_was_ever_held_and_official_lets_it_go(net):
    """The scores hold everything at the first step, and nothing later."""
    def only_first(maps, grid):
        only_first.steps += 1
        return torch.full((2, *grid), 0.0 if only_first.steps == 1 else 1.0)

    results = {}
    for hold in schedule.HOLDS:
        only_first.steps = 0
        results[hold] = edited(net, Options(steps=4, threshold=0.5, hold=hold, blocks=(1,)), localise=only_first).tokens
    assert torch.equal(results["strict"], picture())
    assert not torch.equal(results["official"], picture())


def test_the_localisation_reads_the_conditional_half_of_the_plain_attention(net):
    read = []
    rows = torch.tensor([1, 3])
    options = Options(steps=2, gamma=1.1, blocks=(0, 2), rows=rows)
    edited(net, options, localise=lambda maps, grid: read.append(dict(maps)) or torch.zeros(2, *grid))
    with torch.no_grad():
        capture = Capture((0, 2), rows)
        prompt = net.prompt(text(1).states, text(1).pooled, picture(), MICRO)
        net(torch.full((2, *SIZE), MASK), prompt, torch.ones(2), attention=Attend(1.1, dense=True), capture=capture)
    for block in (0, 2):
        torch.testing.assert_close(read[0][block], capture.maps[block], rtol=0, atol=1e-6)


def test_the_keys_of_the_reference_may_be_kept_and_the_first_step_is_exact(net):
    seen = {}
    for every in (1, 3):
        seen[every] = []
        edited(net, Options(steps=4, reference_every=every), report=seen[every].append)
    assert torch.equal(seen[1][0].clean, seen[3][0].clean)
    assert len(seen[3]) == 4


def test_guidance_may_end_early_and_none_is_half_the_work(net):
    sizes, features = [], net.features
    counted = lambda ids, *a, **k: sizes.append(len(ids)) or features(ids, *a, **k)  # noqa: E731
    net.features = counted
    try:
        edited(net, Options(steps=4, guidance_until=0.5))
        edited(net, Options(steps=2, guidance=1.0))
    finally:
        del net.features
    assert sizes == [4, 4, 2, 2, 2, 2]


def test_text_to_image_has_no_reference(net):
    result = edited(net, Options(steps=3), reference=None)
    assert result.tokens.shape == (2, *SIZE) and int(result.tokens.max()) < CODES and not bool(result.held.any())


@pytest.mark.parametrize(
    ("options", "more", "said"),
    [
        ({}, {"reference": torch.zeros(2, 4, 4, dtype=torch.long)}, "has \\(2, 4, 4\\) tokens"),
        ({}, {"mask": torch.ones(1, *SIZE, dtype=torch.bool)}, "mask has \\(1, 6, 4\\)"),
        ({}, {"mask": torch.zeros(2, *SIZE, dtype=torch.bool)}, "mask is empty"),
        ({}, {"mask": torch.ones(2, *SIZE, dtype=torch.bool), "reference": None}, "needs the reference"),
        ({"threshold": 0.1}, {"reference": None}, "Region hold needs"),
    ],
)
def test_what_does_not_fit_is_said(net, options, more, said):
    with pytest.raises(EditError, match=said):
        edited(net, Options(steps=2, **options), **more)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"bias": "x"}, {"time": "x"}, {"schedule": "x"}, {"hold": "x"}])
def test_options_out_of_range_are_said(wrong):
    with pytest.raises(EditError):
        Options(**wrong)


def test_a_plan_tells_each_step_its_own_time(net):
    """AdaLN's vectors, worked out for all steps at once, are those of each step alone."""
    with torch.no_grad():
        prompt = net.prompt(text(1).states, text(1).pooled, picture(), MICRO)
        times = torch.tensor([[2.0, 2.0], [1.0, 1.0], [0.0, 0.0]])
        together = net.plan(prompt, times, net.grid(picture()), Attend())
        for index, time in enumerate(times):
            plan = net.plan(prompt, time[None], net.grid(picture()), Attend())
            alone, at_once = (net.features(picture(seed=9), prompt, p) for p in (plan, at(together, index)))
            torch.testing.assert_close(at_once, alone, rtol=0, atol=2e-6)


def test_reports_carry_tokens_without_masks(net):
    seen: list[sampling.Report] = []
    edited(net, Options(steps=3), report=seen.append)
    assert [told.index for told in seen] == [0, 1, 2]
    assert all(int(told.clean.max()) < CODES for told in seen)
