import numpy as np
import pytest
import torch
from PIL import Image

from editkit.models.errors import EditError
from editkit.training.swiftedit import data


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("a.png", "b.jpg", "sub/c.png"):
        Image.new("RGB", (30, 20), (255, 0, 0)).save(tmp_path / name)
    return tmp_path


def captions_of(folder):
    return [photo.caption for photo in data.read_photos(str(folder))]


def test_a_caption_lies_beside_its_picture_or_is_the_empty_prompt(folder):
    (folder / "a.txt").write_text("a red wall\n")
    assert captions_of(folder) == ["a red wall", "", ""]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("captions.csv", 'file,caption\na.png,"red, plain"\nsub/c.png,below\n'),
        ("metadata.csv", 'file_name,text\na.png,"red, plain"\nsub/c.png,below\n'),
        (
            "captions.jsonl",
            '{"file": "a.png", "caption": "red, plain"}\n\n{"file": "c.png", "caption": "below"}\n',
        ),
    ],
)
def test_captions_come_from_a_table(folder, name, text):
    (folder / name).write_text(text)
    assert captions_of(folder) == ["red, plain", "", "below"]


@pytest.mark.parametrize(
    ("name", "text"),
    [("captions.csv", "picture,words\na.png,red\n"), ("captions.jsonl", "[1]\n"), ("captions.jsonl", "{")],
)
def test_a_table_without_its_columns_is_refused(folder, name, text):
    (folder / name).write_text(text)
    with pytest.raises(EditError, match="columns file and caption"):
        data.read_photos(str(folder))


def test_no_pictures_and_no_captions_are_said(tmp_path):
    with pytest.raises(EditError, match="no pictures"):
        data.read_photos(str(tmp_path / "nowhere"))
    with pytest.raises(EditError, match="no text file"):
        data.read_captions(str(tmp_path / "nowhere.txt"))
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(EditError, match="no captions"):
        data.read_captions(str(tmp_path / "empty.txt"))


def test_a_picture_is_cropped_to_a_square_in_the_middle_or_anywhere(tmp_path):
    ramp = np.tile(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], (32, 1, 3))
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    middle = data.read_pixels(tmp_path / "ramp.png", 32)
    assert middle.shape == (3, 32, 32) and float(middle.mean()) == pytest.approx(0.5, abs=0.01)
    drawn = [data.read_pixels(tmp_path / "ramp.png", 32, np.random.default_rng(i)) for i in range(8)]
    means = torch.stack(drawn).mean((1, 2, 3))
    assert float(means.min()) < 0.4 and float(means.max()) > 0.6
    assert data.read_pixels(tmp_path / "ramp.png", 48).shape == (3, 48, 48)


def test_a_picture_that_is_none_is_named(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG no more")
    with pytest.raises(EditError, match="broken.png"):
        data.read_pixels(tmp_path / "broken.png", 16)
