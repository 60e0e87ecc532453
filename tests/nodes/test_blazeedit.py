import pytest
import torch

from editkit.models.errors import EditError
from editkit.nodes import NODE_CLASS_MAPPINGS
from editkit.nodes.host import models, progress


def defaults(name):
    """Every widget's default, as a graph that leaves them alone has them."""
    inputs = NODE_CLASS_MAPPINGS[name].INPUT_TYPES()
    values = {}
    for key, spec in inputs["required"].items():
        if isinstance(spec[0], list):
            values[key] = spec[0][0]
        elif "default" in spec[1]:
            values[key] = spec[1]["default"]
    return values


def run(name, **inputs):
    with torch.inference_mode():
        return NODE_CLASS_MAPPINGS[name]().run(**{**defaults(name), **inputs})


def image(channels=3, batch=1, h=70, w=90):
    return torch.rand(batch, h, w, channels, generator=torch.Generator().manual_seed(0))


def mask(h=70, w=90):
    m = torch.zeros(1, h, w)
    m[:, 20:40, 30:60] = 1
    return m


ONE_CLICK = ["EditKitRemoveObject", "EditKitTone", "EditKitRelight", "EditKitSticker"]


@pytest.mark.parametrize("name", ONE_CLICK)
def test_one_click_nodes_take_a_batch_and_leave_their_inputs_alone(name):
    picture, region = image(batch=2), mask()
    kept = picture.clone(), region.clone()
    out = run(name, image=picture, mask=region)
    assert len(out) == len(NODE_CLASS_MAPPINGS[name].RETURN_TYPES)
    assert out[0].shape[0] == 2 and out[0].dtype == torch.float32
    assert float(out[0].min()) >= 0 and float(out[0].max()) <= 1
    assert torch.equal(picture, kept[0]) and torch.equal(region, kept[1])


@pytest.mark.parametrize("name", ["EditKitRemoveObject", "EditKitTone", "EditKitRelight"])
def test_alpha_comes_back_untouched(name):
    picture = image(channels=4)
    out = run(name, image=picture, mask=mask())[0]
    assert out.shape == picture.shape and torch.equal(out[..., 3], picture[..., 3])


def test_outpainting_to_a_shape_ignores_the_margins_and_custom_uses_them():
    wide, changed = run("EditKitOutpaint", image=image(), aspect="16:9", left=5)
    assert wide.shape[1:3] == (70, 124) and changed.shape[1:] == (70, 124)
    custom, _ = run("EditKitOutpaint", image=image(channels=4), aspect="custom", left=5, bottom=2)
    assert custom.shape[1:] == (72, 95, 4) and float(custom[0, -1, 0, 3]) == 1


def test_the_64_pixel_black_mask_is_no_mask():
    black = torch.zeros(1, 64, 64)
    assert torch.equal(run("EditKitTone", image=image(), mask=black)[0], run("EditKitTone", image=image())[0])
    with pytest.raises(EditError, match="needs a mask"):
        run("EditKitRemoveObject", image=image(), mask=black)


def test_nan_and_wrong_batches_are_said_in_one_sentence():
    bad = image()
    bad[0, 0, 0, 0] = float("nan")
    with pytest.raises(EditError, match="NaN"):
        run("EditKitTone", image=bad)
    with pytest.raises(EditError, match="2 masks do not fit 3 pictures"):
        run("EditKitRemoveObject", image=image(batch=3), mask=torch.cat([mask(), mask()]))


def test_the_steps_wired_one_by_one_give_what_one_click_gives():
    (model,) = run("EditKitLoadBlazeEdit")
    (conditioning,) = run("EditKitMaskTask", model=model, image=image(), mask=mask(), task="remove")
    (latent,) = run("EditKitBlazeEditSampler", model=model, conditioning=conditioning)
    (decoded,) = run("EditKitBlazeEditDecode", model=model, latent=latent)
    out, changed = run("EditKitDeliver", model=model, conditioning=conditioning, decoded=decoded)
    whole, region = run("EditKitRemoveObject", image=image(), mask=mask())
    assert torch.allclose(out, whole, atol=1e-6) and torch.equal(changed, region)


def test_a_batch_of_differently_cropped_pictures_survives_the_steps():
    pictures, regions = image(batch=2, h=200, w=300), torch.zeros(2, 200, 300)
    regions[0, 20:120, 20:220] = 1
    regions[1, 150:160, 250:260] = 1
    (model,) = run("EditKitLoadBlazeEdit")
    (conditioning,) = run("EditKitMaskTask", model=model, image=pictures, mask=regions, task="remove")
    (latent,) = run("EditKitBlazeEditSampler", model=model, conditioning=conditioning)
    (decoded,) = run("EditKitBlazeEditDecode", model=model, latent=latent)
    out, _ = run("EditKitDeliver", model=model, conditioning=conditioning, decoded=decoded)
    whole, _ = run("EditKitRemoveObject", image=pictures, mask=regions)
    assert torch.allclose(out, whole, atol=1e-6)


