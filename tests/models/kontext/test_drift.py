"""Drift of sessions whose distances are known."""

import math

import numpy as np
import pytest
import torch
from skimage import color, metrics

from editkit.models import measures
from editkit.models.errors import EditError
from editkit.models.kontext import drift, plot


def photo(height=60, width=80, seed=0):
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 7, 9, generator=random)
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)[0]


def session(turns=3, step=0.02):
    """Each turn is brighter by a step, so that errors against the first picture add up."""
    first = 0.1 + 0.7 * photo()
    return [first + step * k for k in range(turns + 1)]


def test_a_session_that_brightens_drifts_by_known_numbers():
    found = drift.measured(session(), None)
    for k, turn in enumerate(found, 1):
        assert turn.first.psnr == pytest.approx(-20 * math.log10(0.02 * k), abs=1e-3)
        assert turn.previous.psnr == pytest.approx(-20 * math.log10(0.02), abs=1e-3)
        a, b = (p.movedim(0, -1).double().numpy() for p in (session()[0], session()[k]))
        reference = color.deltaE_ciede2000(color.rgb2lab(a), color.rgb2lab(b)).mean()
        assert turn.first.delta_e == pytest.approx(reference, rel=1e-3)
        assert math.isnan(turn.first.clip) and math.isnan(turn.first.face)
    assert found[0].first == found[0].previous


def test_an_edit_within_its_mask_does_not_count():
    first, mask = photo(), torch.zeros(1, 60, 80)
    mask[:, 20:40, 30:50] = 1
    edited = first.clone()
    edited[:, 20:40, 30:50] = 1 - first[:, 20:40, 30:50]
    (turn,) = drift.measured([first, edited], mask)
    assert turn.first == drift.Distance(measures.CEILING, pytest.approx(1.0, abs=1e-6), 0.0, turn.first.clip,
                                        turn.first.face) or math.isnan(turn.first.clip)  # fmt: skip
    assert (turn.first.psnr, turn.first.delta_e) == (measures.CEILING, 0.0)
    assert turn.first.ssim == pytest.approx(1.0, abs=1e-6)
    (whole,) = drift.measured([first, edited], None)
    assert whole.first.psnr < 30 and whole.first.ssim < 0.95


def test_outside_the_mask_it_does():
    first, mask = photo(), torch.zeros(1, 60, 80)
    mask[:, :, 40:] = 1
    edited = first.clone()
    edited[:, :, 40:] = 0
    edited[:, :, :40] = (edited[:, :, :40] - 0.5) * 0.9 + 0.5
    (turn,) = drift.measured([first, edited], mask)
    a, b = (p[:, :, :40].movedim(0, -1).numpy() for p in (first, edited))
    assert turn.first.psnr == pytest.approx(metrics.peak_signal_noise_ratio(a, b, data_range=1), abs=1e-3)
    grey = [x.astype(np.float64) @ measures.LUMA.astype(np.float64) for x in (a, b)]
    _, full = metrics.structural_similarity(*grey, data_range=1, gaussian_weights=True, sigma=1.5, full=True,
                                            use_sample_covariance=False)  # fmt: skip
    assert turn.first.ssim == pytest.approx(full[:, :35].mean(), abs=3e-3)


def test_against_the_first_picture_all_edits_until_then_are_left_out():
    first, masks = photo(), torch.zeros(2, 60, 80)
    masks[0, :20], masks[1, 40:] = 1, 1
    one = first.clone()
    one[:, :20] = 0
    two = one.clone()
    two[:, 40:] = 1
    turns = drift.measured([first, one, two], masks)
    assert [t.first.psnr for t in turns] == [t.previous.psnr for t in turns] == [measures.CEILING] * 2
    wrong = drift.measured([first, one, two], masks.flip(0))
    assert wrong[0].first.psnr < 40 and wrong[1].first.psnr == measures.CEILING and wrong[1].previous.psnr < 40


