"""The sticker style: deterministic, about the subject only, flatter and more colourful, outlined."""

import numpy as np
import pytest

from editkit.training.blazeedit.data.teacher import sticker_teacher


@pytest.fixture
def subject(bank, rng):
    rows, columns = np.mgrid[:128, :128] - 63.5
    alpha = np.clip(45 - np.hypot(rows, columns), 0, 1).astype(np.float32)
    return bank.crop(rng, 128, ["china"]), alpha


def test_it_is_deterministic_and_in_range(subject):
    first, second = sticker_teacher(*subject), sticker_teacher(*subject)
    assert first.shape == (128, 128, 3) and first.dtype == np.float32
    assert (first == second).all() and first.min() >= 0 and first.max() <= 1


def test_the_background_has_no_say(subject):
    rgb, alpha = subject
    other = np.where(alpha[..., None] > 0, rgb, 1 - rgb)
    inside = alpha == 1
    np.testing.assert_allclose(
        sticker_teacher(other, alpha)[inside], sticker_teacher(rgb, alpha)[inside], atol=1e-5
    )


def test_colours_get_stronger_and_surfaces_flatter(subject):
    rgb, alpha = subject
    inside = alpha == 1
    drawn = sticker_teacher(rgb, alpha)[inside]

    def saturation(pixels):
        return (pixels.max(1) - pixels.min(1)).mean()

    assert saturation(drawn) > 1.1 * saturation(rgb[inside])
    flat = np.abs(np.diff(sticker_teacher(rgb, alpha).mean(2), axis=1))[64, 24:104] < 0.01
    assert flat.mean() > (np.abs(np.diff(rgb.mean(2), axis=1))[64, 24:104] < 0.01).mean()


def test_the_subject_gets_a_dark_outline():
    rows, columns = np.mgrid[:128, :128] - 63.5
    radius = np.hypot(rows, columns)
    alpha = np.clip(45 - radius, 0, 1).astype(np.float32)
    drawn = sticker_teacher(np.full((128, 128, 3), 0.7, np.float32), alpha).mean(2)
    assert drawn[(radius > 43) & (radius < 44.5)].mean() < 0.8 * drawn[radius < 30].mean()
