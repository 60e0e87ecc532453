"""The stand-ins give the numbers and names of ComfyUI's own nodes."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from editkit.headless import folders, names, standins
from editkit.headless.errors import EditError, PromptRefused
from editkit.headless.folders import Folders


@pytest.fixture
def places(tmp_path):
    (tmp_path / "in").mkdir()
    with folders.use(
        Folders(inputs=(tmp_path / "in",), output=tmp_path / "out", temp=tmp_path / "temp")
    ) as made:
        yield made


def test_a_picture_is_loaded_by_name_from_the_input_folder(places, runner, graph):
    Image.new("RGB", (6, 4), (255, 0, 0)).save(places.inputs[0] / "red.png")
    work = graph(
        a=("LoadImage", {"image": "red.png"}), s=("SaveImage", {"images": ["a", 0], "filename_prefix": "r"})
    )
    run = runner().run(work)
    assert run.outputs["s"]["images"] == [{"filename": "r_00001_.png", "subfolder": "", "type": "output"}]
    assert np.array(Image.open(places.output / "r_00001_.png"))[0, 0].tolist() == [255, 0, 0]


def test_a_path_from_the_working_folder_comes_first(places, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("L", (1, 1)).save(places.inputs[0] / "a.png")
    assert folders.find_picture("a.png") == places.inputs[0] / "a.png"
    Image.new("L", (1, 1)).save(tmp_path / "a.png")
    assert folders.find_picture("a.png").resolve() == tmp_path / "a.png"
    assert folders.find_picture(str(tmp_path / "a.png")) == tmp_path / "a.png"
    assert folders.find_picture("a.png [input]") == places.inputs[0] / "a.png"
    assert folders.find_picture("a.png [output]") is None and folders.find_picture("") is None


def test_a_picture_that_is_not_there_is_refused_before_the_run(places, runner, graph):
    work = graph(a=("LoadImage", {"image": "gone.png"}), s=("PreviewImage", {"images": ["a", 0]}))
    with pytest.raises(PromptRefused) as caught:
        runner().run(work)
    (only,) = caught.value.node_errors["a"]["errors"]
    assert only["type"] == "custom_validation_failed"
    assert only["details"].startswith("image - Invalid image file: gone.png")
    assert str(places.inputs[0]) in str(caught.value)


def test_a_file_that_changes_is_read_again(places, runner, graph):
    path, run_it = places.inputs[0] / "a.png", runner()
    work = graph(a=("LoadImage", {"image": "a.png"}), out=("Show", {"value": ["a", 0]}))
    for grey in (0, 255):
        Image.new("L", (1, 1), grey).save(path)
        (image,) = run_it.run(work).outputs["out"]["seen"]
        assert image.flatten()[0] == grey / 255


def test_a_mask_is_loaded_from_its_channel(places, runner, graph):
    Image.new("RGB", (2, 1), (51, 0, 0)).save(places.inputs[0] / "m.png")
    work = graph(a=("LoadImageMask", {"image": "m.png", "channel": "red"}), out=("Show", {"value": ["a", 0]}))
    (mask,) = runner().run(work).outputs["out"]["seen"]
    assert mask.shape == (1, 1, 2) and torch.allclose(mask, torch.tensor(0.2))


def test_saved_pictures_carry_prompt_and_workflow_and_count_on(places, runner, graph):
    empty = {"width": 2, "height": 2, "batch_size": 2, "color": 0}
    work = graph(e=("EmptyImage", empty), s=("SaveImage", {"images": ["e", 0], "filename_prefix": "a/b"}))
    for _ in range(2):
        runner().run(work, extra_data={"extra_pnginfo": {"workflow": {"nodes": []}, "note": "hi"}})
    found = sorted(p.name for p in (places.output / "a").iterdir())
    assert found == [f"b_0000{n}_.png" for n in (1, 2, 3, 4)]
    with Image.open(places.output / "a" / found[0]) as picture:
        assert json.loads(picture.info["prompt"]) == work
        assert (
            json.loads(picture.info["workflow"]) == {"nodes": []} and json.loads(picture.info["note"]) == "hi"
        )


def test_a_preview_goes_to_the_temporary_folder(places, runner, graph):
    empty = {"width": 2, "height": 2, "batch_size": 1, "color": 0}
    run = runner().run(graph(e=("EmptyImage", empty), p=("PreviewImage", {"images": ["e", 0]})))
    (shown,) = run.outputs["p"]["images"]
    assert shown["type"] == "temp" and shown["filename"].startswith("ComfyUI_temp_")
    assert (places.temp / shown["filename"]).is_file() and not places.output.exists()


def test_saving_elsewhere_saves_again(places, runner, graph, tmp_path):
    empty = {"width": 2, "height": 2, "batch_size": 1, "color": 0}
    work = graph(e=("EmptyImage", empty), s=("SaveImage", {"images": ["e", 0], "filename_prefix": "a"}))
    run_it = runner()
    run_it.run(work)
    with folders.use(Folders(output=tmp_path / "other")):
        run_it.run(work)
    assert (tmp_path / "other" / "a_00001_.png").is_file()


@pytest.mark.parametrize("prefix", ["../evil", "a/../../evil", "..", "/etc/evil"])
def test_a_prefix_does_not_lead_out_of_the_output_folder(tmp_path, prefix):
    with pytest.raises(EditError, match="leads out of the output folder"):
        names.save_place(tmp_path / "out", prefix, 1, 1)


def test_prefixes_may_hold_sizes_dates_and_batch_numbers(tmp_path):
    place = names.save_place(tmp_path, "p_%width%x%height%_%batch_num%", 30, 20)
    assert [place.path(n).name for n in (0, 1)] == ["p_30x20_0_00001_.png", "p_30x20_1_00002_.png"]
    assert len(names.save_place(tmp_path, "%year%%month%%day%", 1, 1).stem) == 8


def test_counting_on_ignores_other_files(tmp_path):
    for name in ("a_00007_.png", "ab_00099_.png", "a_x_.png", "a.png", "a_00003_.jpg"):
        (tmp_path / name).write_text("")
    assert names.save_place(tmp_path, "a", 1, 1).counter == 8


def scale(image, method, width, height, crop="disabled"):
    return standins.ImageScale().upscale(image, method, width, height, crop)[0]


@pytest.mark.parametrize("method", ["nearest-exact", "bilinear", "area", "bicubic"])
def test_scaling_is_torchs_interpolation(method):
    image = torch.rand(2, 6, 8, 3)
    expected = torch.nn.functional.interpolate(image.movedim(-1, 1), size=(9, 5), mode=method).movedim(1, -1)
    assert torch.equal(scale(image, method, 5, 9), expected)


def test_lanczos_scaling_is_pillows_in_eight_bits():
    image = torch.rand(2, 6, 8, 3)
    picture = Image.fromarray((image[1].numpy() * 255).astype(np.uint8)).resize(
        (5, 9), Image.Resampling.LANCZOS
    )
    expected = torch.from_numpy(np.array(picture).astype(np.float32) / 255)
    assert torch.equal(scale(image, "lanczos", 5, 9)[1], expected)


def test_a_side_of_zero_follows_from_the_other(tmp_path):
    image = torch.rand(1, 6, 8, 3)
    assert scale(image, "bilinear", 4, 0).shape == (1, 3, 4, 3)
    assert scale(image, "bilinear", 0, 12).shape == (1, 12, 16, 3)
    assert scale(image, "bilinear", 0, 0) is image


def test_cropping_to_the_centre_cuts_both_sides():
    image = torch.arange(8.0).reshape(1, 1, 8, 1).expand(1, 4, 8, 3)
    assert scale(image, "nearest-exact", 4, 4, "center")[0, 0, :, 0].tolist() == [2, 3, 4, 5]


def test_masks_and_images_turn_into_each_other():
    mask = torch.rand(2, 3, 4)
    (image,) = standins.MaskToImage().mask_to_image(mask)
    assert image.shape == (2, 3, 4, 3) and torch.equal(image[..., 1], mask)
    assert torch.equal(standins.ImageToMask().image_to_mask(image, "blue")[0], mask)
    assert standins.MaskToImage().mask_to_image(mask[0])[0].shape == (1, 3, 4, 3)
    with pytest.raises(ValueError, match="no alpha one"):
        standins.ImageToMask().image_to_mask(image, "alpha")


def test_an_empty_image_has_its_colour():
    (image,) = standins.EmptyImage().generate(3, 2, 2, 0xFF8000)
    assert image.shape == (2, 2, 3, 3)
    assert torch.equal(image[1, 1, 2], torch.tensor([1.0, 0x80 / 0xFF, 0.0]))


@pytest.mark.parametrize(
    ("kind", "value", "type_"),
    [("Int", -5, "INT"), ("Float", 0.5, "FLOAT"), ("String", "a", "STRING"), ("Boolean", True, "BOOLEAN")],
)
def test_primitives(runner, graph, kind, value, type_):
    run = runner().run(graph(p=(f"Primitive{kind}", {"value": value}), out=("Show", {"value": ["p", 0]})))
    assert run.outputs["out"]["seen"] == [value]
    assert (type_,) == standins.STANDINS[f"Primitive{kind}"].RETURN_TYPES


def test_a_registered_node_comes_before_its_stand_in(monkeypatch):
    import editkit.nodes
    from editkit.headless.registry import node_classes

    own = type("LoadImage", (), {})
    monkeypatch.setitem(editkit.nodes.NODE_CLASS_MAPPINGS, "LoadImage", own)
    assert node_classes()["LoadImage"] is own and "KSampler" not in node_classes()
