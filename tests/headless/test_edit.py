"""`edit`, `demo` and `run` on small fake edits that invert the picture."""

import json

import numpy as np
import pytest
from PIL import Image

from editkit.headless import edit, shipped
from editkit.headless.cli import main
from editkit.headless.errors import EditError

pytestmark = pytest.mark.usefixtures("fake_pack")


@pytest.fixture
def work(tmp_path, monkeypatch):
    """An empty working folder with photo.jpg, mask.png (white) and black.png."""
    folder = tmp_path / "my.photos v1.2"
    folder.mkdir()
    monkeypatch.chdir(folder)
    Image.new("RGB", (16, 12), (10, 20, 30)).save("photo.png")
    Image.new("L", (16, 12), 255).save("mask.png")
    Image.new("L", (16, 12), 0).save("black.png")
    return folder


def pixel(path):
    with Image.open(path) as picture:
        return np.array(picture)[0, 0].tolist()


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_one_photo_to_one_file(work, capsys):
    assert main(["edit", "photo.png", "--task", "tone", "-o", "better.png"]) == 0
    assert pixel("better.png") == [245, 235, 225]
    assert "photo.png -> better.png" in capsys.readouterr().out
    assert "better.png" in names(work) and not [n for n in names(work) if n.startswith(".")]


def test_the_result_carries_its_workflow(work):
    main(["edit", "photo.png", "--task", "tone", "-o", "better.png"])
    with Image.open("better.png") as picture:
        prompt = json.loads(picture.info["prompt"])
    assert prompt["1"]["inputs"]["image"] == "photo.png", (
        "the path as given: no folder names of the user's disk"
    )


def test_a_folder_as_the_result_gets_a_name(work):
    assert main(["edit", "photo.png", "--task", "tone", "-o", "results"]) == 0
    assert names(work / "results") == ["photo_tone.png"]


def test_the_colour_profile_of_the_photo_is_kept(work):
    Image.new("RGB", (2, 2)).save("wide.png", icc_profile=b"wide gamut")
    main(["edit", "wide.png", "--task", "tone", "-o", "out.jpg"])
    assert Image.open("out.jpg").info["icc_profile"] == b"wide gamut"


def test_settings_reach_the_node(work):
    main(["edit", "photo.png", "--task", "tone", "--strength", "0", "-o", "out.png"])
    assert pixel("out.png") == [255, 255, 255]


def test_frames_get_numbers(work):
    frames = [Image.new("RGB", (4, 4), (n, n, n)) for n in (0, 255)]
    frames[0].save("many.png", save_all=True, append_images=frames[1:])
    assert main(["edit", "many.png", "--task", "tone", "-o", "m.png"]) == 0
    assert pixel("m.png") == [255] * 3 and pixel("m_2.png") == [0] * 3


@pytest.mark.parametrize("to", ["2:1", "24x12"])
def test_outpainting_to_a_shape_or_a_size(work, to):
    assert main(["edit", "photo.png", "--task", "outpaint", "--to", to, "-o", "wide.png"]) == 0
    assert Image.open("wide.png").size == (24, 12)


@pytest.mark.parametrize(
    ("to", "size", "expected"),
    [
        ("16:9", (160, 90), (0, 0, 0, 0)),
        ("2:1", (100, 100), (50, 0, 50, 0)),
        ("1:2", (101, 100), (0, 51, 0, 51)),
        ("1.5:1", (90, 90), (22, 0, 23, 0)),
        ("120x100", (101, 100), (9, 0, 10, 0)),
    ],
)
def test_margins(to, size, expected):
    assert tuple(edit.margins(to, *size).values()) == expected


