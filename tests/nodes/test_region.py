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


def test_models_beside_the_custom_nodes_folder_are_found_without_comfyui(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "PACK", tmp_path / "ComfyUI" / "custom_nodes" / "my.pack")
    monkeypatch.chdir(tmp_path)
    assert folders.roots() == [tmp_path / "ComfyUI" / "models" / "editkit", tmp_path / "models" / "editkit"]


def test_a_picture_too_small_to_be_mirrored_is_refused_with_its_size():
    with pytest.raises(EditError, match="90x70 px is too small.*multiple of 512"):
        run("EditKitPadToMultiple", image=image(), fill="reflect", multiple=512)


def test_unpadding_a_picture_smaller_than_its_padding_is_refused():
    _, padding = run("EditKitPadToMultiple", image=image(), multiple=64)
    with pytest.raises(EditError, match="3x3 px does not hold a padding of 38x58"):
        run("EditKitUnpad", image=image(h=3, w=3), padding=padding)


def cropped(batch=1):
    picture, region = image(batch=batch, h=150, w=200), mask(150, 200)
    return picture, region, *run("EditKitCropAroundMask", image=picture, mask=region, minimum=16)


def test_one_edited_crop_serves_a_batch_and_one_picture_several_edits():
    picture, _, crop, _, place = cropped(batch=2)
    out = run("EditKitStitch", image=picture, edited=1 - crop[:1], crop=place)[0]
    assert torch.equal(out[0][place.window[1:] + (slice(None),)], 1 - crop[0])
    assert run("EditKitStitch", image=picture[:1], edited=crop, crop=place)[0].shape[0] == 2
    assert run("EditKitComposite", image=image(4), edited=image(batch=3), mask=mask())[0].shape == (3, 70, 90, 4)


@pytest.mark.parametrize("name", ["EditKitStitch", "EditKitComposite"])
def test_edited_batches_that_do_not_fit_are_said_in_one_sentence(name):
    given = {"image": image(batch=2), "edited": image(batch=3), "mask": mask()}
    if name == "EditKitStitch":
        given["crop"] = cropped()[-1]
    with pytest.raises(EditError, match="3 edited pictures do not fit 2 originals"):
        run(name, **given)


def test_stitching_takes_the_crops_mask_the_pictures_mask_and_no_other():
    picture, region, crop, crop_mask, place = cropped()
    given = {"image": picture, "edited": 1 - crop, "crop": place, "feather": 0}
    by_crop = run("EditKitStitch", **given, mask=crop_mask)[0]
    assert torch.equal(by_crop, run("EditKitStitch", **given, mask=region)[0])
    black = torch.zeros(1, 64, 64)
    assert torch.equal(run("EditKitStitch", **given, mask=black)[0], run("EditKitStitch", **given)[0])
    with pytest.raises(EditError, match="mask of 100x75 px fits neither the picture"):
        run("EditKitStitch", **given, mask=mask(75, 100))
