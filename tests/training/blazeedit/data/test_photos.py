"""Photographs: pyramids, crops, splits, and the five that are never trained on."""

from itertools import pairwise

import numpy as np
import pytest

from editkit.models.errors import EditError
from editkit.training.blazeedit.data import photos


def test_the_held_out_photographs_are_never_among_the_packaged(packaged):
    held = photos.heldout_photographs()
    assert set(held) == set(photos.HELD_OUT)
    assert not set(held) & set(packaged)
    contents = {image.tobytes() for image in packaged.values()}
    assert not any(image.tobytes() in contents for image in held.values())
    assert {"china", "camera", "coins", "brick"} <= set(packaged)


def test_a_crop_is_a_piece_of_the_photograph(bank, rng):
    crop = bank.crop(rng, 300, ["china"], flip=False)
    assert crop.shape == (300, 300, 3) and crop.dtype == np.float32 and 0 <= crop.min() < crop.max() <= 1
    levels = [level for level in photos.pyramid(bank.image("china")) if min(level.shape[:2]) >= 300]
    pixels = np.round(crop * 255).astype(np.uint8)
    assert any(_holds(level, pixels) for level in levels)


def _holds(level, piece):
    size = piece.shape[0]
    rows, columns = np.nonzero((level[: 1 - size or None, : 1 - size or None] == piece[0, 0]).all(2))
    return any((level[r : r + size, c : c + size] == piece).all() for r, c in zip(rows, columns, strict=True))


def test_the_same_generator_gives_the_same_crops(bank):
    first, second = (bank.crop(np.random.default_rng(3), 64) for _ in range(2))
    assert (first == second).all()


def test_crops_come_in_several_scales(packaged):
    levels = photos.pyramid(packaged["china"])
    assert len(levels) == 4
    assert min(levels[-1].shape[:2]) >= photos.SMALLEST
    assert all(0.69 < b.shape[0] / a.shape[0] < 0.73 for a, b in pairwise(levels))


def test_a_small_photograph_is_scaled_up(rng):
    tiny = photos.PhotoBank([np.full((20, 30, 3), 128, np.uint8)])
    assert tiny.crop(rng, 96).shape == (96, 96, 3)


def test_a_series_of_similar_photographs_does_not_dominate():
    names = [
        "hurricane1",
        "hurricane2",
        "hurricaneb",
        "scenetext01",
        "scenetext_segmented",
        "wood",
        "wool",
        "cliff",
    ]
    weights = photos.series_weights(names)
    assert {n for n in names if weights[n] == photos.SERIES_WEIGHT} == {
        "hurricane1",
        "hurricane2",
        "hurricaneb",
    }


def test_weights_decide_how_often_a_photograph_is_taken(packaged, rng):
    bank = photos.PhotoBank({n: packaged[n] for n in ("china", "camera")}, weights={"camera": 0.1})
    picks = [bank.pick(rng) for _ in range(400)]
    assert 0.03 < picks.count("camera") / 400 < 0.17


def test_validation_photographs_are_set_aside_by_the_start_of_their_name():
    blank = np.zeros((8, 8, 3), np.uint8)
    bank = photos.PhotoBank({name: blank for name in ("cliff", "picture_1a_by_someone", "dune", "wood")})
    training, validation = bank.split()
    assert training.names == ["dune", "wood"] and validation.names == ["cliff", "picture_1a_by_someone"]


def test_any_other_folder_is_split_every_ninth_and_by_seed():
    bank = photos.PhotoBank({f"my{i:02}": np.zeros((8, 8, 3), np.uint8) for i in range(27)})
    training, validation = bank.split()
    assert len(validation) == 3 and not set(training.names) & set(validation.names)
    assert validation.names == bank.split()[1].names != bank.split(seed=1)[1].names


def test_a_joined_bank_keeps_both_and_weighs_the_second(bank):
    joined = bank.subset(["china"]).joined(bank.subset(["ihc"]), weight=0.25)
    assert joined.weights == {"china": 1.0, "ihc": 0.25}


def test_a_transparent_sky_is_filled_and_the_ground_kept(tmp_path):
    from PIL import Image

    rgba = np.zeros((60, 40, 4), np.uint8)
    rgba[30:] = 90, 120, 40, 255
    Image.fromarray(rgba).save(tmp_path / "field.png")
    picture = photos.read_image(tmp_path / "field.png")
    assert (picture[30:] == (90, 120, 40)).all()
    assert picture[:30].mean() > 100
    assert (picture == photos.read_image(tmp_path / "field.png")).all()


def test_a_photograph_is_turned_upright(tmp_path):
    from PIL import Image

    exif = Image.Exif()
    exif[274] = 6  # turn by 90 degrees
    Image.new("RGB", (40, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert photos.read_image(tmp_path / "turned.jpg").shape == (40, 20, 3)


def test_a_missing_or_empty_folder_or_broken_file_is_named(tmp_path):
    with pytest.raises(EditError, match="nowhere"):
        photos.PhotoBank(tmp_path / "nowhere")
    with pytest.raises(EditError, match="no pictures"):
        photos.PhotoBank(tmp_path)
    (tmp_path / "broken.jpg").write_bytes(b"not a picture")
    with pytest.raises(EditError, match="broken.jpg"):
        photos.PhotoBank(tmp_path)
    with pytest.raises(EditError, match="float64"):
        photos.PhotoBank([np.zeros((8, 8, 3))])
