"""Photos of every kind become the tensors that core's LoadImage would give, or one sentence."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from editkit.headless import files, pictures
from editkit.headless.errors import EditError


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


def saved(path, picture, **options):
    picture.save(path, **options)
    return path


def as_core(picture):
    """What core computes: the RGB bytes over 255."""
    return torch.from_numpy(np.array(picture.convert("RGB")).astype(np.float32) / 255.0)[None]


def test_a_plain_photo(tmp_path, pixels):
    image, mask = pictures.read(saved(tmp_path / "a.png", Image.fromarray(pixels)))
    assert image.dtype == torch.float32 and image.shape == (1, 5, 7, 3)
    assert torch.equal(image, as_core(Image.fromarray(pixels)))
    assert torch.equal(mask, torch.zeros(1, 64, 64)), "ComfyUI's mask of a picture without alpha"


@pytest.mark.parametrize("mode", ["L", "1", "CMYK", "P", "YCbCr"])
def test_other_modes_go_through_rgb(tmp_path, pixels, mode):
    picture = Image.fromarray(pixels).convert(mode)
    path = saved(tmp_path / ("a.tif" if mode in ("CMYK", "YCbCr") else "a.png"), picture)
    image, mask = pictures.read(path)
    with Image.open(path) as again:
        assert torch.equal(image, as_core(again))
    assert mask.shape == (1, 64, 64)


def test_alpha_becomes_the_mask(tmp_path, pixels):
    alpha = np.arange(35, dtype=np.uint8).reshape(5, 7) * 7
    picture = Image.fromarray(np.dstack([pixels, alpha]))
    image, mask = pictures.read(saved(tmp_path / "a.png", picture))
    assert torch.equal(image, as_core(Image.fromarray(pixels)))
    assert torch.equal(mask[0], 1.0 - torch.from_numpy(alpha.astype(np.float32) / 255.0))


def test_grey_with_alpha(tmp_path):
    image, mask = pictures.read(saved(tmp_path / "a.png", Image.new("LA", (3, 2), (51, 102))))
    assert torch.allclose(image, torch.full((1, 2, 3, 3), 0.2))
    assert torch.allclose(mask, torch.full((1, 2, 3), 0.6))


def test_a_palette_with_a_transparent_colour(tmp_path):
    picture = Image.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 0, 255, 0])
    picture.putpixel((1, 0), 1)
    image, mask = pictures.read(saved(tmp_path / "a.png", picture, transparency=1))
    assert image[0, 0].tolist() == [[1, 0, 0], [0, 1, 0]] and mask[0, 0].tolist() == [0, 1]


def test_sixteen_bits_keep_their_depth(tmp_path):
    values = np.array([[0, 1, 257, 32768, 65535]], np.uint16)
    image, mask = pictures.read(saved(tmp_path / "a.png", Image.fromarray(values)))
    assert torch.allclose(image[0, 0, :, 0], torch.tensor(values[0].astype(np.float32)) / 65535)
    assert torch.equal(image[..., 0], image[..., 2]) and mask.shape == (1, 64, 64)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_cameras_rotation_is_applied(tmp_path, pixels, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "a.png", Image.fromarray(pixels), exif=exif)
    image, _ = pictures.read(path)
    assert image.shape[1:3] == ((7, 5) if orientation >= 5 else (5, 7))
    assert pictures.size(path) == (image.shape[2], image.shape[1])
    if orientation == 6:  # shot with the camera turned: the file's left column is the picture's top row
        turned = np.rot90(pixels, -1)
        assert torch.equal(image[0], torch.from_numpy(turned.astype(np.float32) / 255.0))


def test_frames_become_a_batch(tmp_path):
    frames = [Image.new("RGB", (4, 3), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    image, mask = pictures.read(saved(tmp_path / "a.png", frames[0], save_all=True, append_images=frames[1:]))
    assert image.shape == (3, 3, 4, 3) and mask.shape[0] == 3
    assert image[:, 0, 0].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_pages_of_another_size_are_left_out(tmp_path):
    pages = [Image.new("RGB", size) for size in ((4, 3), (8, 3), (4, 3))]
    image, _ = pictures.read(saved(tmp_path / "a.tif", pages[0], save_all=True, append_images=pages[1:]))
    assert image.shape == (2, 3, 4, 3)


def test_of_a_phones_multi_picture_only_the_first_counts(tmp_path):
    pages = [Image.new("RGB", (4, 3)), Image.new("RGB", (4, 3))]
    path = saved(tmp_path / "a.mpo", pages[0], format="MPO", save_all=True, append_images=pages[1:])
    assert pictures.read(path)[0].shape == (1, 3, 4, 3)


def test_one_pixel(tmp_path):
    image, _ = pictures.read(saved(tmp_path / "a.png", Image.new("RGB", (1, 1), (255, 0, 51))))
    assert image.flatten().tolist() == pytest.approx([1, 0, 0.2])


def test_a_hundred_megapixels_bring_no_warning(tmp_path, recwarn, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)  # a smaller world: 30 pixels are "too many" here
    pictures.read(saved(tmp_path / "a.png", Image.new("RGB", (6, 5))))
    assert not recwarn.list


def test_too_many_pixels_are_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(EditError, match="too many pixels"):
        pictures.read(saved(tmp_path / "a.png", Image.new("RGB", (6, 5))))


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_truncated_file_is_one_sentence(tmp_path, suffix, share):
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    whole = saved(tmp_path / f"whole.{suffix}", Image.fromarray(noise)).read_bytes()
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(EditError) as caught:
        pictures.read(cut)
    assert str(cut) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "not a picture"), (b"hello", "not a picture"), (None, "no such file")]
)
def test_what_is_no_picture_is_one_sentence(tmp_path, content, said):
    path = tmp_path / "a.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EditError, match=said):
        pictures.read(path)


def test_a_folder_is_no_picture(tmp_path):
    with pytest.raises(EditError, match="Cannot read"):
        pictures.read(tmp_path)


def test_channels_as_masks(tmp_path, pixels):
    alpha = np.full((5, 7), 51, np.uint8)
    path = saved(tmp_path / "a.png", Image.fromarray(np.dstack([pixels, alpha])))
    for index, channel in enumerate(("red", "green", "blue")):
        expected = torch.from_numpy(pixels[..., index].astype(np.float32) / 255.0)[None]
        assert torch.equal(pictures.read_channel(path, channel), expected)
    assert torch.allclose(pictures.read_channel(path, "alpha"), torch.full((1, 5, 7), 0.8))


def test_the_alpha_of_a_picture_without_alpha_is_zero_at_its_own_size(tmp_path):
    path = saved(tmp_path / "a.png", Image.new("L", (7, 5), 255))
    assert torch.equal(pictures.read_channel(path, "alpha"), torch.zeros(1, 5, 7))
    assert torch.equal(pictures.read_channel(path, "red"), torch.ones(1, 5, 7))


def test_every_byte_survives_reading_and_saving(tmp_path):
    every = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    image, _ = pictures.read(saved(tmp_path / "a.png", Image.fromarray(every)))
    pictures.save(tmp_path / "b.png", image[0])
    assert np.array_equal(np.array(Image.open(tmp_path / "b.png")), every)


def test_values_are_cut_as_core_cuts_them():
    image = torch.tensor([[[-1.0, 0.999, 2.0]]])
    assert np.array(pictures.to_pillow(image)).tolist() == [[[0, 254, 255]]]


def test_metadata_and_colour_profile_are_kept(tmp_path):
    path = pictures.save(
        tmp_path / "a.png", torch.zeros(2, 2, 3), {"prompt": {"ü": 1}, "workflow": {}}, b"icc"
    )
    with Image.open(path) as picture:
        assert json.loads(picture.info["prompt"]) == {"ü": 1} and picture.info["workflow"] == "{}"
    assert pictures.profile(path) == b"icc"


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_transparency_survives_where_it_can(tmp_path, suffix):
    image = torch.rand(4, 4, 4)
    image[..., 3] = 1
    image[0, 0, 3] = 0.5
    path = pictures.save(tmp_path / f"a.{suffix}", image)
    assert np.array(Image.open(path))[0, 0, 3] == 127


def test_transparency_in_jpeg_is_refused(tmp_path):
    with pytest.raises(EditError, match=r"a\.jpg cannot hold transparency"):
        pictures.save(tmp_path / "a.jpg", torch.zeros(2, 2, 4))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a", "a.xyz", "a.txt"])
def test_an_unknown_suffix_is_refused(tmp_path, name):
    with pytest.raises(EditError, match="no suffix that a picture"):
        pictures.save(tmp_path / name, torch.zeros(2, 2, 3))


def test_a_write_that_is_stopped_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    for stop in (KeyboardInterrupt, RuntimeError):

        def half(file, stop=stop):
            file.write(b"half")
            raise stop

        with pytest.raises(stop):
            files.write(path, half)
        assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_a_full_disk_is_one_sentence(tmp_path):
    def full(file):
        raise OSError(28, "No space left on device")

    with pytest.raises(EditError, match="No space left on device; choose another place"):
        files.write(tmp_path / "a.png", full)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_to_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    for attempt in (files.check_writable, lambda p: files.write(p / "a.png", lambda f: None)):
        with pytest.raises(EditError, match="Cannot write"):
            attempt(tmp_path / "file" / "out")


def test_a_read_only_folder_is_one_sentence(tmp_path, monkeypatch):
    def refuse(*args, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files.tempfile, "TemporaryFile", refuse)
    monkeypatch.setattr("os.open", refuse)
    with pytest.raises(EditError, match="Permission denied"):
        files.check_writable(tmp_path)
    with pytest.raises(EditError, match="Permission denied"):
        pictures.save(tmp_path / "a.png", torch.zeros(1, 1, 3))


def test_results_can_be_read_by_others(tmp_path):
    path, plain = files.write(tmp_path / "a", lambda f: f.write(b"x")), tmp_path / "b"
    plain.write_bytes(b"x")
    assert path.stat().st_mode == plain.stat().st_mode
