"""Save Edited Image gives in a real ComfyUI what it gives in the headless runner, credentials included."""

import importlib.util
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from editkit.headless import folders
from editkit.headless.execute import Runner
from editkit.headless.registry import node_classes
from editkit.models import picture_file

INSIDE = Path(__file__).resolve().parent / "inside" / "saving.py"
NODE = "EditKitSaveEditedImage"
LIBRARIES = ("c2pa", "cryptography", "cffi", "_cffi_backend", "pycparser")
EXTRA = {"workflow": {"nodes": [], "links": []}}


def prompt(file, **inputs):
    """A photo, scaled, and saved with its source and a region."""
    scale = {"upscale_method": "nearest-exact", "width": 24, "height": 20, "crop": "disabled"}
    saving = {"filename_prefix": "sub/x", "format": "png", "quality": 90, "credentials": "self-signed", **inputs}
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": file}},
        "2": {"class_type": "ImageScale", "inputs": {"image": ["1", 0], **scale}},
        "3": {"class_type": "LoadImageMask", "inputs": {"image": "mask.png", "channel": "red"}},
        "4": {"class_type": "EditKitGrowMask", "inputs": {"mask": ["3", 0], "radius": 1}},
        "5": {"class_type": NODE, "inputs": {"images": ["2", 0], "source": ["1", 0], "mask": ["4", 0], **saving}},
    }


# name → its workflow; a later one edits what an earlier one saved
GIVEN = {
    "first": prompt("photo.png"),
    "second": prompt("sub/x_00001_.png [output]", format="jpeg"),
    "computed": prompt("photo.png", source=["2", 0], filename_prefix="computed"),
    "batch": prompt("many.png", credentials="off", filename_prefix="b%batch_num%"),
    "outside": prompt("photo.png", filename_prefix="../x", credentials="off"),
    "no_certificate": prompt("photo.png", credentials="certificate"),
    "no_choice": prompt("photo.png", credentials="yes"),
}
SAVED = {"first": ["sub/x_00001_.png"], "second": ["sub/x_00002_.jpg"], "computed": ["computed_00001_.png"],
         "batch": ["b0_00001_.png", "b1_00002_.png"]}  # fmt: skip


def make_inputs(folder: Path) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 256, (10, 12, 3), np.uint8) for _ in range(2)]
    photos = [Image.fromarray(p) for p in pixels]
    photos[0].save(folder / "photo.png")
    photos[0].save(folder / "many.png", save_all=True, append_images=photos[1:])
    mask = Image.new("L", (24, 20))
    mask.paste(255, (4, 6, 14, 12))
    mask.save(folder / "mask.png")


def link_libraries(folder: Path) -> None:
    """Puts the c2pa library of this environment where another Python finds it, and nothing else of it."""
    folder.mkdir()
    for name in LIBRARIES:
        found = importlib.util.find_spec(name)
        if found is None:
            pytest.skip(f"needs requirements-c2pa.txt ({name})")
        place = Path(found.origin)
        place = place.parent if place.name == "__init__.py" else place
        (folder / place.name).symlink_to(place)


@pytest.fixture(scope="module")
def both(checkout, root, tmp_path_factory):
    """(name → result, output folder) of ComfyUI and of the headless runner, in that order."""
    folder = tmp_path_factory.mktemp("saving")
    (folder / "output").mkdir()
    link_libraries(folder / "libraries")
    make_inputs(folder / "input")
    (folder / "workflows.json").write_text(json.dumps([{"prompt": p, "extra": EXTRA} for p in GIVEN.values()]))
    command = [checkout.python, INSIDE, checkout.folder, root, folder, folder / "libraries"]
    environment = os.environ | {"PYTHONPATH": "", "XDG_CONFIG_HOME": str(folder), "APPDATA": str(folder),
                                "HOME": str(folder)}  # fmt: skip
    environment = {k: v for k, v in environment.items() if not k.startswith("EDITKIT_C2PA")}
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=300, env=environment)
    if not (folder / "results.json").is_file():
        lacks = "libc2pa" in done.stderr or "_rust" in done.stderr
        assert lacks, done.stderr[-3000:]
        pytest.skip("ComfyUI's Python cannot load this environment's c2pa library")
    answers = json.loads((folder / "results.json").read_text())
    return (dict(zip(GIVEN, answers)), folder / "output"), (_headless(folder), folder / "alone")


