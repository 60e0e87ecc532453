"""Localisation maps from attention: which rows and blocks count, and what becomes of them."""

import pytest
import torch

from editkit.models.editmgt import localise, smoothing
from editkit.models.editmgt.config import MGTConfig
from editkit.models.editmgt.transformer import EditMGT
from editkit.models.errors import EditError

TINY = MGTConfig(
    num_layers=2, num_single_layers=3, num_attention_heads=2, attention_head_dim=16, joint_attention_dim=24,
    pooled_projection_dim=8, axes_dims_rope=(4, 6, 6), vocab_size=40, codebook_size=32, downsample=False,
    upsample=False,
)  # fmt: skip
TEXT, GRID = 7, (3, 4)


def queries(batch=2, text=TEXT, image=12, reference=12, seed=0):
    """q and k of one block, [b, 2 heads, text + image + reference, 16]."""
    draws = torch.Generator().manual_seed(seed)
    return (torch.randn(batch, 2, text + image + reference, 16, generator=draws) for _ in range(2))


def whole_attention(q, k, text=TEXT, image=12):
    """softmax(Q·K^T/sqrt(d)) over text and picture, all rows of it."""
    q, k = q[:, :, : text + image], k[:, :, : text + image]
    return (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)


def planted(rows, place):
    """Attention in which the given text tokens look at one picture token and all other text tokens at another."""
    q, k = torch.zeros(2, 2, TEXT + 12, 16), torch.zeros(2, 2, TEXT + 12, 16)
    k[:, :, TEXT + place, 0] = k[:, :, TEXT + 11, 1] = 100
    q[:, :, :TEXT, 1] = 100
    q[:, :, rows] = 0
    q[:, :, rows, 0] = 100
    return q, k


@pytest.mark.parametrize("rows", [[4], [2, 5], [0, 1, 6]])
def test_exactly_the_rows_that_were_passed_are_read(rows):
    q, k = queries()
    seen = localise.capture([3], rows)
    seen(3, q, k, TEXT, 12)
    assert torch.allclose(seen.maps[3], whole_attention(q, k)[1:, :, rows, TEXT:].mean((1, 2)), atol=1e-6)
    changed = q.clone()
    others = [i for i in range(TEXT) if i not in rows]
    changed[:, :, others] += 10
    again = localise.capture([3], rows)
    again(3, changed, k, TEXT, 12)
    assert torch.equal(again.maps[3], seen.maps[3])


@pytest.mark.parametrize("rows", [[4], [2, 5]])
def test_a_planted_keyword_lights_its_place_alone(rows):
    seen = localise.capture([0], rows)
    seen(0, *planted(rows, place=5), TEXT, 12)
    made = localise.localisation(seen.maps[0], GRID, localise.Smoothing("none"))
    assert made.argmax() == 5 and made.flatten()[11] < 1e-3
    assert torch.equal(localise.mask(made), torch.eye(12)[5].view(1, *GRID))


def test_the_conditional_half_alone_counts():
    q, k = queries(batch=4)
    seen, every = localise.capture([0]), localise.capture([0], half=False)
    seen(0, q, k, TEXT, 12)
    every(0, q, k, TEXT, 12)
    assert seen.maps[0].shape == (2, 12) and torch.equal(seen.maps[0], every.maps[0][2:])


def test_the_map_is_eq_3_rescaled():
    maps = {b: torch.rand(2, 12, generator=torch.Generator().manual_seed(b)) for b in (28, 30)}
    mean = (maps[28] + maps[30]) / 2
    assert torch.equal(localise.consolidated(maps), mean)
    made = localise.localisation(mean, GRID, localise.Smoothing("none"))
    assert torch.allclose(made, smoothing.rescale(mean).view(2, *GRID))
    expected = smoothing.smooth(smoothing.rescale(mean).view(2, *GRID), "adaptive", 1.0, True)
    assert torch.equal(localise.localisation(mean, GRID), expected)


@pytest.mark.parametrize("method", localise.METHODS)
def test_every_method_gives_a_map_between_nought_and_one(method):
    made = localise.localisation(torch.rand(2, 12) * 1e-3, GRID, localise.Smoothing(method))
    assert made.shape == (2, *GRID) and made.min() >= 0 and made.max() <= 1 + 1e-6 and made.max() > 0.99


