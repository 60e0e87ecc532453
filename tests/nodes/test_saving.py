"""Save Edited Image in the headless runner: names, formats, credentials, and what goes wrong."""

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from editkit.headless import folders, pictures
from editkit.headless.errors import NodeFailed, PromptRefused
from editkit.headless.execute import Runner
from editkit.headless.registry import node_classes
from editkit.models import picture_file
from editkit.models.errors import EditError
from editkit.nodes.host import saving

NODE = "EditKitSaveEditedImage"
INPUTS = {"filename_prefix": "sub/x", "format": "png", "quality": 95, "credentials": "off"}


class Brighten:
    """Stands for an edit; counts its runs."""

    CATEGORY, FUNCTION, RETURN_TYPES, RETURN_NAMES = "EditKit/blazeedit", "run", ("IMAGE", "MASK"), ("image", "changed")
    runs = 0

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",)}, "optional": {"alpha": ("FLOAT", {"default": 1.0})}}

    def run(self, *, image, alpha=None):
        type(self).runs += 1
        mask = torch.zeros(image.shape[:3])
        mask[:, 2:6, 3:9] = 1
        image = torch.where(mask[..., None] > 0, 1.0, image)
        if alpha is not None:
            image = torch.cat([image, torch.full((*image.shape[:3], 1), alpha)], -1)
        return image, mask


