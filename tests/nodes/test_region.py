import pytest
import torch

from editkit.models.errors import EditError
from editkit.nodes.host import folders
from editkit.tests.nodes.test_blazeedit import image, mask, run


def test_mask_nodes_do_what_they_say():
    m = 0.5 * mask()
    assert float(run("EditKitGrowMask", mask=m, radius=3)[0].sum()) > float(m.sum())
    assert float(run("EditKitShrinkMask", mask=m, radius=3)[0].sum()) < float(m.sum())
    soft = run("EditKitFeatherMask", mask=m, radius=6)[0]
    assert torch.equal(soft[m > 0], m[m > 0]) and int((soft > 0).sum()) > int((m > 0).sum())
    assert float(run("EditKitMaskStrength", mask=m, strength=0.5, binarise=True)[0].max()) == 0.5
    assert float(run("EditKitMaskStrength", mask=m, strength=0.5, binarise=False)[0].max()) == 0.25


@pytest.mark.parametrize("channels", [3, 4])
def test_padding_is_undone_to_the_bit(channels):
    picture = image(channels)
    padded, padding = run("EditKitPadToMultiple", image=picture, multiple=32)
    assert padded.shape[1:3] == (96, 96)
    assert torch.equal(run("EditKitUnpad", image=padded, padding=padding)[0], picture)


def test_an_edited_crop_comes_back_in_place():
    picture = image(h=150, w=200)
    region = mask(150, 200)
    crop, crop_mask, place = run("EditKitCropAroundMask", image=picture, mask=region, minimum=16)
    assert crop.shape[1] < 150 and float(crop_mask.sum()) == float(region.sum())
    out = run("EditKitStitch", image=picture, edited=1 - crop, crop=place, feather=0, mask=region)[0]
    keep = (region == 0)[..., None].expand_as(picture)
    assert torch.equal(out[keep], picture[keep]) and not torch.equal(out, picture)


def test_compositing_two_sizes_is_refused():
    with pytest.raises(EditError, match="size"):
        run("EditKitComposite", image=image(), edited=image(h=71), mask=mask())


def test_models_are_found_by_their_folder_and_a_missing_one_says_where_it_looked(tmp_path, monkeypatch):
    from editkit.models.blazeedit import checkpoint
    from editkit.tests.tiny import tiny_model

    monkeypatch.setattr(folders, "roots", lambda: [tmp_path])
    checkpoint.save(tiny_model(), tmp_path / "mine" / "first")
    assert list(folders.model_folders()) == ["mine/first"]
    with pytest.raises(EditError, match="no model 'other'.*" + tmp_path.name):
        folders.model_folder("other")


def test_an_enlarged_picture_is_unpadded_by_as_much_and_another_size_is_refused():
    padded, padding = run("EditKitPadToMultiple", image=image(), multiple=32)
    larger = padded.repeat_interleave(2, 1).repeat_interleave(2, 2)
    assert run("EditKitUnpad", image=larger, padding=padding)[0].shape[1:3] == (140, 180)
    with pytest.raises(EditError, match="90x96 px cannot be unpadded: it was padded to 96x96"):
        run("EditKitUnpad", image=padded[:, :, :90], padding=padding)


def test_a_mirror_needs_enough_pixels():
    with pytest.raises(EditError, match="side of 5 px cannot be mirrored by 27 px"):
        run("EditKitPadToMultiple", image=image(h=5), multiple=32, fill="reflect")


@pytest.mark.parametrize("batches", [(1, 2), (2, 1), (2, 2)])
def test_one_picture_serves_a_batch_of_edits_and_one_edit_a_batch_of_pictures(batches):
    picture, edited = image(4, batches[0]), 1 - image(batch=batches[1])
    out = run("EditKitComposite", image=picture, edited=edited, mask=mask())[0]
    assert out.shape == (2, 70, 90, 4)
    assert torch.equal(out[..., 3], picture[..., 3].expand(2, -1, -1))


def test_batches_that_do_not_fit_are_refused():
    with pytest.raises(EditError, match="3 edited pictures do not fit 2"):
        run("EditKitComposite", image=image(batch=2), edited=image(batch=3), mask=mask())
    crop, _, place = run("EditKitCropAroundMask", image=image(batch=2), mask=mask(), minimum=16)
    with pytest.raises(EditError, match="3 edited pictures do not fit 2"):
        run("EditKitStitch", image=image(batch=2), edited=crop[:1].repeat(3, 1, 1, 1), crop=place)


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("EditKitGrowMask", {}),
        ("EditKitShrinkMask", {}),
        ("EditKitFeatherMask", {}),
        ("EditKitMaskStrength", {}),
        ("EditKitCropAroundMask", {"image": image(4)}),
        ("EditKitComposite", {"image": image(4), "edited": 1 - image()}),
    ],
)
def test_region_nodes_leave_their_inputs_alone(name, inputs):
    inputs = {**inputs, "mask": 0.5 * mask()}
    kept = {key: value.clone() for key, value in inputs.items()}
    run(name, **inputs)
    assert all(torch.equal(inputs[key], kept[key]) for key in inputs)