def test_the_model_is_read_in_the_chosen_blocks():
    torch.manual_seed(0)
    network = EditMGT(TINY).eval()
    ids = torch.randint(0, 40, (2, *GRID))
    with torch.inference_mode():
        prompt = network.prompt(torch.randn(2, TEXT, 24), torch.randn(2, 8), ids)
        seen = localise.capture(localise.chosen_blocks("1, 3-9", TINY), [1, 2])
        network(ids, prompt, torch.tensor([3, 3]), capture=seen)
    assert sorted(seen.maps) == [1, 3, 4]
    made = localise.Localiser(GRID).add(seen.maps)
    assert made.shape == (1, *GRID) and made.isfinite().all() and made.max() > 0.99


def test_steps_and_the_two_final_maps():
    gathered = localise.Localiser(GRID, localise.Smoothing("gaussian", strength=0.5))
    draws = [{0: torch.rand(2, 12), 1: torch.rand(2, 12)} for _ in range(3)]
    maps = [gathered.add(one) for one in draws]
    assert torch.equal(gathered.steps(), torch.stack(maps))
    assert torch.equal(gathered.final("last"), maps[-1])
    mean = sum(one[0] + one[1] for one in draws) / 6
    assert torch.allclose(gathered.final(), localise.localisation(mean, GRID, gathered.smooth), atol=1e-5)


@pytest.mark.parametrize(
    ("text", "blocks"),
    [("28-36", range(28, 37)), ("single", range(14, 42)), ("double", range(14)), ("all", range(42)),
     ("3, 1,1-2", (1, 2, 3)), ("40-99", (40, 41)), (" Double,20 ", (*range(14), 20))],
)  # fmt: skip
def test_words_for_blocks(text, blocks):
    assert localise.chosen_blocks(text, MGTConfig()) == tuple(blocks)


@pytest.mark.parametrize("text", ["", "28-36", "9-3", "x", "3-", "-2", "1-2-3"])
def test_blocks_that_are_none_are_refused(text):
    with pytest.raises(EditError, match="blocks"):
        localise.chosen_blocks(text, TINY)


def test_blocks_beyond_the_model_are_named():
    with pytest.raises(EditError, match="blocks 0 to 4, and '28-36' names none"):
        localise.chosen_blocks(localise.BLOCKS, TINY)


@pytest.mark.parametrize("rows", [[], [-1], [7]])
def test_rows_outside_the_text_are_refused(rows):
    with pytest.raises(EditError, match="token"):
        localise.capture([0], rows, text=TEXT)


def test_a_mask_holds_what_lies_below_the_threshold():
    made = torch.tensor([[[0.0, 0.3, 0.5, 1.0]]])
    assert localise.mask(made, 0.5).tolist() == [[[0, 0, 1, 1]]]
    assert localise.mask(made, 0).all()
    large = localise.mask(made, 0.5, (2, 40))
    assert large.shape == (1, 2, 40) and set(large.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(large[0, 0], large[0, 0].sort().values) and large[0, 0].sum() in range(15, 21)
    with pytest.raises(EditError, match="1.5"):
        localise.mask(made, 1.5)


def test_colours_get_steadily_brighter():
    from editkit.models.image import luminance

    ramp = localise.colours(torch.linspace(0, 1, 200)[None, None])
    rising = luminance(ramp).flatten().diff()
    assert (rising > 0).all() and rising.max() < 2 * rising.min()
    assert ramp.min() >= 0 and ramp.max() <= 1


def test_a_heat_map_lies_over_its_picture():
    made, picture = torch.rand(2, 3, 4), torch.rand(1, 3, 30, 44)
    assert torch.equal(localise.heat_map(made, picture, 0.0), picture.expand(2, -1, -1, -1))
    assert torch.allclose(localise.heat_map(made, picture, 1.0), localise.heat_map(made, size=(30, 44)))
    assert localise.heat_map(made).shape == (2, 3, 3, 4)


@pytest.mark.parametrize(
    "call",
    [
        lambda: localise.Smoothing("sharp")(torch.rand(1, 3, 4)),
        lambda: localise.consolidated({}),
        lambda: localise.localisation(torch.rand(1, 12), (4, 4)),
        lambda: localise.Localiser(GRID).final(),
        lambda: localise.Localiser(GRID).final("median"),
    ],
)
def test_what_makes_no_sense_is_said(call):
    with pytest.raises(EditError):
        call()
