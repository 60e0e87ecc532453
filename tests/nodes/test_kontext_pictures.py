"""Kontext Fit and Unfit, VAE Round-trip and Visual Cue as the canvas calls them, without ComfyUI."""

import pytest
import torch

from editkit.models.errors import EditError
from editkit.models.kontext import fit
from editkit.nodes import NODE_CLASS_MAPPINGS
from editkit.tests.nodes.test_blazeedit import image, mask, run
from editkit.tests.tiny_editmgt_release import write_release


def fitted(picture, size=fit.OWN, **more):
    return run("EditKitKontextFit", image=picture, size=size, **more)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(("h", "w"), [(70, 90), (1, 17), (33, 200)])
def test_fit_and_unfit_give_the_picture_back(channels, h, w):
    picture = image(channels, 2, h, w)
    kept = picture.clone()
    small, record, region, width, height = fitted(picture)
    assert small.shape == (2, height, width, 3) and height % 16 == width % 16 == 0
    assert region.shape == (1, height, width) and float(region.min()) == 1
    out, changed = run("EditKitKontextUnfit", image=small, fit=record)
    assert torch.equal(out, picture.expand(2, h, w, max(3, channels))) and torch.equal(picture, kept)
    assert changed.shape == (2, h, w) and float(changed.min()) == 1


def test_a_masked_edit_changes_nothing_else_and_says_where():
    picture, region = image(4, 1, 120, 90), mask(120, 90)
    small, record, fitted_mask, *_ = fitted(picture, fit.MEGAPIXEL, mask=region)
    out, changed = run("EditKitKontextUnfit", image=1 - small, fit=record, feather=4, mask=region)
    assert torch.equal(out[changed == 0], picture[changed == 0]) and torch.equal(out[..., 3], picture[..., 3])
    assert bool((changed[region == 0] == 0).all()) and float(changed.max()) == 1
    assert (out[..., :3][changed == 1] - (1 - picture[..., :3])[changed == 1]).abs().mean() < 0.1
    again, same = run("EditKitKontextUnfit", image=1 - small, fit=record, feather=4, mask=fitted_mask)
    assert (same - changed).abs().mean() < 0.02 and torch.equal(again[same == 0], picture[same == 0])


def test_the_empty_mask_of_a_photo_without_alpha_counts_as_none():
    small, record, region, *_ = fitted(image(), mask=torch.zeros(1, 64, 64))
    assert float(region.min()) == 1
    assert torch.equal(run("EditKitKontextUnfit", image=small, fit=record, mask=torch.zeros(1, 64, 64))[0], image())


class Halving:
    """A VAE whose latents are 2x2 means; it cuts sides to whole latents as ComfyUI's do."""

    def spacial_compression_encode(self):
        return 2

    def encode(self, pixels):
        assert pixels.shape[0] == 1 and pixels.shape[1] % 16 == pixels.shape[2] % 16 == 0
        return torch.nn.functional.avg_pool2d(pixels.movedim(-1, 1), 2)

    def decode(self, latent):
        return latent.repeat_interleave(2, -1).repeat_interleave(2, -2).movedim(1, -1)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize(("h", "w"), [(70, 90), (64, 64), (1, 1), (33, 47)])
def test_a_vae_is_measured_at_any_size(h, w, channels):
    picture = image(channels, 2, h, w)
    made, difference, psnr, ssim, text = run("EditKitVAERoundTrip", vae=Halving(), image=picture, gain=2.0)
    assert made.shape == picture.shape and difference.shape == (2, h, w, 3)
    if h == 64:
        block = picture.reshape(2, 32, 2, 32, 2, channels).mean((2, 4), keepdim=True)
        expected = block.expand(2, 32, 2, 32, 2, channels).reshape(picture.shape)[..., :3]
        assert torch.allclose(made[..., :3], expected, atol=1e-6)
        error = [-10 * float(((expected - picture[..., :3])[i] ** 2).mean().log10()) for i in range(2)]
        assert psnr == pytest.approx(sum(error) / 2, abs=1e-3) and f"{error[1]:.2f} dB" in text
        assert torch.allclose(difference, (2 * (made - picture)[..., :3].abs()).clamp(max=1), atol=1e-6)
    assert isinstance(psnr, float) and isinstance(ssim, float) and ssim <= 1 + 1e-9


