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
