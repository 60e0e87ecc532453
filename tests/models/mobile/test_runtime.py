"""A bundle in the place of the model: the same edits as torch on the same mirrored canvas."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from editkit.models.blazeedit import pipeline
from editkit.models.errors import EditError
from editkit.models.mobile import manifest, runtime
from editkit.models.mobile.runtime import BundleModel


def symmetric(x: torch.Tensor, side: int) -> torch.Tensor:
    """x [..., h, w] mirrored to a square by numpy."""
    pads = [(0, 0)] * (x.ndim - 2) + [(0, side - x.shape[-2]), (0, side - x.shape[-1])]
    return torch.from_numpy(np.pad(x.numpy(), pads, mode="symmetric"))


class OnCanvas:
    """The torch model on square canvases, written apart from the bundle's code: what a bundle has to reproduce."""

    def __init__(self, model, sizes):
        self.model, self.sizes = model, sizes
        kept = {k: min(getattr(model.config, k), max(sizes)) for k in ("fill_size", "map_size", "sticker_size")}
        self.config = replace(model.config, **kept)
        codec = model.autoencoder
        self.autoencoder = SimpleNamespace(
            mean=codec.mean, decode=codec.decode, encode=lambda x: codec.encode(self._fit(x))
        )
        self.shadow_head, self.relight_head = self._head(model.shadow_head), self._head(model.relight_head)
        self.denoise = model.denoise

    def canvas(self, height, width):
        side = min(s for s in self.sizes if s >= max(height, width))
        return side, side

    def _fit(self, x):
        return symmetric(x, self.canvas(*x.shape[-2:])[0])

    def conditions(self, image, mask, tau, guess):
        return self.model.conditions(self._fit(image), self._fit(mask), tau, self._fit(guess))

    def _head(self, head):
        side = self.model.config.gain_size

        def run(image, signal):
            h, w = image.shape[-2:]
            return head(symmetric(image, side), symmetric(signal, side))[..., :h, :w]

        return run


@pytest.fixture(scope="module")
def phone(fp32_bundle):
    return BundleModel(fp32_bundle, manifest.read(fp32_bundle), threads=1)


@pytest.fixture(scope="module")
def torch_model(tiny):
    return OnCanvas(tiny, [64, 96])


def photo(h=171, w=233, batch=1):
    """A smooth picture with some noise, of a size that nothing divides."""
    rows, columns = torch.linspace(0, 3, h)[:, None], torch.linspace(0, 5, w)[None]
    waves = torch.stack([torch.sin(rows * k + columns) for k in (1.0, 1.7, 2.3)])
    noise = torch.rand(batch, 3, h, w, generator=torch.Generator().manual_seed(3))
    return (0.5 + 0.3 * waves + 0.1 * (noise - 0.5)).clamp(0, 1)


def region(h=171, w=233, box=(60, 110, 80, 170)):
    mask = torch.zeros(1, h, w)
    mask[:, box[0] : box[1], box[2] : box[3]] = 1
    return mask


