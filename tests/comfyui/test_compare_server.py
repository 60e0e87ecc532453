"""Compare and Edit Race on a real server: the pictures in /history, and systems that run and are timed one by one."""

import io
import json
import urllib.parse
import urllib.request

import numpy as np
from PIL import Image

from editkit.tests.house import pack

SEED = iter(range(1000))


def photo(server):
    name = server.upload(pack.ROOT / "workflows/media/dandelions.jpg")
    return {"class_type": "LoadImage", "inputs": {"image": name}, "_meta": {"title": "image"}}


def invert(source):
    return {"class_type": "ImageInvert", "inputs": {"image": [source, 0]}, "_meta": {"title": "Invert"}}


def tone(**more):
    """A system whose result no earlier prompt left in the cache."""
    strength = 0.5 + 0.0004 * next(SEED)
    return {"class_type": "EditKitTone", "_meta": {"title": "Tone"},
            "inputs": {"image": ["photo", 0], "strength": strength, "method": "network", **more}}  # fmt: skip


def race(results, **more):
    wired = {f"result_{number}": [name, 0] for number, name in enumerate(results, start=1)}
    inputs = {"image": ["photo", 0], "instruction": "", "names": "", "rule": "edit and preservation", "floor": 0.0}
    return {"class_type": "EditKitEditRace", "inputs": {**inputs, **wired, **more}}


def rows(entry, node="race"):
    """A race's table, as dicts by its head."""
    assert entry["status"]["status_str"] == "success", entry["status"]
    text = entry["outputs"][node]["text"][0]
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|") and "--" not in line]
    head, *found = [[cell.strip() for cell in line] for line in lines]
    return [dict(zip(head, row, strict=True)) for row in found]


def seconds(row):
    return float(row["seconds"].strip("<=>~ "))


def test_the_history_holds_both_pictures_and_the_heat_map(server):
    small = {"class_type": "ImageScaleBy", "inputs": {"image": ["other", 0], "upscale_method": "area", "scale_by": 0.5}}
    compare = {"image_a": ["photo", 0], "image_b": ["small", 0], "heat_map": "auto", "gain": 1.0, "index": 0}
    prompt = {"photo": photo(server), "other": invert("photo"), "small": small,
              "compare": {"class_type": "EditKitCompare", "inputs": compare}}  # fmt: skip
    shown = server.run(prompt)["outputs"]["compare"]
    assert {key: len(shown[key]) for key in ("a_images", "b_images", "h_images")} == dict.fromkeys(
        ("a_images", "b_images", "h_images"), 1
    )
    a, b, heat = (server.picture(shown[key][0]) for key in ("a_images", "b_images", "h_images"))
    with Image.open(pack.ROOT / "workflows/media/dandelions.jpg") as opened:
        original = np.asarray(opened.convert("RGB"))
    assert (np.round(a * 255) == original).all()
    assert b.shape == (original.shape[0] // 2, original.shape[1] // 2, 3) and abs(a.mean() + b.mean() - 1) < 0.01
    assert heat.shape == (*original.shape[:2], 4)


def test_a_preview_carries_its_workflow(server):
    compare = {"image_a": ["photo", 0], "image_b": ["photo", 0], "heat_map": "none", "gain": 1.0, "index": 0}
    prompt = {"photo": photo(server), "compare": {"class_type": "EditKitCompare", "inputs": compare}}
    shown = server.run(prompt)["outputs"]["compare"]
    assert shown["h_images"] == []
    address = f"{server.url}/view?{urllib.parse.urlencode(shown['a_images'][0])}"
    with urllib.request.urlopen(address, timeout=60) as reply:
        texts = Image.open(io.BytesIO(reply.read())).info
    assert json.loads(texts["prompt"])["compare"]["class_type"] == "EditKitCompare"


def test_systems_are_timed_alone_and_one_by_one(server):
    prompt = {"photo": photo(server), "slow": tone(), "quick": invert("photo"), "race": race(["slow", "quick"])}
    entry = server.run(prompt)
    slow, quick = rows(entry)
    assert (slow["system"], quick["system"]) == ("Tone", "Invert")
    assert not any(row["seconds"][0] in "<>~n" for row in (slow, quick))
    assert seconds(slow) > seconds(quick) >= 0  # had both run first, the first to be asked for would have taken nothing
    assert "GiB" in slow["memory"]
    assert server.picture(entry["outputs"]["race"]["images"][0]).ndim == 3


def test_a_cached_system_keeps_the_time_that_it_took(server):
    prompt = {"photo": photo(server), "one": tone(), "race": race(["one"])}
    (first,) = rows(server.run(prompt))
    prompt["race"]["inputs"]["floor"] = 0.001
    (again,) = rows(server.run(prompt))
    assert again["seconds"] == first["seconds"] and "timed in an earlier run" in again["notes"]


def test_a_system_that_ran_for_another_output_first_is_not_timed(server):
    look = {"class_type": "PreviewImage", "inputs": {"images": ["one", 0]}}
    prompt = {"photo": photo(server), "one": tone(), "look": look}
    server.run(prompt)
    (row,) = rows(server.run({**prompt, "race": race(["one"])}))
    assert row["seconds"] == "not timed" and "was there already" in row["notes"]


def test_a_loader_that_two_systems_share_bounds_the_time_of_the_first(server):
    load = {"class_type": "EditKitLoadBlazeEdit", "inputs": {"model": "shipped", "engine": "torch"}}
    bright = {"class_type": "EditKitRelight", "_meta": {"title": "Relight"},
              "inputs": {"image": ["photo", 0], "strength": 0.9, "method": "head", "model": ["load", 0]}}  # fmt: skip
    prompt = {"photo": photo(server), "load": load, "one": tone(model=["load", 0]), "two": bright}
    first, second = rows(server.run({**prompt, "race": race(["one", "two"])}))
    assert first["seconds"].startswith("<=") and "with 1 node that others need" in first["notes"]
    assert second["seconds"][0] not in "<>~n"


def test_what_a_rule_lacks_is_said_before_any_system_runs(server):
    prompt = {"photo": photo(server), "one": tone(), "race": race(["one"], rule="judge")}
    entry = server.run(prompt)
    (error,) = [data for event, data in entry["status"]["messages"] if event == "execution_error"]
    assert error["node_type"] == "EditKitEditRace" and "wire a judge" in error["exception_message"]
    assert "one" not in error["executed"]


def test_the_winner_goes_on_to_the_next_node(server):
    compare = {"image_a": ["photo", 0], "image_b": ["race", 0], "heat_map": "difference", "gain": 1.0, "index": 0}
    prompt = {"photo": photo(server), "one": tone(), "two": invert("photo"), "race": race(["one", "two"]),
              "compare": {"class_type": "EditKitCompare", "inputs": compare}}  # fmt: skip
    entry = server.run(prompt)
    a, b = (server.picture(entry["outputs"]["compare"][key][0]) for key in ("a_images", "b_images"))
    assert np.abs(a + b - 1).max() < 0.01  # the inverted one changed more
