import pytest
import torch

from editkit.models import masks
from editkit.models.blazeedit import pipeline
from editkit.models.errors import EditError
from editkit.tests.tiny import tiny_model

MODEL = tiny_model()
TASKS_WITH_MASK = ("remove", "sticker")


def picture(h=90, w=130, batch=1, seed=0):
    return torch.rand(batch, 3, h, w, generator=torch.Generator().manual_seed(seed))


def spot(h=90, w=130, batch=1, box=(30, 50, 60, 90)):
    mask = torch.zeros(batch, h, w)
    mask[:, box[0] : box[1], box[2] : box[3]] = 1
    return mask


def unchanged(edit, image):
    still = (edit.changed == 0)[:, None].expand_as(image)
    return torch.equal(edit.image[still], image[still])


@pytest.mark.parametrize("size", [(90, 130), (257, 61), (40, 333)])
@pytest.mark.parametrize("shadow", [True, False])
def test_removal_is_bit_identical_outside_what_it_says_it_changed(size, shadow):
    image, mask = picture(*size), spot(*size, box=(10, 30, 20, 40))
    edit = pipeline.remove(MODEL, image, mask, shadow=shadow)
    assert edit.image.shape == image.shape and unchanged(edit, image)
    assert bool((edit.changed[mask > 0] == 1).all())
    assert not torch.equal(edit.image[:, :, 12:28, 22:38], image[:, :, 12:28, 22:38])
    if not shadow:
        assert bool((edit.changed[masks.grow(mask, 5) == 0] == 0).all())  # confined to the feathered mask


def test_outpainting_keeps_every_pixel_of_the_picture():
    image = picture()
    edit = pipeline.outpaint(MODEL, image, left=21, bottom=34)
    assert edit.image.shape == (1, 3, 124, 151)
    assert torch.equal(edit.image[:, :, :90, 21:], image)
    assert float(edit.changed.sum()) == 124 * 151 - 90 * 130
    assert torch.equal(pipeline.outpaint(MODEL, image).image, image)
    with pytest.raises(EditError, match="left margin is -3"):
        pipeline.outpaint(MODEL, image, left=-3)


@pytest.mark.parametrize("edit", [pipeline.tone, pipeline.relight])
def test_a_map_edit_stays_inside_its_mask_and_strength_0_is_nothing(edit):
    image, mask = picture(), spot()
    done = edit(MODEL, image, mask)
    assert unchanged(done, image) and not torch.equal(done.image, image)
    assert torch.equal(edit(MODEL, image, strength=0).image, image)
    half, whole = edit(MODEL, image, strength=0.5).image, edit(MODEL, image).image
    assert torch.allclose(half, 0.5 * (image + whole), atol=1e-5)


def test_a_grey_mask_is_opacity():
    image, mask = picture(), spot()
    whole = pipeline.remove(MODEL, image, mask, shadow=False, feather=0).image
    half = pipeline.remove(MODEL, image, 0.5 * mask, shadow=False, feather=0).image
    assert torch.allclose(half, 0.5 * (image + whole), atol=1e-5)


def test_a_sticker_is_rgba_and_transparent_outside():
    edit = pipeline.sticker(MODEL, picture(), spot())
    assert edit.image.shape[1] == 4 and edit.image.shape[-1] > 130
    assert float(edit.image[0, 3, 0, 0]) == 0 and float(edit.image[0, 3].max()) == pytest.approx(1)
    assert torch.equal(edit.changed, edit.image[:, 3])


@pytest.mark.parametrize("task", ["remove", "outpaint", "tone", "relight", "sticker"])
def test_the_four_steps_run_for_every_task(task):
    image, mask = picture(), None if task in ("tone", "relight") else spot()
    conditioning = pipeline.encode(MODEL, image, mask, task)
    latents = pipeline.sample(MODEL, conditioning)
    edit = pipeline.deliver(MODEL, conditioning, pipeline.decode(MODEL, latents))
    assert edit.image.isfinite().all()
    if task == "remove":
        assert torch.equal(edit.image, pipeline.remove(MODEL, image, mask).image)


def test_a_batch_gives_what_its_pictures_give_alone():
    images = picture(batch=2)
    masks = torch.cat([spot(), spot(box=(5, 20, 5, 30))])
    both = pipeline.remove(MODEL, images, masks, seed=5)
    second = pipeline.remove(MODEL, images[1:], masks[1:], seed=6)
    assert torch.allclose(both.image[1:], second.image, atol=1e-5)
    assert torch.allclose(
        pipeline.tone(MODEL, images).image[1:], pipeline.tone(MODEL, images[1:]).image, atol=1e-5
    )


def test_one_mask_of_another_size_serves_a_batch_and_two_do_not_serve_three():
    edit = pipeline.remove(MODEL, picture(batch=3), spot(45, 65, box=(15, 25, 30, 45)))
    assert len(edit.image) == 3
    with pytest.raises(EditError, match="2 masks do not fit 3 pictures"):
        pipeline.remove(MODEL, picture(batch=3), spot(batch=2))