EDITS = {
    "remove": lambda m, x: pipeline.remove(m, x, region(), texture=False),
    "remove in two steps": lambda m, x: pipeline.remove(m, x, region(), texture=False, steps=2, seed=5),
    "remove without shadow": lambda m, x: pipeline.remove(m, x, region(), texture=False, shadow=False),
    "remove a small thing": lambda m, x: pipeline.remove(m, x, region(box=(20, 29, 200, 211)), texture=False),
    "outpaint": lambda m, x: pipeline.outpaint(m, x, right=61, top=7, texture=False),
    "tone": lambda m, x: pipeline.tone(m, x, method="network"),
    "tone in a region": lambda m, x: pipeline.tone(m, x, region(), method="network"),
    "relight by its head": lambda m, x: pipeline.relight(m, x, region(), method="head"),
    "relight by the network": lambda m, x: pipeline.relight(m, x, method="network"),
    "sticker": lambda m, x: pipeline.sticker(m, x, region()),
    "swap": lambda m, x: SimpleNamespace(image=pipeline.swap(m, x, None, "tone", 0.9), changed=torch.ones(1)),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_by_the_bundle_is_the_edit_by_torch_on_the_mirrored_canvas(phone, torch_model, name):
    image = photo()
    wanted, made = EDITS[name](torch_model, image), EDITS[name](phone, image)
    assert made.image.shape == wanted.image.shape
    assert float((made.image - wanted.image).abs().max()) < 1e-3
    torch.testing.assert_close(made.changed, wanted.changed, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", ["remove", "tone in a region", "relight by its head"])
def test_the_network_has_a_part_in_what_is_compared(phone, name):
    image = photo()
    assert float((EDITS[name](phone, image).image - image).abs().max()) > 0.005


@pytest.mark.parametrize(
    "name", ["remove a small thing", "remove without shadow", "tone in a region", "relight by its head"]
)
def test_pixels_outside_the_change_are_bit_identical(phone, name):
    image = photo()
    edit = EDITS[name](phone, image)
    still = (edit.changed == 0)[:, None].expand_as(image)
    assert 0.1 < still.float().mean() < 1
    assert torch.equal(edit.image[still], image[still])


def test_with_texture_the_rest_stays_exact_too_and_outpainting_keeps_the_photo(phone):
    image = photo()
    edit = pipeline.remove(phone, image, region())
    still = (edit.changed == 0)[:, None].expand_as(image)
    assert torch.equal(edit.image[still], image[still])
    wide = pipeline.outpaint(phone, image, left=33)
    assert wide.image.shape[-1] == 233 + 33 and torch.equal(wide.image[..., 33:], image)


@pytest.mark.parametrize("task", ["remove", "tone"])
def test_a_batch_is_edited_as_its_pictures_are_one_by_one(phone, task):
    images = photo(batch=2)
    both = EDITS[task](phone, images).image
    if task == "tone":
        assert torch.equal(both[1:], EDITS[task](phone, images[1:]).image)
    assert torch.equal(both[:1], EDITS[task](phone, images[:1]).image)


def test_a_seed_reaches_the_noise_of_two_steps(phone):
    image = photo()
    one, two, again = (pipeline.remove(phone, image, region(), texture=False, steps=2, seed=s).image for s in (1, 2, 1))
    assert torch.equal(one, again) and not torch.equal(one, two)


def test_the_smallest_canvas_that_holds_a_picture_is_chosen(phone, monkeypatch):
    assert phone.canvas(64, 8) == (64, 64) and phone.canvas(8, 72) == (96, 96) and phone.canvas(96, 96) == (96, 96)
    asked, real = [], runtime.Network.__call__

    def call(self, signature, **inputs):
        asked.append((self.path.stem, signature))
        return real(self, signature, **inputs)

    monkeypatch.setattr(runtime.Network, "__call__", call)
    pipeline.remove(phone, photo(), region(box=(20, 25, 200, 205)), texture=False, shadow=False)
    assert {key for _, key in asked} == {"serving_default"}
    asked.clear()
    pipeline.remove(phone, photo(), region(), texture=False, shadow=False)
    assert {key for _, key in asked} == {"size_96"}
    assert {name for name, _ in asked} == {"encoder", "denoiser", "decoder"}


def test_a_picture_larger_than_every_canvas_is_refused_with_both_sizes(phone):
    with pytest.raises(EditError, match="104x72 px is larger than this bundle's canvas of 96 px.*--sizes"):
        phone.conditions(torch.rand(1, 3, 72, 104), torch.zeros(1, 72, 104), 0.5, torch.rand(1, 3, 72, 104))


def test_working_sizes_are_cut_to_the_largest_canvas(phone, tiny):
    config = phone.config
    assert (config.fill_size, config.map_size, config.sticker_size) == (96, 96, 96)
    assert replace(config, fill_size=192, map_size=256, sticker_size=512) == tiny.config


@pytest.mark.parametrize("steps", [3, 4, 8])
def test_steps_that_the_bundle_has_no_schedule_for_are_refused(phone, steps):
    with pytest.raises(EditError, match="schedules of 1, 2 steps only"):
        pipeline.remove(phone, photo(), region(), texture=False, steps=steps)


def test_what_a_network_returns_is_not_overwritten_by_its_next_call(phone):
    first = phone.autoencoder.decode(torch.ones(1, 6, 8, 8))
    kept = first.clone()
    phone.autoencoder.decode(-torch.ones(1, 6, 8, 8))
    assert torch.equal(first, kept)


def test_two_threads_may_use_one_bundle(phone):
    from concurrent.futures import ThreadPoolExecutor

    latents = [torch.randn(1, 6, 8, 8, generator=torch.Generator().manual_seed(i)) for i in range(8)]
    alone = [phone.autoencoder.decode(z) for z in latents]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(phone.autoencoder.decode, latents * 4))
    assert all(torch.equal(a, b) for a, b in zip(alone * 4, together, strict=True))


def test_nothing_is_loaded_before_it_is_used(fp32_bundle, monkeypatch):
    opened, real = [], runtime.open_interpreter
    monkeypatch.setattr(runtime, "open_interpreter", lambda path, n: opened.append(path.stem) or real(path, n))
    model = BundleModel(fp32_bundle, manifest.read(fp32_bundle), threads=1)
    assert opened == []
    pipeline.relight(model, photo(), method="head")
    pipeline.relight(model, photo(), method="head")
    assert opened == ["relight"]


@pytest.fixture
def plain_model(tiny, monkeypatch, tmp_path):
    """A bundle of a model as the paper's, without a first guess and without heads; its files are run by torch."""
    from editkit.models.blazeedit.model import BlazeEdit
    from editkit.models.mobile import convert, exporting

    own = replace(tiny.config, guess=False, gain_head=None, prediction="epsilon", schedule="scaled_linear")
    torch.manual_seed(1)
    model = BlazeEdit(own).requires_grad_(False).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    networks = convert.modules(model)

    def call(self, _signature, **inputs):
        return networks[self.path.stem](**inputs)

    monkeypatch.setattr(runtime.Network, "__call__", call)
    return BundleModel(tmp_path, manifest.Manifest(exporting._draft(model, [64], exporting.Request(tmp_path))))


@pytest.mark.parametrize("name", ["remove", "outpaint", "tone", "relight by the network", "sticker"])
def test_a_bundle_of_a_model_without_a_first_guess_makes_every_edit(plain_model, name):
    assert plain_model.relight_head is None and plain_model.autoencoder.encode(photo(40, 64)) is None
    edit = EDITS[name](plain_model, photo())
    assert edit.image.isfinite().all() and 0 <= edit.image.min() and edit.image.max() <= 1


def test_an_edit_in_8_bits_stays_close_to_torch(int8_bundle, torch_model):
    model = BundleModel(int8_bundle, manifest.read(int8_bundle), threads=1)
    for name in ("remove without shadow", "tone", "relight by its head"):
        wanted, made = EDITS[name](torch_model, photo()).image, EDITS[name](model, photo()).image
        assert float((wanted - made).square().mean().sqrt()) < 0.01
