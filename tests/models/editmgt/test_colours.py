"""Colours of codes for previews: a preview resembles the picture, and costs no run of a network."""

import json
from weakref import WeakMethod

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional as F

from editkit.models.editmgt import checkpoint
from editkit.models.editmgt.colours import Colours, mosaic

UNSEEN = ("fig_bowl", "mountain_path")


@pytest.fixture(scope="module")
def vq(root):
    """A tiny VQ tokenizer that was trained: its codes have colours."""
    folder = root / "tests/fixtures/editmgt_vq_trained"
    return checkpoint.build_vq(
        json.loads((folder / "config.json").read_text()), load_file(folder / "weights.safetensors"), folder
    ).eval()


@pytest.fixture(scope="module")
def photo(root):
    def read(name, side=320):
        image = Image.open(root / f"workflows/media/{name}.jpg").convert("RGB").resize((side, side))
        return torch.from_numpy(np.asarray(image).copy()).movedim(-1, 0)[None].float() / 255

    return read


def alike(one, other):
    """The mean over the channels of the correlation of two pictures at the size of the first."""
    other = F.interpolate(other, one.shape[-2:], mode="area")
    pairs = zip(one[0].flatten(1), other[0].flatten(1))
    return float(torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in pairs]).mean())


@pytest.mark.parametrize("name", UNSEEN)
@torch.no_grad()
def test_a_preview_resembles_the_picture_that_was_encoded(vq, photo, name):
    """As well as the decoder's own picture does, whose colours are those of the codes as well."""
    picture, colours = photo(name), Colours(16)
    codes = vq.vectors(vq.encode(picture))
    colours.add(codes, picture)
    found = colours.preview(codes)
    assert found.shape == (1, 3, 20, 20) and alike(found, picture) > 0.75
    assert alike(found, picture) > alike(F.interpolate(vq.picture(codes), (20, 20), mode="area"), picture) - 0.02
    assert (found - F.interpolate(picture, (20, 20), mode="area")).abs().mean() < 0.1


@pytest.mark.parametrize("name", UNSEEN)
@torch.no_grad()
def test_before_any_picture_the_codebook_itself_is_shown_once(vq, photo, name):
    """What text to image is previewed with at first: codes from all over the codebook, decoded."""

    class Shower:
        shown = 0

        def show(self):
            self.shown += 1
            codes = mosaic(vq.codebook)
            self.colours.add(codes, vq.picture(codes))

    shower = Shower()
    shower.colours = Colours(16, WeakMethod(shower.show))
    codes = vq.vectors(vq.encode(photo(name)))
    found = shower.colours.preview(codes)
    assert alike(found, vq.picture(codes)) > 0.85 and alike(found, photo(name)) > 0.6
    shower.colours.preview(codes)
    assert shower.shown == 1


@torch.no_grad()
def test_every_picture_adds_to_the_fit(vq, photo):
    """In whatever portions: the fit is that of all tokens at once."""
    pairs = [(vq.vectors(vq.encode(photo(name, side))), photo(name, side)) for name, side in zip(UNSEEN, (320, 64))]
    each, once, first = Colours(16), Colours(16), Colours(16)
    for codes, picture in pairs:
        each.add(codes, picture)
        each.fit()
    rows = [torch.cat([x.movedim(1, -1).flatten(0, 2) for x in both]) for both in (
        [codes for codes, _ in pairs], [F.interpolate(p, c.shape[-2:], mode="area") for c, p in pairs])]  # fmt: skip
    once.add(*(x.T[None, :, :, None] for x in rows))
    first.add(*pairs[0])
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(each.fit(), once.fit()))
    assert not torch.allclose(each.fit()[0], first.fit()[0], atol=1e-3)


def test_a_linear_colour_is_found_exactly():
    draw = torch.Generator().manual_seed(0)
    codes, factors = torch.randn(2, 5, 9, 9, generator=draw), torch.randn(5, 3, generator=draw) / 40
    bias = torch.tensor([0.3, 0.5, 0.6])
    image = torch.einsum("bchw,cr->brhw", codes, factors) + bias[:, None, None]
    colours = Colours(5)
    colours.add(codes, F.interpolate(image, scale_factor=4, mode="nearest"))
    torch.testing.assert_close(colours.preview(codes), image, rtol=0, atol=1e-3)


def test_nothing_known_and_numbers_that_are_none_do_no_harm():
    codes = torch.randn(1, 4, 3, 3)
    assert torch.equal(Colours(4).preview(codes), torch.zeros(1, 3, 3, 3))
    colours, gone = Colours(4), Colours(4, WeakMethod(Colours(2).fit))  # whose owner is no more
    assert gone.preview(codes).isfinite().all()
    colours.add(torch.full((1, 4, 2, 2), float("nan")), torch.rand(1, 3, 2, 2))
    colours.add(codes, torch.rand(1, 3, 3, 3))
    assert colours.count == 9 and colours.preview(codes).isfinite().all()


def test_the_mosaic_is_of_codes_and_fills_its_square():
    book = torch.randn(40, 3)
    made = mosaic(book, 8)
    assert made.shape == (1, 3, 8, 8) and torch.equal(made, mosaic(book, 8))
    rows = made[0].flatten(1).T
    assert all((book == row).all(1).any() for row in rows) and len(rows.unique(dim=0)) == 40


def test_pictures_of_inference_mode_and_others_are_gathered_alike():
    codes, image = torch.randn(1, 4, 6, 6), torch.rand(1, 3, 12, 12)
    mixed, plain = Colours(4), Colours(4)
    with torch.inference_mode():
        mixed.add(codes, image)
    mixed.add(codes.flip(0), image)
    for _ in range(2):
        plain.add(codes, image)
    assert all(torch.equal(a, b) for a, b in zip(mixed.fit(), plain.fit(), strict=True))