def _headless(folder: Path) -> dict:
    from editkit.models.provenance import keys

    runner, results = Runner(node_classes()), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "home", lambda: folder / "alone_settings")
        for name in SAVED:
            with folders.use(folders.Folders((folder / "input",), folder / "alone")):
                run = runner.run(GIVEN[name], extra_data={"extra_pnginfo": EXTRA})
            results[name] = {"outputs": run.outputs}
    return results


def files(side, name) -> list[Path]:
    results, output = side
    shown = results[name]["outputs"]["5"]["images"]
    return [output / s["subfolder"] / s["filename"] for s in shown]


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def without_marks(carried: dict) -> dict:
    """ComfyUI writes into a prompt what IS_CHANGED said, into its own pictures too."""
    nodes = {i: {k: v for k, v in node.items() if k != "is_changed"} for i, node in carried["prompt"].items()}
    return {**carried, "prompt": nodes}


@pytest.mark.parametrize("name", SAVED)
def test_names_pixels_and_workflow_are_the_same(both, name):
    comfyuis, ours = (files(side, name) for side in both)
    for side, found in zip(both, (comfyuis, ours)):
        assert [p.relative_to(side[1]).as_posix() for p in found] == SAVED[name]
    for one, other in zip(comfyuis, ours):
        assert np.array_equal(pixels(one), pixels(other))
        assert without_marks(picture_file.workflow(one)) == picture_file.workflow(other)
        assert picture_file.workflow(other) == {"prompt": GIVEN[name], **EXTRA}


def history(entry):
    """An entry without what differs by nature: nothing but the certificate's own name could."""
    return None if entry is None else (
        entry.software, entry.title, entry.actions, [(s.title, s.state, history(s.entry)) for s in entry.sources]
    )  # fmt: skip


@pytest.mark.parametrize("name", ["first", "second", "computed"])
def test_credentials_tell_the_same(both, name):
    from editkit.models.provenance import reading

    kind = {".png": "image/png", ".jpg": "image/jpeg"}
    found = [reading.read(p, kind[p.suffix]) for side in both for p in files(side, name)]
    assert [f.state for f in found] == ["valid", "valid"]
    assert history(found[0].entry) == history(found[1].entry) and found[0].region == found[1].region
    sources = {"first": ("photo.png", "none"), "second": ("x_00001_.png", "valid"), "computed": ("source.png", "none")}
    assert [(s.title, s.state) for s in found[0].entry.sources] == [sources[name]]


def test_comfyuis_version_is_told(both, checkout):
    text = (checkout.folder / "comfyui_version.py").read_text()
    data = files(both[0], "first")[0].read_bytes()
    assert text.split('"')[1].encode() in data and b"org.editkit.comfyui" in data


def test_what_is_wrong_is_said_before_or_instead_of_an_edit(both):
    results, output = both[0]
    for name, said in (("no_certificate", "no certificate to sign with"), ("no_choice", "choose one of off")):
        (error,) = results[name]["node_errors"]["5"]["errors"]
        assert error["type"] == "custom_validation_failed" and said in error["details"]
    (failed,) = results["outside"]["failed"]
    assert "leads out of the output folder" in failed
    assert not [p for p in output.rglob("*") if p.name.startswith(".")]


def test_a_server_without_the_library_says_so_before_it_runs(server, checkout, root):
    code = "import c2pa, cryptography"
    if subprocess.run([str(checkout.python), "-c", code], capture_output=True, timeout=60).returncode == 0:
        pytest.skip("ComfyUI's Python has the c2pa library")
    file = server.upload(root / "workflows/media/mountain_path_mask.png")
    work = {
        "1": {"class_type": "LoadImage", "inputs": {"image": file}},
        "2": {"class_type": NODE, "inputs": {"images": ["1", 0], "filename_prefix": "x", "format": "jpeg"}},
    }
    work["2"]["inputs"] |= {"quality": 80, "credentials": "self-signed"}
    status, reply = server.queue(work)
    assert status == 400 and "requirements-c2pa.txt" in reply["node_errors"]["2"]["errors"][0]["details"]
    work["2"]["inputs"]["credentials"] = "off"
    entry = server.run(work)
    (shown,) = entry["outputs"]["2"]["images"]
    assert shown["filename"] == "x_00001_.jpg" and server.picture(shown).shape[-1] == 3
