"""The same pictures and the same refusals as a real ComfyUI gives, where one is installed."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from editkit.headless import doctor, pictures, standins
from editkit.headless.errors import PromptRefused
from editkit.headless.validate import validate

RIGHT = {"a": 1, "b": 2, "c": "x"}


def checked(kind="Checked", **inputs):
    return {"class_type": kind, "inputs": {**RIGHT, **inputs}}


PROMPTS = [
    {"1": checked()},
    {"1": {"class_type": "Checked", "inputs": {"a": 1, "b": 2}}},
    {"1": checked(a=9)},
    {"1": checked(a=-1)},
    {"1": checked(a="z")},
    {"1": checked(b="z", c="q")},
    {"1": checked(a=True, b=None)},
    {"1": checked(a=["2", 0]), "2": checked("Inner")},
    {"1": checked(a=["2", 0, 1])},
    {"1": checked(i=["2", 0]), "2": checked("Inner")},
    {"1": checked(a=["9", 0])},
    {"1": checked(a=["2", 0]), "2": checked("Inner", a=["9", 0])},
    {"1": checked(a=["2", 0]), "2": checked("Inner", a=8)},
    {"1": checked(a=["2", 5]), "2": checked("Inner")},
    {"1": checked("Custom")},
    {"1": checked("Custom", a=7)},
    {"1": checked("Custom", a=4)},
    {"1": checked("Custom", a=["2", 0]), "2": checked("Inner")},
    {"1": checked(a={"__value__": "3"}, c={"__value__": "y"})},
    {"1": checked(), "2": checked(a=99)},
    {"1": {"inputs": {}}},
    {"1": {"class_type": "NoSuchNode", "inputs": {}}},
    {"1": {"class_type": "EmptyImage", "inputs": {}}},
]


def write_pictures(folder):
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (12, 17, 3), np.uint8)
    alpha = rng.integers(0, 256, (12, 17), np.uint8)
    photo, cutout = Image.fromarray(rgb), Image.fromarray(np.dstack([rgb, alpha]))
    kinds = {
        "rgb.png": photo, "rgb.jpg": photo, "grey.png": photo.convert("L"), "bits.png": photo.convert("1"),
        "rgba.png": cutout, "la.png": cutout.convert("LA"), "cmyk.jpg": photo.convert("CMYK"),
        "palette.png": photo.convert("P"), "i.tif": Image.fromarray(rgb[..., 0].astype(np.int32) * 200),
        "pixel.png": Image.new("RGB", (1, 1), (3, 4, 5)),
    }  # fmt: skip
    for name, picture in kinds.items():
        picture.save(folder / name)
    photo.convert("P").save(folder / "transparent.png", transparency=3)
    photo.save(folder / "key.png", transparency=tuple(rgb[0, 0].tolist()))
    for orientation in range(2, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        photo.save(folder / f"turned{orientation}.jpg", exif=exif)
    more = [Image.fromarray(np.roll(rgb, n, 0)) for n in (1, 2)]
    for name, options in (
        ("a.png", {}),
        ("a.gif", {}),
        ("a.webp", {"lossless": True}),
        ("m.jpg", {"format": "MPO"}),
    ):
        photo.save(folder / name, save_all=True, append_images=more, **options)
    # Fresh pictures: Pillow's keep the settings of a JPEG that they were once saved as.
    pages = [Image.fromarray(page) for page in (rgb, rgb[:5, :5].copy(), rgb[::-1].copy())]
    pages[0].save(folder / "pages.tif", save_all=True, append_images=pages[1:])


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What the installed ComfyUI says, asked in a process of its own."""
    comfyui = doctor.comfyui()
    own = comfyui / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python") if comfyui else None
    python = os.environ.get("COMFYUI_PYTHON") or (str(own) if own and own.exists() else None)
    if comfyui is None or python is None:
        pytest.skip("no ComfyUI with an interpreter of its own (COMFYUI_PATH, COMFYUI_PYTHON)")
    folder = tmp_path_factory.mktemp("conformance")
    (folder / "input").mkdir()
    write_pictures(folder / "input")
    (folder / "prompts.json").write_text(json.dumps(PROMPTS))
    script = Path(__file__).with_name("comfyui_answers.py")
    done = subprocess.run([python, str(script), str(comfyui), str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder / "input", torch.load(folder / "answers.pt")


def test_photos_are_read_bit_for_bit_as_core_reads_them(answers):
    folder, given = answers
    for (name, channel), expected in given["loaded"].items():
        read = pictures.read_channel(folder / name, channel) if channel else pictures.read(folder / name)
        for ours, core in zip([read] if channel else read, expected):
            assert torch.equal(ours, core), (name, channel)


def test_scaling_is_bit_for_bit_cores(answers):
    for (method, width, height, crop), expected in answers[1]["scaled"].items():
        (ours,) = standins.ImageScale().upscale(answers[1]["image"], method, width, height, crop)
        assert torch.equal(ours, expected), (method, width, height, crop)


@pytest.mark.parametrize("number", range(len(PROMPTS)))
def test_prompts_are_refused_with_cores_dicts(answers, number, checked_classes):
    expected = json.loads(answers[1]["checked"][number])
    prompt = json.loads(json.dumps(PROMPTS[number]))
    try:
        found = validate(prompt, checked_classes)
        ours = [None, sorted(found.outputs), found.node_errors, prompt]
    except PromptRefused as refusal:
        ours = [refusal.error, [], refusal.node_errors, prompt]
    assert comparable(json.loads(json.dumps(ours, default=str))) == comparable(expected)


@pytest.fixture(scope="module")
def checked_classes():
    """The classes of comfyui_answers.py, in our registry."""
    numbers = {"a": ("INT", {"min": 0, "max": 5}), "b": ("FLOAT",), "c": (["x", "y"],)}
    declared = {"required": numbers, "optional": {"i": ("IMAGE",), "n": ("INT",)}}
    body = {"RETURN_TYPES": ("INT",), "OUTPUT_NODE": True, "INPUT_TYPES": classmethod(lambda cls: declared)}
    plain = type("Checked", (), body)
    check = classmethod(lambda cls, a: "odd" if a % 2 else True)
    return {
        **standins.STANDINS,
        "Checked": plain,
        "Inner": type("Inner", (plain,), {"OUTPUT_NODE": False}),
        "Custom": type("Custom", (plain,), {"VALIDATE_INPUTS": check}),
    }


def comparable(value):
    """Without tracebacks, and with errors sorted: core goes through a node's inputs in no fixed order."""
    if isinstance(value, dict):
        return {k: "…" if k == "traceback" else comparable(v) for k, v in value.items()}
    if isinstance(value, list):
        items = [comparable(v) for v in value]
        return sorted(items, key=str) if items and isinstance(items[0], dict) else items
    return sorted(value.split("\n")) if isinstance(value, str) else value