def test_an_edit_of_everything_leaves_nothing_to_measure():
    (turn,) = drift.measured(session(1), torch.ones(1, 6, 8))
    assert all(math.isnan(v) for v in (turn.first.psnr, turn.first.ssim, turn.first.delta_e))
    assert drift.report([turn], True, []).count(" -") >= 10
    assert plot.chart([turn]).shape[0] == 1


def test_pictures_of_other_sizes_are_compared_at_the_smallest():
    large = torch.nn.functional.interpolate(photo()[None], scale_factor=4, mode="bicubic").clamp(0, 1)[0]
    (turn,) = drift.measured([large, photo()], None)
    assert turn.first.psnr > 30
    mask = torch.zeros(1, 240, 320)
    mask[:, 81:158, 83:199] = 1
    edited = large.clone()
    edited[:, 81:158, 83:199] = 1
    (turn,) = drift.measured([edited, drift.aligned([large, photo()])[0]], mask)
    assert turn.first.psnr > 40  # the scaled mask still covers what lies in it
    with pytest.raises(EditError, match="Picture 1 is 70x60 px and the first 80x60"):
        drift.measured([photo(), photo(60, 70)], None)


def test_cosines_are_of_the_right_pair():
    clip = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
    face = [torch.tensor([1.0, 0.0]), None, torch.tensor([-1.0, 0.0])]
    one, two = drift.measured(session(2), None, drift.Embeddings(clip, face))
    assert one.first.clip == pytest.approx(0.5**0.5) and two.first.clip == pytest.approx(0)
    assert two.previous.clip == pytest.approx(0.5**0.5)
    assert math.isnan(one.first.face) and two.first.face == pytest.approx(-1) and math.isnan(two.previous.face)


def test_the_table_has_every_turn_twice_and_the_notes():
    text = drift.report(drift.measured(session(), None), False, ["A note."])
    lines = text.splitlines()
    assert len([line for line in lines if line.startswith(("   1", "   2", "   3"))]) == 6
    assert lines[-1] == "A note." and "of the whole picture" in lines[0]
    assert f"{-20 * math.log10(0.02):.2f}" in text


def test_the_plot_shows_each_turn_where_its_value_is():
    image = plot.chart(drift.measured(session(4), None))
    assert image.shape[0] == 1 and image.shape[1] == 3 and max(image.shape) < 1200
    red = (image[0] * 255).round().permute(1, 2, 0).eq(torch.tensor(plot.COLOURS["first"]).float()).all(-1)
    (height, width), top = plot.PANEL[::-1], 2 * plot.TOP
    panel = red[top - 4 : top + height + 4, plot.LEFT : plot.LEFT + width]
    level = [float(panel[:, int(width * (i + 0.5) / 4)].nonzero().float().mean()) for i in range(4)]
    assert level == sorted(level) and level[0] < level[3] - 40  # PSNR falls from turn to turn


def test_many_turns_fit_into_the_plot():
    one = drift.Distance(30.0, 0.9, 1.0, 0.99, 0.8)
    image = plot.chart([drift.Turn(one, one)] * 40)
    assert image.shape[-1] < 1200 and float(image.min()) < 0.5


@pytest.mark.parametrize(("pictures", "masks", "said"), [
    (1, None, "nothing to compare"), (3, torch.ones(3, 4, 4), "3 masks do not fit 2"),
    (2, torch.full((1, 4, 4), float("nan")), "NaN"),
])  # fmt: skip
def test_bad_input_is_named(pictures, masks, said):
    with pytest.raises(EditError, match=said):
        drift.measured([photo()] * pictures, masks)


def test_masks_of_several_sizes_become_one_batch():
    stacked = drift.stacked([None, torch.ones(1, 4, 4), torch.zeros(2, 8, 6)])
    assert stacked.shape == (3, 8, 6) and float(stacked[0].min()) == 1 and drift.stacked([None]) is None
