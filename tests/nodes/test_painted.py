"""Painted masks in Python: which file a name means, what is refused, and what each node makes of it."""

import json
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from editkit.headless import folders, workflow
from editkit.headless.errors import NodeFailed, PromptRefused
from editkit.headless.execute import Runner
from editkit.headless.registry import node_classes
from editkit.models.errors import EditError
from editkit.models.kontext import references
from editkit.nodes import NODE_CLASS_MAPPINGS, swiftedit_edit
from editkit.nodes.host import painted, prompts, swiftedit, turns
from editkit.nodes.painting import WIDGET, TakesPaint
from editkit.tests.nodes.test_blazeedit import image, mask, run

PAINTED = sorted(name for name, cls in NODE_CLASS_MAPPINGS.items() if issubclass(cls, TakesPaint))


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """An input folder of a runner, with a painted mask in it; the working folder is another."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    folder = tmp_path / "input"
    (folder / "editkit").mkdir(parents=True)
    save(mask()[0], folder / "editkit" / "m.png")
    save(image()[0], folder / "photo.png")
    node_classes()
    with folders.use(folders.Folders(inputs=(folder,), output=tmp_path / "out", temp=tmp_path / "temp")):
        yield folder


def save(values, path):
    Image.fromarray((255 * values).round().to(torch.uint8).numpy()).save(path)


def prompt(**edit) -> dict:
    """Remove Object on photo.png, as API JSON."""
    settings = {"shadow": False, "texture": True, "grow": 0, "feather": 4, "seed": 0, "engine": "torch"}
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": "photo.png"}},
        "2": {"class_type": "LoadImageMask", "inputs": {"image": "editkit/m.png", "channel": "red"}},
        "3": {"class_type": "EditKitRemoveObject", "inputs": {"image": ["1", 0], **settings, **edit},
              "_meta": {"title": "edit"}},
        "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "x"}},
    }  # fmt: skip


def saved(runner, work, tmp_path) -> np.ndarray:
    done = runner.run(work)
    (shown,) = done.outputs["4"]["images"]
    with Image.open(folders.current().output / shown["filename"]) as file:
        return np.asarray(file)


def test_the_widget_comes_last_and_leaves_the_other_inputs_where_they_were():
    assert len(PAINTED) == 14
    for name in PAINTED:
        cls, types = NODE_CLASS_MAPPINGS[name], NODE_CLASS_MAPPINGS[name].INPUT_TYPES()
        kind, options = types["optional"]["mask_paint"]
        assert [*types["optional"]][-1] == "mask_paint" and kind == "STRING" and options["default"] == ""
        assert options["widgetType"] == WIDGET and options["socketless"] and options["over"] == cls.OVER
        assert types["optional"][cls.OVER][0] == "MASK" and options["opens"] == cls.NEEDS_MASK


def test_a_painted_mask_edits_as_the_same_mask_does_when_it_is_linked(inputs, tmp_path):
    runner = Runner(node_classes())
    by_link = saved(runner, prompt(mask=["2", 0]), tmp_path)
    by_paint = saved(runner, prompt(mask_paint="editkit/m.png"), tmp_path)
    assert np.array_equal(by_paint, by_link)
    original = np.asarray(Image.open(inputs / "photo.png"))
    assert (by_paint != original).any()


def test_a_linked_mask_goes_before_it(inputs, tmp_path):
    save(1 - mask()[0], inputs / "editkit" / "other.png")
    runner = Runner(node_classes())
    both = saved(runner, prompt(mask=["2", 0], mask_paint="editkit/other.png"), tmp_path)
    assert np.array_equal(both, saved(runner, prompt(mask=["2", 0]), tmp_path))
    both = saved(runner, prompt(mask=["2", 0], mask_paint="editkit/gone.png"), tmp_path)  # and is not looked for
    assert np.array_equal(both, saved(runner, prompt(mask=["2", 0]), tmp_path))


def test_the_command_line_sets_it_by_title(inputs, tmp_path):
    work, registry = prompt(), node_classes()
    workflow.assign(work, "edit.mask_paint=editkit/m.png", registry)
    by_title = saved(Runner(registry), work, tmp_path)
    assert np.array_equal(by_title, saved(Runner(registry), prompt(mask=["2", 0]), tmp_path))


def test_painting_over_the_file_makes_the_node_run_again_and_nothing_else_does(inputs):
    runner = Runner(node_classes())
    work = prompt(mask_paint="editkit/m.png")
    cached = [runner.run(work).messages for _ in range(2)][1]
    assert "3" in next(d["nodes"] for e, d in cached if e == "execution_cached")
    save(torch.roll(mask()[0], 8, 0), inputs / "editkit" / "m.png")
    again = runner.run(work).messages
    assert "3" not in next(d["nodes"] for e, d in again if e == "execution_cached")


def test_its_size_and_its_grey_are_kept_as_a_linked_masks_are(inputs):
    soft = torch.zeros(35, 45)
    soft[10:20, 15:30] = 128 / 255
    save(soft, inputs / "editkit" / "half.png")
    picture = image()
    with torch.inference_mode():
        out, changed = run("EditKitRemoveObject", image=picture, mask_paint="editkit/half.png", shadow=False)
        same, region = run("EditKitRemoveObject", image=picture, mask=soft[None], shadow=False)
    assert torch.allclose(changed, region, atol=1e-3) and torch.allclose(out, same, atol=1e-3)
    assert 0.4 < float(changed.max()) < 0.6


@pytest.mark.parametrize("name", ["EditKitTone", "EditKitRelight", "EditKitSticker"])
def test_every_blazeedit_node_takes_it(inputs, name):
    painted_edit = run(name, image=image(), mask_paint="editkit/m.png")
    linked_edit = run(name, image=image(), mask=mask())
    whole = run(name, image=image()) if name != "EditKitSticker" else None
    assert torch.allclose(painted_edit[0], linked_edit[0], atol=1e-6)
    assert whole is None or not torch.allclose(painted_edit[0], whole[0], atol=1e-3)


def test_region_icedit_and_kontext_nodes_take_it(inputs):
    crops = [run("EditKitCropAroundMask", image=image(), minimum=16, **given)
             for given in ({"mask": mask()}, {"mask_paint": "editkit/m.png"})]  # fmt: skip
    assert torch.equal(crops[0][1], crops[1][1]) and crops[0][2] == crops[1][2]
    fits = [run("EditKitKontextFit", image=image(), **given)[2]
            for given in ({"mask": mask()}, {"mask_paint": "editkit/m.png"})]  # fmt: skip
    assert torch.equal(fits[0], fits[1]) and float(fits[0].min()) == 0
    save(torch.ones(700, 900), inputs / "editkit" / "large.png")  # larger than the picture, which a link may not be
    given = {"mask": mask()}, {"mask_paint": "editkit/m.png"}, {"mask_paint": "editkit/large.png"}
    pairs = [run("EditKitICEditDiptych", image=image(), instruction="x", **one)[1] for one in given]
    assert torch.equal(pairs[0], pairs[1]) and float(pairs[2].max()) == 1
    (hold,) = run("EditKitEditMGTRegionHold", mask_paint="editkit/m.png")
    assert torch.allclose(hold.mask, mask(), atol=1e-6)


def test_luminance_and_transparency_make_the_strength(inputs):
    colours = torch.zeros(4, 6, 4)
    colours[..., 0], colours[..., 3] = 1.0, 128 / 255
    save(colours, inputs / "red.png")
    assert torch.allclose(painted.read("red.png"), torch.full((1, 4, 6), 76 / 255 * 128 / 255), atol=1e-6)
    Image.fromarray(np.full((4, 6), 40000, np.uint16)).save(inputs / "deep.png")
    assert float(painted.read("deep.png").max()) == pytest.approx(40000 / 65535)


@pytest.mark.parametrize("name", ["m.png", "m.png [input]", "x/../m.png"])
def test_names_within_the_folder(inputs, name):
    (inputs / "m.png").write_bytes((inputs / "editkit" / "m.png").read_bytes())
    assert painted.find(name) == inputs / "m.png"


@pytest.mark.parametrize("name", ["../secret.png", "editkit/../../secret.png [input]", "/secret.png", "..", "\0", "."])
def test_a_name_that_leads_out_of_the_folder_is_refused(inputs, name):
    save(mask()[0], inputs.parent / "secret.png")
    name = name.replace("/secret.png", str(inputs.parent / "secret.png")) if name.startswith("/") else name
    for attempt in (lambda: painted.find(name), lambda: painted.read(name), lambda: painted.digest(name)):
        with pytest.raises(EditError, match=r"lies outside of the input folder; paint it again, or wire a mask\.$"):
            attempt()
    with pytest.raises(PromptRefused, match="lies outside"):
        Runner(node_classes()).run(prompt(mask_paint=name))


def test_a_mask_that_vanished_is_named_before_the_run(inputs):
    with pytest.raises(PromptRefused) as refused:
        Runner(node_classes()).run(prompt(mask_paint="editkit/gone.png"))
    said = "The painted mask 'editkit/gone.png' is not in the input folder any more; paint it again, or wire a mask."
    assert said in str(refused.value)
    (errors,) = [entry["errors"] for entry in refused.value.node_errors.values()]
    assert [e["type"] for e in errors] == ["custom_validation_failed"]


def bomb() -> bytes:
    """A PNG that says it has 30000 x 30000 pixels."""
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda data: data[: len(data) // 2], "is damaged or no picture; paint it again, or wire a mask."),
        (lambda data: b"no picture at all", "is damaged or no picture; paint it again, or wire a mask."),
        (lambda data: b"", "is damaged or no picture; paint it again, or wire a mask."),
        (lambda data: bomb(), "is too large to be read; scale it down."),
    ],
)
def test_a_damaged_or_huge_file_is_one_sentence(inputs, spoil, said):
    path = inputs / "editkit" / "m.png"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(NodeFailed) as failed:
        Runner(node_classes()).run(prompt(mask_paint="editkit/m.png"))
    assert str(failed.value) == f"'edit' (EditKitRemoveObject): The painted mask 'editkit/m.png' {said}"


def test_a_file_over_the_limit_is_told_its_size(inputs, monkeypatch):
    monkeypatch.setattr(painted, "MOST_PIXELS", 6000)
    with pytest.raises(EditError, match="has 90x70 pixels, more than 0 million; scale it down"):
        painted.read("editkit/m.png")


@pytest.mark.parametrize("name", [n for n in PAINTED if NODE_CLASS_MAPPINGS[n].NEEDS_MASK])
def test_without_paint_and_link_a_node_that_needs_a_mask_says_so(inputs, name):
    cls = NODE_CLASS_MAPPINGS[name]
    assert cls.VALIDATE_INPUTS(mask_paint="") == "Paint a mask on the node, or wire one; white is the region to edit."
    assert cls.VALIDATE_INPUTS(mask_paint="", mask=None) is True  # linked


def test_without_either_the_run_itself_says_so_as_well(inputs):
    work = prompt()
    with pytest.raises(NodeFailed, match="needs a mask"):
        Runner(node_classes()).run(work)
    with pytest.raises(PromptRefused, match="Paint a mask on the node, or wire one"):
        Runner(node_classes()).run(prompt(mask_paint=""))
    with pytest.raises(EditError, match="Crop Around Mask needs a mask; paint one on the node, or wire one"):
        run("EditKitCropAroundMask", image=image(), minimum=16)


def test_a_name_from_another_node_is_read_at_every_run(inputs, tmp_path):
    work = prompt(mask_paint=["5", 0])
    work["5"] = {"class_type": "PrimitiveString", "inputs": {"value": "editkit/m.png"}}
    runner = Runner(node_classes())
    assert np.array_equal(saved(runner, work, tmp_path), saved(runner, prompt(mask=["2", 0]), tmp_path))
    assert json.dumps(NODE_CLASS_MAPPINGS["EditKitTone"].IS_CHANGED(mask_paint=None)) == "NaN"


def test_kontexts_target_mask_and_turn_take_it(inputs, monkeypatch):
    latent, text = {"samples": torch.zeros(1, 16, 6, 6)}, [[torch.zeros(1, 4, 8), {}]]
    one, other = (run("EditKitKontextReference", conditioning=text, latent=latent, **given)[0][0][1]
                  for given in ({"target_mask": mask()}, {"mask_paint": "editkit/m.png"}))  # fmt: skip
    linked, found = (references.chain(values)[0] for values in (one, other))
    assert torch.equal(linked.target_mask, found.target_mask) and found.mask is None
    monkeypatch.setattr(turns, "channels", lambda model: 16)
    monkeypatch.setattr(turns, "with_turn", lambda model: model)
    held = [run("EditKitKontextTurn", model=None, conditioning=text, latent=latent, **given)[2]["noise_mask"]
            for given in ({"mask": mask()}, {"mask_paint": "editkit/m.png"})]  # fmt: skip
    assert torch.equal(held[0], held[1]) and 0 < float(held[0].mean()) < 1


def test_swiftedits_m_is_what_is_painted(inputs, monkeypatch):
    monkeypatch.setattr(swiftedit, "with_aram", lambda model, embedding, region, aram: region)
    monkeypatch.setattr(swiftedit, "encoded_image", lambda clip_vision, picture: None)
    aram = {"model": None, "clip_vision": None, "image": image()}
    assert torch.allclose(run("EditKitSwiftEditARaM", **aram, mask_paint="editkit/m.png")[0], mask(), atol=1e-6)
    assert torch.equal(run("EditKitSwiftEditARaM", **aram, mask=1 - mask(), mask_paint="editkit/m.png")[0], 1 - mask())
    with pytest.raises(EditError, match="SwiftEdit ARaM needs a mask; paint one on the node"):
        run("EditKitSwiftEditARaM", **aram)


@pytest.mark.parametrize("name", ["EditKitSwiftEdit", "EditKitSwiftEditScaleSweep"])
def test_swiftedit_in_one_node_takes_it(inputs, monkeypatch, name):
    class Seen(Exception):
        pass

    def seen(region, count):
        raise Seen(region)

    monkeypatch.setattr(swiftedit, "need_comfyui", lambda what: None)
    monkeypatch.setattr(prompts, "encoded", lambda clip, texts: [[torch.zeros(1, 4, 8), {}]])
    monkeypatch.setattr(swiftedit_edit, "encoded", lambda *arguments: None)
    monkeypatch.setattr(swiftedit_edit, "_check_masks", seen)
    parts = dict.fromkeys(("inversion", "generator", "clip", "vae", "clip_vision"))
    with pytest.raises(Seen) as caught:
        run(name, **parts, image=image(), mask_paint="editkit/m.png")
    assert torch.allclose(caught.value.args[0], mask(), atol=1e-6)
