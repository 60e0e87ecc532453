"""The page in headless Chromium, on a real bundle: golden edits, a user's edits, and what it says when it cannot.

Needs Node, Chromium, LiteRT.js and playwright-core (`npm install @litertjs/core@2.5.3 playwright-core` in the pack's
folder, or EDITKIT_NODE_MODULES), and a bundle: EDITKIT_BUNDLE names one, else it is exported with litert-torch.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from editkit.headless import server
from editkit.models.blazeedit import checkpoint, pipeline
from editkit.models.errors import EditError
from editkit.models.mobile import web
from editkit.tests.browser.mirrored import Mirrored

DRIVER = Path(__file__).with_name("drive.mjs")
MEDIA = Path(__file__).resolve().parents[2] / "workflows" / "media"
LEAST = {"fp32": 90.0, "int8": 38.0}  # dB of golden edits, and of a whole edit against the pipeline's
LEAST_EDIT = {"fp32": 50.0, "int8": 30.0}


@pytest.fixture(scope="session")
def tools(browser_tools):
    """What drives the browser, and LiteRT.js. Skips with the first that is missing."""
    try:
        return {**browser_tools, "litertjs": web.find_litertjs(browser_tools["packages"])}
    except EditError as problem:
        pytest.skip(str(problem))


@pytest.fixture(scope="session")
def bundle(request, tools, tmp_path_factory):
    """A bundle with this page: a copy of EDITKIT_BUNDLE, or of the one in 8 bits that other tests share; at length one
    as trained, exported here."""
    folder = tmp_path_factory.mktemp("bundles") / "bundle"
    if os.environ.get("EDITKIT_BUNDLE"):
        shutil.copytree(os.environ["EDITKIT_BUNDLE"], folder)
    elif importlib.util.find_spec("litert_torch") is None:
        pytest.skip("litert-torch is not installed and EDITKIT_BUNDLE names no bundle")
    elif os.environ.get("EDITKIT_LONG") == "1":
        from editkit.models.mobile import exporting

        exporting.export(checkpoint.load(), exporting.Request(folder, "fp32", name="blazeedit-small"))
    else:
        shutil.copytree(request.getfixturevalue("small_bundle"), folder)
    web.add_page(folder, tools["litertjs"])
    return folder


@pytest.fixture
def drive(tools, tmp_path):
    """drive(scenario, folder, **what it needs): serves a bundle and runs a scenario of drive.mjs on it."""
    running = []

    def run(scenario: str, folder: Path, **details) -> dict:
        served = server.make(folder, 0)
        running.append(served)
        threading.Thread(target=served.serve_forever, daemon=True).start()
        job = {
            "modules": str(tools["packages"]), "chromium": tools["chromium"], "scenario": scenario,
            "url": f"http://127.0.0.1:{served.server_address[1]}/", **details,
        }  # fmt: skip
        path = tmp_path / "job.json"
        path.write_text(json.dumps({k: str(v) if isinstance(v, Path) else v for k, v in job.items()}))
        command = [tools["node"], str(DRIVER), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=400)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout)

    yield run
    for served in running:
        served.shutdown()
        served.server_close()


@pytest.fixture
def photo(tmp_path) -> Path:
    """A sample photograph as PNG: no decoder rounds it differently."""
    path = tmp_path / "mountain_path.png"
    Image.open(MEDIA / "mountain_path.jpg").convert("RGB").save(path)
    return path


MASK = MEDIA / "mountain_path_mask.png"


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def tensor(path: Path) -> torch.Tensor:
    return torch.from_numpy(pixels(path)[..., :3].astype(np.float32) / 255).permute(2, 0, 1)[None]


def hole_of(path: Path) -> torch.Tensor:
    return torch.from_numpy((np.asarray(Image.open(path).convert("L")) > 127).astype(np.float32))[None]


def quantisation(bundle: Path) -> str:
    return json.loads((bundle / "manifest.json").read_text())["quantisation"]


def psnr(found: np.ndarray, wanted: np.ndarray, region: np.ndarray) -> float:
    """Against the pipeline's floats; the peak is the reference's max - min in the region."""
    a, b = (v[region].astype(np.float64) for v in (found, wanted))
    return float(10 * np.log10((b.max() - b.min()) ** 2 / np.mean((a - b) ** 2)))


def test_golden_edits_give_in_the_browser_what_torch_gave(drive, bundle):
    seen = drive("golden", bundle, golden="all")
    assert seen["problems"] == [] and "error" not in seen
    tasks = json.loads((bundle / "manifest.json").read_text())["golden"]
    assert set(seen["golden"]["tasks"]) == set(tasks)
    for name, result in seen["golden"]["tasks"].items():
        for part, decibels in result["decibels"].items():
            assert decibels is None or decibels > LEAST[quantisation(bundle)], (name, part, result["decibels"])


def test_a_removal_is_the_pipelines_and_leaves_the_rest_alone(drive, bundle, photo, tmp_path):
    target = tmp_path / "removed.png"
    seen = drive("edits", bundle, photo=photo, mask=MASK, tasks={"remove": str(target)})
    assert seen["problems"] == []
    assert seen["results"]["remove"]["name"] == "mountain_path-remove.png"
    found, before = pixels(target)[..., :3], pixels(photo)
    edit = pipeline.remove(Mirrored(checkpoint.load(), 256), tensor(photo), hole_of(MASK))
    changed = edit.changed[0].numpy() > 0
    assert np.array_equal(found[~changed], before[~changed])
    wanted = edit.image[0].permute(1, 2, 0).numpy() * 255
    inside = hole_of(MASK)[0].numpy() > 0
    assert psnr(before, wanted, inside) < 30  # something was removed
    assert psnr(found, wanted, changed) > LEAST_EDIT[quantisation(bundle)]


def test_nothing_is_asked_of_any_other_address(drive, bundle, photo, tmp_path):
    seen = drive("edits", bundle, photo=photo, mask=MASK, tasks={"sticker": str(tmp_path / "sticker.png")})
    own = {url.split("/")[2] for url in seen["requests"] if not url.startswith(("blob:", "data:"))}
    assert len(seen["requests"]) > 20 and len(own) == 1 and own.pop().startswith("127.0.0.1:")
    sticker = pixels(tmp_path / "sticker.png")
    assert sticker.shape[2] == 4 and sticker[0, 0, 3] == 0 and sticker[..., 3].max() == 255


def test_all_other_edits_at_full_size(drive, bundle, photo, tmp_path):
    tasks = {name: str(tmp_path / f"{name}.png") for name in ("outpaint", "tone", "relight")}
    seen = drive("edits", bundle, photo=photo, tasks=tasks)
    assert seen["problems"] == []
    before = pixels(photo)
    height, width = before.shape[:2]
    wide = pixels(Path(tasks["outpaint"]))[..., :3]
    left, _, right, _ = pipeline.outpaint_margins(height, width, "16:9")
    assert wide.shape == (height, width + left + right, 3)
    assert np.array_equal(wide[:, left : left + width], before)
    model, least = Mirrored(checkpoint.load(), 256), LEAST_EDIT[quantisation(bundle)]
    whole = np.ones((height, width), bool)
    for name, run in (("tone", pipeline.tone), ("relight", pipeline.relight)):
        wanted = run(model, tensor(photo)).image[0].permute(1, 2, 0).numpy() * 255
        found = pixels(Path(tasks[name]))[..., :3]
        assert psnr(found, wanted, whole) > least, name
        assert psnr(before, wanted, whole) < psnr(found, wanted, whole) - 5, name


def test_photos_lie_as_their_camera_was_held(drive, bundle, tmp_path):
    turned, target = tmp_path / "turned.jpg", tmp_path / "out.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    Image.open(MEDIA / "mountain_path.jpg").resize((400, 300)).save(turned, exif=exif)
    seen = drive("edits", bundle, photo=turned, tasks={"relight": str(target)})
    assert seen["results"]["relight"]["name"] == "turned-relight.png"
    assert Image.open(target).size == (300, 400)


def test_painting_by_mouse_and_keyboard(drive, bundle, photo):
    shares = drive("painting", bundle, photo=photo)["shares"]
    assert shares["start"] == shares["undone"] == shares["cleared"] == 0
    assert shares["stroke"] == shares["redone"] > 0.02
    assert 0 < shares["erased"] < 0.8 * shares["stroke"]
    assert 0 < shares["keyboard"] < 0.05
    assert shares["allowed"] == [False, True]


def altered(bundle: Path, folder: Path, change) -> Path:
    """A copy of a bundle, its files shared; change(manifest, folder) alters it."""
    shutil.copytree(bundle, folder, copy_function=os.link)
    data = json.loads((folder / "manifest.json").read_text())
    change(data, folder)
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").write_text(json.dumps(data))
    return folder


def flip_a_byte(data, folder):
    path = folder / "encoder.tflite"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "task", "sentence"),
    [
        (flip_a_byte, "remove", "encoder.tflite is damaged (its SHA-256 is not the manifest's)"),
        (lambda data, folder: (folder / "decoder.tflite").unlink(), "remove", "lacks the file decoder.tflite"),
        (lambda data, folder: data.update(format_version=2), None, "format version 2 and this page reads version 1"),
        (lambda data, folder: data.update(format="other"), None, "not that of an EditKit bundle"),
    ],
)
def test_a_bundle_that_cannot_be_used_is_named_in_one_sentence(drive, bundle, photo, tmp_path, change, task, sentence):
    folder = altered(bundle, tmp_path / "altered", change)
    seen = drive("complaint", folder, photo=photo, mask=MASK, task=task)
    assert sentence in seen["error"] and seen["error"].endswith(".") and ". " not in seen["error"]


def test_a_bundle_in_fp16_is_warned_of(drive, bundle, tmp_path):
    folder = altered(bundle, tmp_path / "fp16", lambda data, _: data.update(quantisation="fp16"))
    assert "fp16" in drive("complaint", folder)["warning"]


def test_the_page_edits_without_a_network(drive, bundle, photo, tmp_path):
    served = server.make(bundle, 0)  # a second server, whose end the driver asks for

    class Stopping(served.RequestHandlerClass.func):
        def do_GET(self):
            if self.path == "/stop":
                threading.Thread(target=stop, daemon=True).start()
            super().do_GET()

    def stop():
        served.shutdown()
        served.server_close()

    served.RequestHandlerClass = lambda *a, **k: Stopping(*a, directory=str(bundle), **k)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{served.server_address[1]}/"
    target = tmp_path / "offline.png"
    seen = drive("offline", bundle, photo=photo, mask=MASK, url=url, stop=f"{url}stop", target=target)
    assert "error" not in seen["result"]
    assert pixels(target).shape[:2] == pixels(photo).shape[:2]
