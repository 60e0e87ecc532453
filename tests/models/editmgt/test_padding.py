"""The padding as one token: what is padding, and a run that equals the one with all of it."""

import pytest
import torch

from editkit.models.editmgt import padding, schedule
from editkit.models.editmgt.localise import consolidated
from editkit.models.editmgt.sampling import Options, Text, run
from editkit.models.editmgt.transformer import EditMGT
from editkit.tests.tiny_editmgt_release import CODES, TRANSFORMER, randomised

SIZE, MICRO = (6, 4), (96, 64, 0, 0, 6)


@pytest.fixture(scope="module")
def net():
    made = EditMGT(TRANSFORMER)
    made.load_state_dict(randomised(made, 0))
    return made.eval()


def padded(seed, pads, rows=20, batch=2):
    """A text whose first rows are the same up to rounding."""
    draw = torch.Generator().manual_seed(seed)
    states = torch.randn(batch, rows, TRANSFORMER.joint_attention_dim, generator=draw)
    states[:, :pads] = torch.randn(TRANSFORMER.joint_attention_dim, generator=torch.Generator().manual_seed(99))
    states[:, :pads] *= 1 + 1e-6 * torch.randn(batch, pads, 1, generator=draw)
    return Text(states, torch.randn(batch, TRANSFORMER.pooled_projection_dim, generator=draw))


@torch.no_grad()
def edited(net, options, texts, seen):
    """(tokens, probabilities of each step, the attention that was read)."""
    found, draw = [], schedule.draw
    reference = torch.randint(CODES, (2, *SIZE), generator=torch.Generator().manual_seed(5))

    def drawn(rows, *args, **more):
        found.append(rows.probabilities)
        return draw(rows, *args, **more)

    schedule.draw = drawn
    try:
        made = run(
            net, *texts, SIZE, options, reference=reference, generator=torch.Generator().manual_seed(3), micro=MICRO,
            localise=lambda maps, grid: seen.append(consolidated(maps)) or torch.ones(2, *grid),
        )  # fmt: skip
    finally:
        schedule.draw = draw
    return made.tokens, found


CHOICES = [
    {}, {"gamma": 1.0}, {"bias": "picture"}, {"guidance": 1.0}, {"gamma": 0.0}, {"blocks": (0, 2)},
    {"blocks": (1,), "rows": torch.tensor([16, 18])}, {"blocks": (2,), "rows": torch.tensor([3, 4, 17])},
    {"guidance_until": 0.5}, {"reference_every": 2}, {"tile": 4},
]  # fmt: skip


@pytest.mark.parametrize("more", CHOICES, ids=lambda more: " ".join(more) or "defaults")
def test_a_run_is_the_one_with_all_of_the_padding(net, monkeypatch, more):
    options, texts = Options(**{"steps": 4, "guidance": 3.0} | more), (padded(1, 15), padded(2, 17))
    lengths, plan = [], net.plan
    monkeypatch.setattr(net, "plan", lambda p, *a, **k: lengths.append(p.text.shape[1]) or plan(p, *a, **k))
    read, plainly_read = [], []
    tokens, probabilities = edited(net, options, texts, read)
    assert set(lengths) == {1 + 20 - 15}
    monkeypatch.setattr(padding, "leading", lambda states: 1)
    lengths.clear()
    expected, plainly = edited(net, options, texts, plainly_read)
    assert set(lengths) == {20} and torch.equal(tokens, expected)
    for one, other in zip(probabilities, plainly, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-5)
    assert len(read) == len(plainly_read) == (4 if options.blocks else 0)
    for one, other in zip(read, plainly_read):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_padding_is_what_the_shortest_of_all_texts_has():
    states = torch.cat([padded(1, 9).states, padded(2, 5).states])
    assert padding.leading(states) == 5 and padding.leading(states[:2]) == 9


def test_a_word_that_is_near_to_the_padding_is_none():
    """One channel is enough, and a channel that is far larger than the others does not hide it."""
    states = padded(1, 9, batch=1).states
    states[:, :, 0] = 1000.0
    assert padding.leading(states) == 9
    states[:, 4, 3] += 0.3
    assert padding.leading(states) == 4


def test_texts_without_padding_stay_as_they_are():
    states = padded(1, 0).states
    assert padding.leading(states) == 1 and padding.merged(states, 1) is states
    assert padding.rows(None, 7) is None
    assert padding.rows(torch.tensor([0, 6, 7, 19]), 7).tolist() == [0, 0, 1, 13]