@pytest.mark.parametrize("to", ["16/9", "0:1", "wide", "10x10", "-4:3", ""])
def test_a_shape_that_makes_no_sense_is_one_sentence(to):
    with pytest.raises(EditError, match="--to"):
        edit.margins(to, 20, 20)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["photo.png", "--task", "remove"], "The task remove needs a mask"),
        (["photo.png", "--task", "sticker"], "The task sticker needs a mask"),
        (["photo.png", "--task", "remove", "--mask", "no.png"], "There is no mask no.png"),
        (["photo.png", "--task", "remove", "--mask", "black.png"], "The mask is empty"),
        (["photo.png", "--task", "outpaint", "--mask", "mask.png"], "The task outpaint takes no mask"),
        (
            ["photo.png", "--task", "remove", "--mask", "mask.png", "--strength", ".5"],
            "remove has no strength",
        ),
        (["photo.png", "--task", "tone", "--seed", "3"], "tone has no seed; leave --seed out"),
        (["photo.png", "--task", "tone", "--no-shadow"], "tone has no shadow; leave --no-shadow out"),
        (["photo.png", "--task", "tone", "--to", "1:1"], "--to belongs to outpaint"),
        (["photo.png", "--task", "tone", "--strength", "7"], "bigger than max of 1.0"),
        (["gone.png", "--task", "tone"], "There is no photo or folder gone.png"),
        (["photo.png", "--task", "tone", "-o", "photo.png"], "would overwrite photo.png"),
        (["photo.png", "--task", "tone", "-o", "a.xyz"], "a.xyz has no suffix"),
        (["photo.png", "--task", "tone", "-o", "photo.png/x/y.png"], "Cannot write"),
        (["text.png", "--task", "tone"], "not a picture"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(work, capsys, arguments, said):
    (work / "text.png").write_text("text")
    before = names(work)
    assert main(["edit", *arguments]) == 1
    errors = capsys.readouterr().err.strip()
    assert said in errors and "\n" not in errors and errors.startswith("error: ")
    assert [n for n in names(work) if n not in before and n != "out"] == []
    assert not (work / "out").exists() or names(work / "out") == []


def test_a_mask_on_a_task_that_needs_none(work):
    assert main(["edit", "photo.png", "--task", "tone", "--mask", "black.png", "-o", "o.png"]) == 1
    assert main(["edit", "photo.png", "--task", "tone", "--mask", "mask.png", "-o", "o.png"]) == 0
    with Image.open("o.png") as picture:
        assert json.loads(picture.info["prompt"])["3"]["inputs"]["mask"] == ["mask", 0]


def test_a_folder_of_photos_with_a_bad_one(work, capsys):
    (work / "in").mkdir()
    for name in ("b.jpg", "a.png", "a.jpg"):
        Image.new("RGB", (4, 4)).save(work / "in" / name)
    (work / "in" / "bad.jpg").write_bytes(b"no photo")
    (work / "in" / "notes.txt").write_text("no photo either")
    assert main(["edit", "in", "--task", "tone", "-o", "out"]) == 1
    assert names(work / "out") == ["a.jpg.png", "a.png.png", "b.png"]
    said = capsys.readouterr()
    assert said.err.splitlines()[0].startswith("[4/4] bad.jpg: Cannot read") and "1 of 4 photos" in said.err
    assert "[3/4] b.jpg" in said.out


def test_a_folder_of_masks_goes_with_a_folder_of_photos(work):
    for folder in ("in", "masks"):
        (work / folder).mkdir()
    for name in "abc":
        Image.new("RGB", (4, 4)).save(work / "in" / f"{name}.jpg")
    Image.new("L", (4, 4), 255).save(work / "masks" / "a.png")
    Image.new("L", (4, 4), 255).save(work / "masks" / "b_mask.webp")
    assert main(["edit", "in", "--task", "remove", "--mask", "masks", "-o", "out"]) == 1
    assert names(work / "out") == ["a.png", "b.png"], "c has no mask"


def test_masks_beside_the_photos(work):
    (work / "in").mkdir()
    Image.new("RGB", (4, 4)).save("in/a.jpg")
    Image.new("L", (4, 4), 255).save("in/a_mask.png")
    assert main(["edit", "in", "--task", "remove", "--mask", "in", "-o", "out"]) == 0
    assert names(work / "out") == ["a.png"]


@pytest.mark.parametrize(
    ("out", "said"), [("one.png", "must name a folder too"), ("out", "no photos in empty")]
)
def test_a_folder_request_that_cannot_be_met(work, capsys, out, said):
    (work / "empty").mkdir()
    assert main(["edit", "empty", "--task", "tone", "-o", out]) == 1
    assert said in capsys.readouterr().err


def test_results_in_the_folder_of_the_photos_never_overwrite_one(work, capsys):
    (work / "in").mkdir()
    Image.new("RGB", (4, 4)).save("in/a.png")
    Image.new("RGB", (4, 4)).save("in/b.jpg")
    assert main(["edit", "in", "--task", "tone", "-o", "in"]) == 1
    assert "would overwrite" in capsys.readouterr().err
    assert pixel("in/a.png") == [0, 0, 0] and pixel("in/b.png") == [255] * 3


def test_the_workflows_mask_goes_away_with_all_that_hangs_on_it(graph):
    prompt = graph(
        m=("LoadImage", {"image": "x"}),
        c=("ImageToMask", {"image": ["m", 0], "channel": "red"}),
        e=("Edit", {"image": ["i", 0], "mask": ["c", 0]}),
    )
    prompt["m"]["_meta"] = {"title": "mask"}
    shipped.set_mask(prompt, None)
    assert set(prompt) == {"e"} and prompt["e"]["inputs"] == {"image": ["i", 0]}


def test_the_demo_writes_all_pictures_and_a_sheet(work, capsys):
    assert main(["demo"]) == 0
    tasks = ("outpaint", "relight", "remove", "sticker", "tone")
    made = {f"{task}_{when}.png" for task in tasks for when in ("before", "after")} | {"contact_sheet.png"}
    assert set(names(work / "out" / "demo")) == made
    assert pixel("out/demo/tone_before.png") == [255, 0, 255]
    assert pixel("out/demo/tone_after.png") == [0, 255, 0]
    with Image.open("out/demo/contact_sheet.png") as sheet:
        assert sheet.width > 2 * 480 and len(set(np.array(sheet.convert("L")).flatten().tolist())) > 3
    assert str(work / "out" / "demo" / "contact_sheet.png") in capsys.readouterr().out


def test_the_demo_twice_replaces_its_pictures(work):
    assert main(["demo", "--out", "d"]) == 0 and main(["demo", "--out", "d"]) == 0
    assert len(names(work / "d")) == 11


def test_a_demo_whose_workflow_is_missing_writes_nothing(work, capsys):
    (shipped.WORKFLOWS / "sticker.json").unlink()
    assert main(["demo"]) == 1
    assert "sticker.json" in capsys.readouterr().err and names(work / "out" / "demo") == []


def test_run_with_set(work, capsys):
    file = str(shipped.WORKFLOWS / "tone.json")
    arguments = [
        "--set",
        "image=photo.png",
        "--set",
        "result=a/b",
        "--set",
        "Tone.strength=0.0",
        "--out",
        "o",
    ]
    assert main(["run", file, *arguments]) == 0
    assert pixel("o/a/b_00001_.png") == [255, 255, 255]
    assert "b_00001_.png" in capsys.readouterr().out
    assert main(["run", "o/a/b_00001_.png", "--out", "o", "--set", "3.strength=1"]) == 0, "the PNG runs again"
    assert pixel("o/a/b_00002_.png") == [245, 235, 225]


def test_run_finds_sample_pictures_from_any_folder(work):
    assert main(["run", str(shipped.WORKFLOWS / "tone.json"), "--out", "o"]) == 0
    assert pixel("o/some/x_00001_.png") == [0, 255, 0]


def test_run_looks_in_further_folders(work):
    (work / "more").mkdir()
    Image.new("RGB", (1, 1)).save("more/far.png")
    file = str(shipped.WORKFLOWS / "tone.json")
    assert main(["run", file, "--out", "o", "--input", "more", "--set", "image=far.png"]) == 0
    assert main(["run", file, "--out", "o", "--input", "none", "--set", "image=far.png"]) == 1


def test_run_reports_what_could_not_be_made_and_keeps_the_rest(work, capsys):
    prompt = json.loads((shipped.WORKFLOWS / "tone.json").read_text())
    prompt["9"] = {"class_type": "SaveImage", "inputs": {"filename_prefix": "y"}}
    (work / "w.json").write_text(json.dumps(prompt))
    assert main(["run", "w.json", "--out", "o"]) == 1
    assert names(work / "o" / "some") == ["x_00001_.png"]
    assert "Node 9 (SaveImage): the input 'images' is missing" in capsys.readouterr().err


def test_run_refuses_a_node_that_needs_comfyui(work, capsys):
    (work / "w.json").write_text('{"1": {"class_type": "CheckpointLoaderSimple", "inputs": {}}}')
    assert main(["run", "w.json"]) == 1
    assert capsys.readouterr().err.startswith("error: CheckpointLoaderSimple needs a ComfyUI server: ")
