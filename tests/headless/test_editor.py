"""A workflow as a function, on small fake edits that invert the picture."""

import json

import numpy as np
import pytest
from PIL import Image

from editkit.headless import shipped
from editkit.headless.cli import main
from editkit.headless.editor import Editor
from editkit.headless.errors import EditError

pytestmark = pytest.mark.usefixtures("fake_pack")


@pytest.fixture
def photo(tmp_path, monkeypatch):
    """A photograph whose path has an `=` and a space in it."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a = b" / "photo.png"
    path.parent.mkdir()
    Image.new("RGB", (8, 6), (10, 20, 30)).save(path)
    return path


@pytest.fixture
def tone():
    return shipped.WORKFLOWS / "tone.json"


def pixel(picture):
    return np.array(picture)[0, 0].tolist()


def changed(file, tmp_path, change):
    """The workflow of a file with change(prompt) made to it, as a new file."""
    prompt = json.loads(file.read_text())
    change(prompt)
    made = tmp_path / "changed.json"
    made.write_text(json.dumps(prompt))
    return made


def test_a_picture_comes_back_edited_each_time(tone, photo):
    with Editor(tone) as editor:
        assert [pixel(editor.edit(photo)) for _ in range(2)] == [[245, 235, 225]] * 2
        Image.new("RGB", (8, 6), (0, 0, 0)).save(photo)
        assert pixel(editor.edit(photo)) == [255, 255, 255], "the file is another one now"


def test_settings_hold_for_all_or_for_one(tone, photo):
    editor = Editor(tone, sets=["Tone.strength=0"])
    assert pixel(editor.edit(photo)) == [255] * 3
    assert pixel(editor.edit(photo, sets={"Tone.strength": "1"})) == [245, 235, 225]
    assert pixel(editor.edit(photo)) == [255] * 3


def test_the_file_is_the_one_that_run_writes(tone, photo, tmp_path):
    saved = Editor(tone).save(photo, tmp_path / "here")
    assert main(["run", str(tone), "--set", f"image={photo}", "--out", str(tmp_path / "there")]) == 0
    assert [p.read_bytes() for p in saved] == [(tmp_path / "there/some/x_00001_.png").read_bytes()]


def test_a_preview_will_do_and_frames_are_files(tone, photo, tmp_path):
    frames = [Image.new("RGB", (4, 4), (n, n, n)) for n in (0, 255)]
    frames[0].save(tmp_path / "many.png", save_all=True, append_images=frames[1:])

    def preview(prompt):
        prompt["4"]["class_type"] = "PreviewImage"
        del prompt["4"]["inputs"]["filename_prefix"]

    saved = Editor(changed(tone, tmp_path, preview)).save(tmp_path / "many.png", tmp_path / "frames")
    assert [pixel(Image.open(p)) for p in saved] == [[255] * 3, [0] * 3]


def test_the_hash_is_that_of_what_the_workflow_does(tone, tmp_path):
    plain = Editor(tone).workflow_hash
    assert len(plain) == 64 and Editor(tone, sets=["image=x.png", "result=elsewhere/y"]).workflow_hash == plain
    titled = changed(tone, tmp_path, lambda p: p["3"].update(_meta={"title": "another title"}))
    assert Editor(titled).workflow_hash == plain
    assert Editor(tone, sets=["Tone.strength=0.5"]).workflow_hash != plain


def test_the_clock_counts_the_edit_alone(tone, photo, monkeypatch):
    from editkit.headless import editor as module

    ticks = iter(range(1000))
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(ticks))
    editor = Editor(tone)
    editor.edit(photo)
    once = editor.clock.seconds
    editor.edit(photo)
    assert once == 1, "one of three nodes, each between two ticks"
    assert editor.clock.seconds == once, "the second time, the edit itself was remembered"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p: p["1"].pop("_meta"), "has no node titled 'image'; title the one that reads the picture"),
        (lambda p: p["4"].pop("_meta"), "has no node titled 'result'; title the one that saves"),
        (lambda p: p["3"]["_meta"].update(title="image"), "has 2 nodes titled 'image'"),
        (lambda p: p["3"].update(class_type="KSampler"), "KSampler needs a ComfyUI server"),
        (lambda p: p.clear(), "is not a workflow in API format"),
    ],
)
def test_a_workflow_that_will_not_do_is_one_sentence(tone, tmp_path, change, said):
    with pytest.raises(EditError, match=said) as refused:
        Editor(changed(tone, tmp_path, change))
    assert "\n" not in str(refused.value)


def test_what_goes_wrong_with_one_picture_is_one_sentence(tone, photo, tmp_path):
    editor = Editor(tone)
    bad = tmp_path / "bad.png"
    bad.write_text("text")
    for picture, sets, said in [
        (tmp_path / "gone.png", {}, "gone.png"),
        (bad, {}, "not a picture"),
        (photo, {"no such title": "1"}, "has nothing called 'no such title'"),
    ]:
        with pytest.raises(EditError, match=said) as refused:
            editor.edit(picture, sets=sets)
        assert "\n" not in str(refused.value)
    assert pixel(editor.edit(photo)) == [245, 235, 225], "the next one is edited"


def test_a_result_that_saves_nothing_is_said(tone, photo, tmp_path):
    def no_picture(prompt):
        prompt["4"]["_meta"]["title"], prompt["3"]["_meta"]["title"] = "save", "result"

    with pytest.raises(EditError, match="has no output node"):
        Editor(changed(tone, tmp_path, no_picture)).edit(photo)