def test_a_video_vae_gives_its_frame_and_a_vae_for_sound_is_refused():
    class Video(Halving):
        def spacial_compression_encode(self):
            raise TypeError("a tuple")

        def decode(self, latent):
            return super().decode(latent)[:, None]

    assert run("EditKitVAERoundTrip", vae=Video(), image=image())[0].shape == (1, 70, 90, 3)

    class Sound(Halving):
        def decode(self, latent):
            return torch.zeros(1, 44100, 2)

    with pytest.raises(EditError, match="wire a VAE for pictures"):
        run("EditKitVAERoundTrip", vae=Sound(), image=image())


@pytest.mark.parametrize("shape", ["box", "ellipse", "arrow"])
@pytest.mark.parametrize("marked", [False, True])
def test_a_cue_is_drawn_and_the_inputs_stay(shape, marked):
    picture, region = image(4, 2), mask() if marked else None
    kept = picture.clone()
    out, drawn, inside = run("EditKitVisualCue", image=picture, shape=shape, mask=region, fill=0.2)
    assert out.shape == picture.shape and drawn.shape == inside.shape == (2, 70, 90)
    assert torch.equal(picture, kept) and torch.equal(out[..., 3], picture[..., 3])
    assert torch.equal(out[drawn == 0], picture[drawn == 0]) and float(drawn.max()) == 1
    assert torch.equal(out[drawn == 1][:, :3], torch.tensor([[1.0, 0, 0]]).expand(int((drawn == 1).sum()), 3))
    if marked and shape != "arrow":
        assert float(inside[0][mask()[0] > 0].min()) == (1 if shape == "box" else inside[0][mask()[0] > 0].min())


def test_every_default_works_and_chained_cues_add_up():
    one = run("EditKitVisualCue", image=image(h=200, w=300))[0]
    two, drawn, _ = run("EditKitVisualCue", image=one, shape="arrow", x0=10, y0=10, x1=50, y1=40, units="pixels",
                        colour="#0000ff", width=4)  # fmt: skip
    assert torch.equal(two[drawn == 0], one[drawn == 0]) and not torch.equal(one, image(h=200, w=300))


@pytest.mark.parametrize(("name", "inputs", "said"), [
    ("EditKitVisualCue", {"colour": "reddish"}, "'reddish' is unknown"),
    ("EditKitVisualCue", {"mask": torch.zeros(1, 70, 90)}, "The mask is empty"),
    ("EditKitVisualCue", {"x0": 0.5, "x1": 0.5}, "has no extent"),
    ("EditKitKontextFit", {"mask": torch.full((1, 9, 9), float("nan"))}, "NaN"),
    ("EditKitVAERoundTrip", {"vae": Halving(), "image": torch.full((1, 4, 4, 3), float("nan"))}, "NaN"),
])  # fmt: skip
def test_bad_input_is_named(name, inputs, said):
    with pytest.raises(EditError, match=said):
        run(name, **{"image": image(), **inputs})


def test_the_record_fits_only_its_own_picture():
    _, record, *_ = fitted(image())
    with pytest.raises(EditError, match="90x70 px is not the fitted one: that is 96x80"):
        run("EditKitKontextUnfit", image=image(), fit=record)


def test_the_sizes_of_fit_can_be_wired_to_an_empty_latent():
    kinds = NODE_CLASS_MAPPINGS["EditKitKontextFit"].RETURN_TYPES
    assert kinds[3:] == ("INT", "INT")
    assert fitted(image(h=832, w=1248), fit.NEAREST)[3:] == (1248, 832)


def test_editmgts_tokenizer_is_measured_without_comfyui(tmp_path, monkeypatch):
    write_release(tmp_path / "models" / "editkit" / "editmgt")
    monkeypatch.chdir(tmp_path)
    vae = run("EditKitLoadEditMGT", release="editmgt", weight_dtype="default")[2]
    picture = image(batch=2)
    made, _, psnr, ssim, text = run("EditKitVAERoundTrip", vae=vae, image=picture)
    padded = torch.nn.functional.pad(picture.movedim(-1, 1), (0, 6, 0, 10), mode="replicate").movedim(1, -1)
    assert torch.allclose(made, vae.decode(vae.encode(padded))[:, :70, :90], atol=1e-5)
    assert psnr > 0 and -1 <= ssim <= 1 and "90x70" in text