def test_the_seed_decides():
    image, mask = picture(), spot()
    first = pipeline.remove(MODEL, image, mask, seed=1).image
    assert torch.equal(first, pipeline.remove(MODEL, image, mask, seed=1).image)
    assert not torch.equal(first, pipeline.remove(MODEL, image, mask, seed=2).image)


def test_inputs_are_left_alone():
    image, mask = picture(), spot()
    kept = image.clone(), mask.clone()
    for task in ("remove", "sticker", "tone", "relight"):
        getattr(pipeline, task)(MODEL, image, mask)
    pipeline.outpaint(MODEL, image, left=10)
    assert torch.equal(image, kept[0]) and torch.equal(mask, kept[1])


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (7, 9)])
def test_tiny_pictures_work(size):
    image = picture(*size)
    assert pipeline.tone(MODEL, image).image.shape == image.shape
    assert pipeline.relight(MODEL, image).image.isfinite().all()
    assert pipeline.outpaint(MODEL, image, left=5, top=3).image.shape[-2:] == (size[0] + 3, size[1] + 5)
    if size != (1, 1):
        mask = torch.zeros(1, *size)
        mask[:, 0, :1] = 1
        assert unchanged(pipeline.remove(MODEL, image, mask), image)


def test_bad_input_is_said_in_one_sentence():
    image = picture()
    for call, words in (
        (lambda: pipeline.remove(MODEL, image, torch.zeros(1, 90, 130)), "mask is empty"),
        (lambda: pipeline.remove(MODEL, image, torch.ones(1, 90, 130)), "covers the whole picture"),
        (lambda: pipeline.remove(MODEL, image, None), "needs a mask"),
        (lambda: pipeline.encode(MODEL, image, None, "colourise"), "no task 'colourise'"),
        (lambda: pipeline.tone(MODEL, image, strength=1.5), "strength is 1.5"),
        (lambda: pipeline.tone(MODEL, image, method="magic"), "'magic' is unknown"),
        (lambda: pipeline.outpaint_margins(10, 10, "wide"), "'wide'"),
        (lambda: pipeline.outpaint_margins(10, 10, "16:9", "corner"), "'corner'"),
    ):
        with pytest.raises(EditError, match=words) as caught:
            call()
        assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_margins_give_the_smallest_canvas_that_holds_the_picture():
    assert pipeline.outpaint_margins(1200, 1600, "16:9") == (266, 0, 267, 0)
    assert pipeline.outpaint_margins(900, 1600, "1:1", "top") == (0, 0, 0, 700)
    assert pipeline.outpaint_margins(900, 1600, "16:9") == (0, 0, 0, 0)


def test_another_tau_changes_nothing_but_the_network_s_answer():
    image = picture()
    right, wrong = (
        pipeline.swap(MODEL, image, None, "tone", 0.2),
        pipeline.swap(MODEL, image, None, "tone", 0.6),
    )
    assert right.shape == wrong.shape == image.shape and not torch.equal(right, wrong)


def test_two_distant_objects_are_removed_on_canvases_of_their_own():
    image = torch.rand(1, 3, 320, 480, generator=torch.Generator().manual_seed(3))
    mask = torch.zeros(1, 320, 480)
    mask[:, 20:50, 20:50] = 1
    mask[:, 260:290, 420:450] = 1
    seen = []
    report = lambda i, n: seen.append((i, n))  # noqa: E731
    both = pipeline.remove(MODEL, image, mask, shadow=False, steps=2, callback=report)
    first = pipeline.remove(MODEL, image, mask * (torch.arange(480) < 200), shadow=False, steps=2)
    assert torch.equal(both.image[..., :200], first.image[..., :200])
    assert torch.equal(both.image[:, :, both.changed[0] == 0], image[:, :, both.changed[0] == 0])
    assert bool((both.changed[mask > 0] == 1).all())
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_what_the_codec_loses_never_reaches_the_picture():
    """A network that changes nothing delivers the first guess itself, whatever codec both went through."""
    image = torch.rand(1, 3, 120, 160, generator=torch.Generator().manual_seed(4))
    mask = torch.zeros(1, 120, 160)
    mask[:, 50:70, 60:100] = 1
    results = []
    for seed in (1, 2):
        model = tiny_model(seed)
        torch.nn.init.zeros_(model.denoiser.out.weight)
        torch.nn.init.zeros_(model.denoiser.out.bias)
        results.append(pipeline.remove(model, image, mask, shadow=False, texture=False).image)
    assert torch.allclose(*results, atol=1e-5)
    assert float((results[0] - image)[..., 50:70, 60:100].abs().mean()) > 0.05
    changing = pipeline.remove(MODEL, image, mask, shadow=False, texture=False).image
    assert float((changing - results[0]).abs().max()) > 0.01
