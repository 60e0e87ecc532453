"""Compare as a node: what it writes for the canvas and the API, and what passes through."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from editkit import NODE_CLASS_MAPPINGS as NODES
from editkit.models.errors import EditError
from editkit.nodes.host import previews

KEYS = ("a_images", "b_images", "h_images")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(previews, "_folder", lambda: tmp_path / "temp")
    return tmp_path / "temp"


def plain(*values, size=(6, 9), channels=3):
    return torch.stack([torch.full((*size, channels), float(v)) for v in values])


def run(a, b, heat_map="auto", gain=4.0, index=0, **optional):
    made = NODES["EditKitCompare"]().run(image_a=a, image_b=b, heat_map=heat_map, gain=gain, index=index, **optional)
    return made["ui"], made["result"]


def opened(folder, shown):
    with Image.open(folder / shown["filename"]) as picture:
        return np.asarray(picture)


def test_both_pictures_pass_through_and_lie_as_files(folder):
    a, b = plain(0.2), plain(0.6, size=(12, 18))
    ui, (first, second, change) = run(a, b)
    assert first is a and second is b
    assert change.shape == a.shape and torch.allclose(change, torch.ones_like(a))  # 4 * 0.4, as far as a picture goes
    assert [len(ui[key]) for key in KEYS] == [1, 1, 1]
    assert all(ui[key][0]["type"] == "temp" and ui[key][0]["subfolder"] == "" for key in KEYS)
    assert opened(folder, ui["a_images"][0]).shape == (6, 9, 3) and (opened(folder, ui["a_images"][0]) == 51).all()
    assert opened(folder, ui["b_images"][0]).shape == (12, 18, 3)  # at its own size
    assert not [p for p in folder.iterdir() if p.suffix != ".png"]


def test_a_shorter_batch_repeats_its_last_picture_and_is_written_once(folder):
    ui, (_, _, change) = run(plain(0.1), plain(0.1, 0.2, 0.3), gain=1.0, index=9)
    assert [len(ui[key]) for key in KEYS] == [3, 3, 3] and ui["index"] == [2]
    assert len({shown["filename"] for shown in ui["a_images"]}) == 1
    assert len({shown["filename"] for shown in ui["b_images"]}) == 3
    assert change.amax((1, 2, 3)).tolist() == pytest.approx([0, 0.1, 0.2], abs=1e-6)


def test_files_of_two_runs_never_share_a_name():
    names = [run(plain(0.1), plain(0.2))[0]["a_images"][0]["filename"] for _ in range(2)]
    assert names[0] != names[1]


def test_the_difference_is_hot_where_it_is(folder):
    b = plain(0.5)
    b[:, :3, :, 0] = 0.7
    ui, _ = run(plain(0.5), b, heat_map="difference", gain=5.0)
    heat = opened(folder, ui["h_images"][0])
    assert heat.shape == (6, 9, 4) and (heat[:3, :, 3] == 255).all() and (heat[3:, :, 3] == 0).all()


@pytest.mark.parametrize("heat_map", ["auto", "map"])
def test_a_mask_or_a_map_of_any_size_is_laid_over_the_first_picture(folder, heat_map):
    mask = torch.zeros(1, 12, 18)
    mask[:, :6] = 1
    for shown in (mask, mask[..., None].expand(-1, -1, -1, 3)):
        ui, _ = run(plain(0.1), plain(0.9), heat_map=heat_map, map=shown)
        heat = opened(folder, ui["h_images"][0])
        assert heat.shape == (6, 9, 4) and (heat[:2, :, 3] == 255).all() and (heat[-2:, :, 3] == 0).all()


def test_no_heat_map_and_one_that_is_missing():
    assert run(plain(0.1), plain(0.2), heat_map="none")[0]["h_images"] == []
    with pytest.raises(EditError, match="none is wired; wire a mask, or choose difference"):
        run(plain(0.1), plain(0.2), heat_map="map")


def test_the_empty_mask_of_a_photo_without_alpha_is_no_heat(folder):
    ui, _ = run(plain(0.1), plain(0.2), map=torch.zeros(1, 64, 64))
    assert (opened(folder, ui["h_images"][0])[..., 3] == 0).all()


def test_transparency_is_kept_in_the_files(folder):
    a = plain(0.5, channels=4)
    ui, (first, _, change) = run(a, plain(0.5))
    assert opened(folder, ui["a_images"][0]).shape[-1] == 4 and first is a and change.shape[-1] == 3


def test_the_files_carry_the_workflow(folder):
    ui, _ = run(plain(0.1), plain(0.2), prompt={"1": {}}, extra_pnginfo={"workflow": {"nodes": []}})
    with Image.open(folder / ui["b_images"][0]["filename"]) as picture:
        assert json.loads(picture.info["prompt"]) == {"1": {}} and "workflow" in picture.info


def test_inputs_stay_as_they_are():
    a, b, mask = plain(0.2), plain(0.6), torch.ones(1, 6, 9)
    kept = [t.clone() for t in (a, b, mask)]
    run(a, b, map=mask)
    assert all(torch.equal(t, k) for t, k in zip((a, b, mask), kept, strict=True))


def test_a_folder_that_cannot_be_written_is_named_and_left_clean(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(previews, "_folder", lambda: tmp_path / "file")
    with pytest.raises(EditError, match="could not be written .*; make room there"):
        run(plain(0.1), plain(0.2))
    monkeypatch.setattr(previews, "_folder", lambda: tmp_path / "full")
    monkeypatch.setattr(Image.Image, "save", _disk_full)
    with pytest.raises(EditError, match="No space left on device"):
        run(plain(0.1), plain(0.2))
    assert list((tmp_path / "full").iterdir()) == []


def _disk_full(self, file, *_, **__):
    file.write(b"half")
    raise OSError(28, "No space left on device")