@pytest.fixture
def place(tmp_path, monkeypatch, settings):
    """A working folder with photo.png (12 x 10), and a runner that saves below out/."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 200, (10, 12, 3), np.uint8)).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    Brighten.runs = 0
    registry = node_classes()
    import editkit.nodes

    monkeypatch.setitem(editkit.nodes.NODE_CLASS_MAPPINGS, "EditKitBrighten", Brighten)
    monkeypatch.setitem(editkit.nodes.NODE_DISPLAY_NAME_MAPPINGS, "EditKitBrighten", "Brighten")
    runner = Runner({**registry, "EditKitBrighten": Brighten})

    def run(graph, extra=None, **places):
        with folders.use(folders.Folders(output=tmp_path / "out", **places)):
            return runner.run(graph, extra_data={"extra_pnginfo": extra} if extra else None)

    return run


def graph(file="photo.png", edit=None, **inputs):
    """LoadImage → Brighten → Save Edited Image with source and mask."""
    wires = {"images": ["2", 0], "source": ["1", 0], "mask": ["2", 1]}
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": str(file)}},
        "2": {"class_type": "EditKitBrighten", "inputs": {"image": ["1", 0], **(edit or {})}},
        "3": {"class_type": NODE, "inputs": {**INPUTS, **wires, **inputs}},
    }


def saved(run):
    return [image["filename"] for image in run.outputs["3"]["images"]]


def credentials(file, kind="image/png"):
    pytest.importorskip("c2pa", reason="needs requirements-c2pa.txt")
    from editkit.models.provenance import reading

    return reading.read(file, kind)


def test_it_saves_as_saveimage_does(place, tmp_path):
    work = graph()
    work["4"] = {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "other/x"}}
    run = place(work, {"workflow": {"nodes": []}})
    assert run.outputs["3"]["images"] == [{"filename": "x_00001_.png", "subfolder": "sub", "type": "output"}]
    ours, cores = (tmp_path / "out" / name / "x_00001_.png" for name in ("sub", "other"))
    assert ours.read_bytes() == cores.read_bytes()
    assert picture_file.workflow(ours) == {"prompt": work, "workflow": {"nodes": []}}


def test_numbers_go_on_over_both_formats(place, tmp_path):
    names = [saved(place(graph(format=f, quality=q))) for f, q in (("png", 95), ("jpeg", 90), ("png", 80))]
    assert names == [["x_00001_.png"], ["x_00002_.jpg"], ["x_00003_.png"]]
    with Image.open(tmp_path / "out/sub/x_00002_.jpg") as picture:
        assert picture.format == "JPEG"
    assert picture_file.workflow(tmp_path / "out/sub/x_00002_.jpg")["prompt"]["3"]["inputs"]["quality"] == 90


def test_a_batch_is_a_file_each(place, tmp_path):
    frames = [Image.new("RGB", (8, 6), (n, n, n)) for n in (10, 20, 30)]
    frames[0].save(tmp_path / "many.png", save_all=True, append_images=frames[1:])
    run = place(graph("many.png", filename_prefix="f%batch_num%"))
    assert saved(run) == ["f0_00001_.png", "f1_00002_.png", "f2_00003_.png"]
    with Image.open(tmp_path / "out/f2_00003_.png") as picture:
        assert picture.getpixel((0, 0)) == (30, 30, 30)


def test_transparency_is_kept_and_a_jpeg_of_it_becomes_a_png_and_says_so(place, tmp_path):
    run = place(graph(format="jpeg", edit={"alpha": 0.5}))
    assert saved(run) == ["x_00001_.png"] and "cannot hold its transparency" in run.outputs["3"]["text"][0]
    with Image.open(tmp_path / "out/sub/x_00001_.png") as picture:
        assert picture.mode == "RGBA" and picture.getpixel((0, 0))[3] == 127
    assert saved(place(graph(format="jpeg", edit={"alpha": 1.0}))) == ["x_00002_.jpg"]


def test_a_workflow_too_large_for_a_jpeg_is_left_out_and_it_says_so(place):
    run = place(graph(format="jpeg"), {"workflow": {"nodes": ["x" * 70000]}})
    assert "x_00001_.jpg carries no workflow" in run.outputs["3"]["text"][0]


def test_a_decided_name_decides_the_format(place, tmp_path):
    place(graph(), name=lambda number: tmp_path / "here.jpg", profile=b"icc")
    with Image.open(tmp_path / "here.jpg") as picture:
        assert picture.format == "JPEG" and picture.info["icc_profile"] == b"icc"
    with pytest.raises(NodeFailed, match="here.bmp is neither a PNG nor a JPEG"):
        place(graph(), name=lambda number: tmp_path / "here.bmp")


def test_results_that_go_elsewhere_are_saved_again(place, tmp_path):
    place(graph())
    place(graph())
    assert [p.name for p in (tmp_path / "out/sub").iterdir()] == ["x_00001_.png"], "nothing changed"
    place(graph(), name=lambda number: tmp_path / "there.png")
    assert (tmp_path / "there.png").is_file() and Brighten.runs == 1


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_signed_with_its_history(place, tmp_path, kind):
    name = saved(place(graph(format=kind, credentials="self-signed")))[0]
    found = credentials(tmp_path / "out/sub" / name, f"image/{kind}")
    assert found.state == "valid" and "self-signed" in found.sentence
    assert found.entry.title == name and found.entry.sources[0].title == "photo.png"
    assert "BlazeEdit" in found.entry.actions[1] and "(Brighten)" in found.entry.actions[1]
    assert found.entry.actions[1].endswith("in 6x4+3+2") and found.region


def test_an_edit_of_an_edit_keeps_the_chain(place, tmp_path):
    place(graph(credentials="self-signed"))
    place(graph("out/sub/x_00001_.png", credentials="self-signed", format="jpeg"))
    found = credentials(tmp_path / "out/sub/x_00002_.jpg", "image/jpeg")
    (source,) = found.entry.sources
    assert (source.title, source.state) == ("x_00001_.png", "valid")
    assert source.entry.sources[0].title == "photo.png"


def test_pixels_that_no_file_has_are_the_source_themselves(place, tmp_path):
    work = graph(credentials="self-signed", source=["2", 0])
    place(work)
    (source,) = credentials(tmp_path / "out/sub/x_00001_.png").entry.sources
    assert (source.title, source.state) == ("source.png", "none")


def test_a_file_that_was_exchanged_is_not_named_as_the_source(place, tmp_path):
    place(graph())
    Image.new("RGB", (12, 10)).save(tmp_path / "photo.png")  # after it was loaded
    source = torch.ones(1, 10, 12, 3)
    from editkit.nodes.host.sources import sources

    with folders.use(folders.Folders(output=tmp_path / "out")):
        assert [s.title for s in sources(source, graph(), "3", lambda kind: True)] == ["source.png"]
        (found,) = sources(pictures.read(tmp_path / "photo.png")[0], graph(), "3", lambda kind: True)
        assert found.title == "photo.png" and found.data == (tmp_path / "photo.png").read_bytes()
        half = sources(pictures.read(tmp_path / "photo.png")[0].half(), graph(), "3", lambda kind: True)
        assert half[0].title == "photo.png", "ComfyUI may keep pictures in half precision"


def test_a_black_64_mask_is_no_region_and_another_size_is_fitted(place, tmp_path):
    place(graph(credentials="self-signed", mask=["1", 1]))  # LoadImage's mask of a photo without alpha
    assert credentials(tmp_path / "out/sub/x_00001_.png").region is None


def test_without_the_library_nothing_is_run(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "c2pa", None)
    with pytest.raises(PromptRefused, match="pip install -r requirements-c2pa.txt") as refusal:
        place(graph(credentials="self-signed"))
    assert Brighten.runs == 0 and len(str(refusal.value).splitlines()) == 1
    assert saved(place(graph())) == ["x_00001_.png"], "unsigned it goes on"


def test_a_certificate_that_cannot_sign_is_refused_before_the_edit(place, tmp_path, monkeypatch):
    pytest.importorskip("c2pa", reason="needs requirements-c2pa.txt")
    from editkit.tests.certificates import issue

    with pytest.raises(PromptRefused, match="no certificate to sign with"):
        place(graph(credentials="certificate"))
    for said, pair in (
        ("expired on", issue(start=-9, end=-5)),
        ("does not belong", (issue()[0], issue()[1])),
        ("cannot sign", issue(usage=None)),
    ):
        for name, data in zip(("CERTIFICATE", "KEY"), pair):
            (tmp_path / f"secret_{name}.pem").write_bytes(data)
            monkeypatch.setenv(f"EDITKIT_C2PA_{name}", str(tmp_path / f"secret_{name}.pem"))
        with pytest.raises(PromptRefused, match=said) as refusal:
            place(graph(credentials="certificate"))
        assert "secret" not in str(refusal.value)
    monkeypatch.setenv("EDITKIT_C2PA_KEY", str(tmp_path / "secret_gone.pem"))
    with pytest.raises(PromptRefused, match="private key that EDITKIT_C2PA_KEY .* cannot be read") as refusal:
        place(graph(credentials="certificate"))
    assert "secret" not in json.dumps(refusal.value.response()) and Brighten.runs == 0


def test_a_choice_that_is_none_is_refused(place):
    with pytest.raises(PromptRefused, match="choose one of off, certificate, self-signed"):
        place(graph(credentials="yes"))


def test_another_certificate_signs_again(place, settings, tmp_path):
    pytest.importorskip("c2pa", reason="needs requirements-c2pa.txt")
    place(graph(credentials="self-signed"))
    place(graph(credentials="self-signed"))
    assert len(list((tmp_path / "out/sub").iterdir())) == 1
    from editkit.models.provenance import keys

    keys.make("Jane Doe")
    place(graph(credentials="self-signed"))
    assert credentials(tmp_path / "out/sub/x_00002_.png").entry.signer == "Jane Doe" and Brighten.runs == 1


def test_a_picture_that_cannot_be_signed_after_all_is_saved_all_the_same(place, tmp_path, monkeypatch):
    pytest.importorskip("c2pa", reason="needs requirements-c2pa.txt")
    from editkit.models.provenance import signing

    once = signing.sign

    def failing(data, kind, story, certificate):
        if story.title != "pixel.png":
            raise EditError("The picture could not be signed: the disk is on fire.")
        return once(data, kind, story, certificate)

    monkeypatch.setattr(signing, "sign", failing)
    with pytest.raises(NodeFailed, match="on fire; x_00001_.png was saved without credentials"):
        place(graph(credentials="self-signed"))
    assert credentials(tmp_path / "out/sub/x_00001_.png").state == "none"


@pytest.mark.parametrize("how", ["off", "self-signed"])
def test_a_folder_that_cannot_be_written_to_is_one_sentence(place, tmp_path, how):
    if how != "off":
        pytest.importorskip("c2pa", reason="needs requirements-c2pa.txt")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/sub").write_text("a file where the folder should be")
    with pytest.raises(NodeFailed, match="Cannot write .*out/sub") as failure:
        place(graph(credentials=how))
    assert len(str(failure.value).splitlines()) == 1


def test_nothing_half_written_is_left_when_the_disk_is_full(place, tmp_path, monkeypatch):
    from editkit.headless import saving as host

    def full(path, fill):
        return once(path, lambda file: (fill(file), file.flush(), _raise(OSError(28, "No space left on device"))))

    once = host.write
    monkeypatch.setattr(host, "write", full)
    with pytest.raises(NodeFailed, match="No space left on device"):
        place(graph())
    assert list((tmp_path / "out/sub").iterdir()) == []


def _raise(problem):
    raise problem


def test_a_prefix_that_leads_out_is_refused(place):
    with pytest.raises(NodeFailed, match="leads out of the output folder"):
        place(graph(filename_prefix="../x"))


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"source": torch.rand(2, 4, 4, 3)}, "2 sources do not fit 3 pictures"),
        ({"mask": torch.rand(2, 4, 4)}, "2 masks do not fit 3 pictures"),
        ({"images": torch.rand(3, 4, 4)}, "not \\[batch, height, width"),
        ({"images": torch.full((1, 4, 4, 3), float("nan"))}, "NaN"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, settings, inputs, said):
    pytest.importorskip("c2pa", reason="needs requirements-c2pa.txt")
    given = {**INPUTS, "credentials": "self-signed", "images": torch.rand(3, 4, 4, 3), **inputs}
    with folders.use(folders.Folders(output=tmp_path / "out")), pytest.raises(EditError, match=said):
        node_classes()[NODE]().run(**given, prompt={}, node_id="1")


def test_outside_of_any_host_it_says_where_it_works(monkeypatch):
    node = node_classes()[NODE]()
    monkeypatch.setattr(saving, "_offered", None)
    with pytest.raises(EditError, match="in ComfyUI or with `python . run`"):
        node.run(**INPUTS, images=torch.rand(1, 4, 4, 3))