def stepwise(task, picture, change=lambda decoded: decoded):
    """The steps wired one by one, with something done to the decoded pictures."""
    (model,) = run("EditKitLoadBlazeEdit")
    (conditioning,) = run("EditKitMaskTask", model=model, image=picture, mask=mask(), task=task)
    (latent,) = run("EditKitBlazeEditSampler", model=model, conditioning=conditioning)
    (decoded,) = run("EditKitBlazeEditDecode", model=model, latent=latent)
    return run("EditKitDeliver", model=model, conditioning=conditioning, decoded=change(decoded))


@pytest.mark.parametrize("task", ["remove", "tone", "relight"])
def test_alpha_comes_through_the_steps_untouched(task):
    picture = image(channels=4)
    out, changed = stepwise(task, picture)
    assert out.shape == picture.shape and torch.equal(out[..., 3], picture[..., 3])
    still = changed == 0
    assert torch.equal(out[..., :3][still], picture[..., :3][still])


def test_a_sticker_brings_its_own_alpha():
    out, alpha = stepwise("sticker", image(channels=4))
    assert out.shape[-1] == 4 and torch.equal(out[..., 3], alpha)


@pytest.mark.parametrize(
    ("change", "said"),
    [(lambda d: torch.cat([d, d]), "2 decoded pictures"), (lambda d: d[:, :8, :8], "of 8x8 px do not fit")],
)
@pytest.mark.parametrize("task", ["remove", "tone"])
def test_decoded_pictures_of_something_else_are_refused(task, change, said):
    with pytest.raises(EditError, match=said):
        stepwise(task, image(), change)


def test_a_mask_of_nan_is_refused_at_the_size_that_stands_for_none_too():
    with pytest.raises(EditError, match="mask holds NaN"):
        run("EditKitTone", image=image(), mask=torch.full((1, 64, 64), float("nan")))


@pytest.mark.parametrize("name", ["EditKitRemoveObject", "EditKitSticker"])
def test_an_empty_mask_says_what_to_paint(name):
    with pytest.raises(EditError, match="mask is empty .* paint the region"):
        run(name, image=image(), mask=torch.zeros(1, 70, 90))


def test_removal_is_exact_where_nothing_changed_and_a_mask_of_another_size_is_fitted():
    picture = image(batch=2)
    out, changed = run("EditKitRemoveObject", image=picture, mask=mask()[:, ::2, ::2], shadow=False)
    assert changed.shape == (2, 70, 90) and 0 < float((changed > 0).float().mean()) < 1
    assert torch.equal(out[changed == 0], picture[changed == 0])


def test_an_unknown_custom_task_names_those_that_exist():
    (model,) = run("EditKitLoadBlazeEdit")
    with pytest.raises(EditError, match="no task 'sepia'"):
        run("EditKitMaskTask", model=model, image=image(), custom_task=" sepia ")


def test_the_shipped_model_is_loaded_once_and_again_when_its_file_changed(tiny_shipped):
    first = models.blazeedit()
    assert models.blazeedit() is first
    shard = next(tiny_shipped.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes())
    import os

    os.utime(shard, ns=(1, 1))
    assert models.blazeedit() is not first and len(models._loaded) == 1


def test_progress_reaches_the_listener():
    heard = []
    progress.set_listener(lambda done, total: heard.append((done, total)))
    try:
        run("EditKitRemoveObject", image=image(), mask=mask())
    finally:
        progress.set_listener(None)
    assert heard == [(1, 1)]


@pytest.fixture
def steps():
    """(model, conditioning, latent, decoded) of a removal on two pictures."""
    (model,) = run("EditKitLoadBlazeEdit")
    (conditioning,) = run("EditKitMaskTask", model=model, image=image(batch=2), mask=mask(), task="remove")
    (latent,) = run("EditKitBlazeEditSampler", model=model, conditioning=conditioning)
    return model, conditioning, latent, run("EditKitBlazeEditDecode", model=model, latent=latent)[0]


def test_delivering_pictures_of_another_task_is_said_in_one_sentence(steps):
    model, conditioning, _, decoded = steps
    with pytest.raises(EditError, match="1 decoded pictures .*do not fit"):
        run("EditKitDeliver", model=model, conditioning=conditioning, decoded=decoded[:1])
    with pytest.raises(EditError, match="16x16 px do not fit"):
        run("EditKitDeliver", model=model, conditioning=conditioning, decoded=decoded[:, :16, :16])


def test_parts_of_two_models_are_not_mixed(steps, tmp_path, monkeypatch):
    from dataclasses import replace

    from editkit.models.blazeedit import checkpoint
    from editkit.models.blazeedit.model import BlazeEdit
    from editkit.tests.tiny import CONFIG

    _, conditioning, latent, _ = steps
    other = BlazeEdit(replace(CONFIG, latent_channels=4, condition_channels=12))
    checkpoint.save(other, tmp_path / "other")
    monkeypatch.setattr(models, "model_folder", lambda name: tmp_path / name)
    (model,) = run("EditKitLoadBlazeEdit", model="other")
    with pytest.raises(EditError, match="conditioning comes from another model"):
        run("EditKitBlazeEditSampler", model=model, conditioning=conditioning)
    with pytest.raises(EditError, match="latent comes from another model"):
        run("EditKitBlazeEditDecode", model=model, latent=latent)
