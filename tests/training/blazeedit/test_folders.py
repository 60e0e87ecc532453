import numpy as np
import pytest
from PIL import Image

from editkit.models.errors import EditError
from editkit.training.blazeedit.folders import FolderTriplets


def write(folder, names, size=(60, 40), value=None):
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        shade = i * 20 if value is None else value
        Image.fromarray(np.full((size[1], size[0], 3), shade, np.uint8)).save(folder / name)


def test_windows_of_x_and_y_belong_together(tmp_path):
    names = [f"{i}.png" for i in range(10)]
    write(tmp_path / "sepia/x", names)
    write(tmp_path / "sepia/y", names)
    train, held = FolderTriplets(tmp_path).split()
    assert len(held.tasks["sepia"]) == 2 and len(train.tasks["sepia"]) == 8
    x, mask, y = train.batch("sepia", 6, np.random.default_rng(0), 32)
    assert x.shape == (6, 3, 32, 32) and mask.shape == (6, 32, 32)
    assert bool((x == y).all()) and float(mask.min()) == 1


def test_masks_are_read_where_there_are_some(tmp_path):
    for kind, value in (("x", 10), ("y", 20), ("m", 255)):
        write(tmp_path / "remove" / kind, ["a.png", "b.png"], value=value)
    _, mask, _ = FolderTriplets(tmp_path).batch("remove", 2, np.random.default_rng(0), 32)
    assert set(mask.unique().tolist()) == {1.0}


def test_a_missing_partner_is_named(tmp_path):
    write(tmp_path / "sepia/x", ["a.png", "b.png"])
    write(tmp_path / "sepia/y", ["a.png"])
    with pytest.raises(EditError, match="b.png has no partner in"):
        FolderTriplets(tmp_path)


def test_partners_of_two_sizes_are_named(tmp_path):
    write(tmp_path / "sepia/x", ["a.png", "b.png"])
    write(tmp_path / "sepia/y", ["a.png", "b.png"], size=(50, 40))
    with pytest.raises(EditError, match="60x40"):
        FolderTriplets(tmp_path).batch("sepia", 1, np.random.default_rng(0), 32)


def test_missing_and_empty_folders_are_named(tmp_path):
    with pytest.raises(EditError, match="no folder"):
        FolderTriplets(tmp_path / "nowhere")
    with pytest.raises(EditError, match="No task folder"):
        FolderTriplets(tmp_path)
