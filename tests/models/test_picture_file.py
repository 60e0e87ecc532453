"""Finished pictures as bytes, their workflow inside, and that workflow read back."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from editkit.headless import pictures
from editkit.models import picture_file
from editkit.models.errors import EditError
from editkit.models.picture_file import JPEG, PNG

SMALL = {"prompt": {"1": {"class_type": "X", "inputs": {"text": "café"}}}, "workflow": {"nodes": [1, 2]}}
LARGE = {"nodes": ["x" * 70000]}


@pytest.fixture
def photo():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(20, 30, 3, generator=generator)


def encoded(tmp_path, image, kind, metadata, **options):
    data, left_out = picture_file.encode(picture_file.to_pillow(image), kind, metadata, **options)
    path = tmp_path / f"x{picture_file.SUFFIXES[kind]}"
    path.write_bytes(data)
    return path, left_out


def test_a_png_is_byte_for_byte_what_saveimage_writes(tmp_path, photo):
    path, left_out = encoded(tmp_path, photo, PNG, SMALL, icc=b"a profile")
    other = pictures.save(tmp_path / "other.png", photo, SMALL, b"a profile")
    assert path.read_bytes() == other.read_bytes() and left_out == []


@pytest.mark.parametrize("kind", [PNG, JPEG])
def test_the_workflow_comes_back(tmp_path, photo, kind):
    path, left_out = encoded(tmp_path, photo, kind, SMALL)
    assert picture_file.workflow(path) == SMALL and left_out == []
    assert picture_file.workflow(encoded(tmp_path, photo, kind, {})[0]) == {}


def test_the_workflow_of_comfyuis_webp_comes_back(tmp_path, photo):
    exif = Image.Exif()
    exif[0x0110], exif[0x010F] = 'prompt:{"1": {}}', 'Workflow:{"nodes": []}'
    picture_file.to_pillow(photo).save(tmp_path / "x.webp", exif=exif)
    assert picture_file.workflow(tmp_path / "x.webp") == {"prompt": {"1": {}}, "workflow": {"nodes": []}}


@pytest.mark.parametrize(
    ("metadata", "kept"),
    [
        ({**SMALL, "workflow": LARGE}, ["prompt"]),
        ({"prompt": LARGE, "workflow": SMALL["workflow"]}, []),
        ({"prompt": SMALL["prompt"], "workflow": {"nodes": ["x" * 65000]}}, ["prompt", "workflow"]),
    ],
)
def test_what_a_jpeg_has_no_room_for_is_left_out_and_named(tmp_path, photo, metadata, kept):
    path, left_out = encoded(tmp_path, photo, JPEG, metadata)
    assert list(picture_file.workflow(path)) == kept
    assert sorted(left_out) == sorted(metadata.keys() - kept)
    with Image.open(path) as picture:
        assert picture.size == (30, 20)


def test_quality_and_profile_reach_the_jpeg(tmp_path, photo):
    sizes = [len(picture_file.encode(picture_file.to_pillow(photo), JPEG, {}, q, b"icc")[0]) for q in (30, 95)]
    assert sizes[0] < sizes[1]
    with Image.open(encoded(tmp_path, photo, JPEG, {}, icc=b"icc")[0]) as picture:
        assert picture.info["icc_profile"] == b"icc"


def test_a_jpeg_takes_no_transparency_but_an_alpha_that_hides_nothing(photo):
    full, half = (torch.cat([photo, torch.full((20, 30, 1), a)], -1) for a in (1.0, 0.5))
    with pytest.raises(EditError, match="cannot hold transparency"):
        picture_file.encode(picture_file.to_pillow(half), JPEG, {})
    with Image.open(io.BytesIO(picture_file.encode(picture_file.to_pillow(full), JPEG, {})[0])) as picture:
        assert picture.mode == "RGB"
    with Image.open(io.BytesIO(picture_file.encode(picture_file.to_pillow(half), PNG, {})[0])) as picture:
        assert np.asarray(picture)[0, 0, 3] == 127


def test_what_holds_no_workflow_is_said_in_one_sentence(tmp_path, photo):
    (tmp_path / "text.png").write_text("hello")
    texts = PngInfo()
    texts.add_text("prompt", '{"1": ')
    picture_file.to_pillow(photo).save(tmp_path / "half.png", pnginfo=texts)
    (tmp_path / "cut.png").write_bytes(encoded(tmp_path, photo, PNG, SMALL)[0].read_bytes()[:40])
    said_of = {"gone.png": "There is no picture", "text.png": "not a picture", "half.png": "prompt inside .* damaged",
               "cut.png": "cut.png is"}  # fmt: skip
    for name, said in said_of.items():
        with pytest.raises(EditError, match=said):
            picture_file.workflow(tmp_path / name)


@pytest.mark.parametrize("name", ["x.webp", "x", "x.png.txt"])
def test_a_name_of_another_format_is_refused(name):
    with pytest.raises(EditError, match="neither a PNG nor a JPEG"):
        picture_file.kind_of(name)
