"""What is wrong is said in one sentence, and nothing that was done is lost."""

import json
import os
import shutil
import sys

import pytest
from PIL import Image

from editkit.headless import cli
from editkit.models.errors import EditError
from editkit.tests.loopback_judge import serving
from editkit.tests.training.triplets import scenes, stubs
from editkit.tests.training.triplets.stubs import World
from editkit.tests.training.triplets.test_resuming import contents, table
from editkit.training.triplets import ledger

NOWHERE = "http://127.0.0.1:9/v1"  # the discard port, where nobody listens


@pytest.fixture
def images(tmp_path):
    return scenes.write(tmp_path / "images", 6)


@pytest.fixture
def refused(capsys):
    """refused(words): what the command line says, once it is sure that this is one sentence and one line."""

    def run(*words) -> str:
        capsys.readouterr()
        assert cli.main(["data", *map(str, words)]) == 1
        said = capsys.readouterr().err
        assert said.startswith("error: ") and said.count("\n") == 1 and said.endswith(".\n"), said
        return said

    return run


def build(images, out, *more, llm=NOWHERE):
    return scenes.flags(images, out, llm, None, "--skip", "clip", *more)


def test_a_folder_that_is_none_or_holds_no_pictures(tmp_path, refused):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/notes.txt").write_text("no picture")
    out = tmp_path / "out"
    assert f"There is no {tmp_path / 'gone'}, which --images names" in refused(*build(tmp_path / "gone", out))
    assert f"{tmp_path / 'empty'} holds no pictures" in refused(*build(tmp_path / "empty", out, "--skip", "aesthetic"))
    assert "lies inside --images" in refused(*build(tmp_path, out))
    assert not out.exists()


def test_no_captions_where_instructions_are_written_from_them(tmp_path, refused):
    (tmp_path / "images").mkdir()
    scenes.pictures()[0].save(tmp_path / "images/a.png")
    said = refused(*build(tmp_path / "images", tmp_path / "out", "--skip", "aesthetic"))
    assert "No picture has a caption" in said and "--caption" in said


def test_one_picture_without_a_caption_is_a_reject(tmp_path):
    shutil.copytree(scenes.write(tmp_path / "table", 3), tmp_path / "images")
    (tmp_path / "images/captions.csv").unlink()
    for number in (0, 2):
        (tmp_path / f"images/{number:02d}.txt").write_text(scenes.caption(number))
    assert World().run(tmp_path / "images", tmp_path / "out", "--skip", "aesthetic") == 0
    assert [row["picture"] for row in table(tmp_path / "out")] == ["00.png", "02.png"]
    assert "curation,01.png,,,it has no caption,01.png" in (tmp_path / "out/rejects.csv").read_text()


def test_everything_that_is_missing_is_named_and_nothing_is_left_out_silently(tmp_path, images, refused):
    editor = ("--editor", scenes.WORKFLOWS / "tone.json")
    (tmp_path / "bare").mkdir()
    shutil.copy(images / "00.png", tmp_path / "bare")
    said = refused("build", "--images", tmp_path / "bare", "--out", tmp_path / "out", *editor, *editor)
    for part in ("instructions (--llm", "--skip suitability", "--skip aesthetic", "--skip clip", "(--judge"):
        assert part in said, part
    column = ("--instructions", "column", "--skip", "suitability", "--skip", "clip")
    said = refused("build", "--images", images, "--out", tmp_path / "out", *editor, *column)
    assert "a column instruction" in said and "--llm" not in said


@pytest.mark.parametrize("title", ["image", "result", "instruction"])
def test_a_workflow_without_a_marked_input_or_output(title, tmp_path, images, refused):
    work = json.loads((scenes.WORKFLOWS / "tone.json").read_text())
    for node in work.values():
        node["_meta"]["title"] = node["_meta"]["title"] if node["_meta"]["title"] != title else "something"
    (tmp_path / "mine.json").write_text(json.dumps(work))
    flags = ["--instruction-title", "none"] if title != "instruction" else ["--instruction-title", "instruction"]
    said = refused(*build(images, tmp_path / "out", "--editor", tmp_path / "mine.json", *flags))
    assert f"'{title}'" in said or title in said
    assert not (tmp_path / "out").exists()


def test_an_unreachable_model_ends_the_run_and_the_next_one_goes_on(tmp_path, images, refused):
    out, more = tmp_path / "out", ("--skip", "suitability", "--retries", 0, "--patience", 3)
    said = refused(*build(images, out, *more))
    assert "127.0.0.1 does not answer" in said and "3 times in succession" in said and "what is done is kept" in said
    before = (out / "state/1_curation.jsonl").read_bytes()
    assert before.count(b"\n") == 6
    with serving(scenes.Language(healed=True)) as llm, serving(scenes.judge) as seer:
        flags = scenes.flags(images, out, llm.url, seer.url, "--skip", "clip", *more)
        assert cli.main(["data", *flags]) == 0
    assert (out / "state/1_curation.jsonl").read_bytes() == before and len(table(out)) == 5  # one is babbled about


def test_a_judge_that_goes_away_leaves_the_edits_undecided_not_rejected(tmp_path, images, refused, capsys):
    out = tmp_path / "out"
    with serving(scenes.Language(healed=True)) as llm:
        with serving(lambda request: (401, b"no such key", {})) as seer:
            said = refused(*scenes.flags(images, out, llm.url, seer.url, "--skip", "clip", "--patience", 2))
        assert "refuses with 401; check the key" in said
        assert (out / "state/3_choice.jsonl").read_bytes() == b""
        with serving(scenes.judge) as seer:
            assert cli.main(["data", *scenes.flags(images, out, llm.url, seer.url, "--skip", "clip")]) == 0
    assert len(table(out)) == 5


def test_a_key_that_is_not_set_or_not_a_name(tmp_path, images, refused, monkeypatch):
    monkeypatch.delenv("EDITKIT_NOT_SET", raising=False)
    assert "EDITKIT_NOT_SET holds no key" in refused(*build(images, tmp_path / "out", "--llm-key", "EDITKIT_NOT_SET"))
    said = refused(*build(images, tmp_path / "out", "--llm-key", "sk-very-secret"))
    assert "never the key itself" in said and "very-secret" not in said


def test_the_key_is_sent_and_written_nowhere(tmp_path, images, monkeypatch):
    monkeypatch.setenv("EDITKIT_KEY", "hush-hush")
    with serving(scenes.Language(healed=True)) as llm:
        flags = scenes.flags(images, tmp_path / "out", llm.url, None, "--skip", "clip", "--llm-key", "EDITKIT_KEY")
        flags[flags.index("--judge") + 1] = NOWHERE
        cli.main(["data", *flags, "--patience", "1"])
        assert all(request.headers["Authorization"] == "Bearer hush-hush" for request in llm.requests)
    assert not any(b"hush" in p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file())


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A build that is through, to copy."""
    root = tmp_path_factory.mktemp("done")
    assert World().run(scenes.write(root / "images", 3), root / "out") == 0
    return root


@pytest.mark.parametrize(("name", "harm"), [
    ("1_curation", "garbled"), ("2_instructions", "doubled"), ("3_editor_2", "emptied"), ("3_choice", "garbled"),
    ("4_checks", "doubled"),
])  # fmt: skip
def test_a_corrupt_ledger_is_named_with_its_line_and_left_alone(tmp_path, done, name, harm):
    shutil.copytree(done / "out", tmp_path / "out")
    path = tmp_path / f"out/state/{name}.jsonl"
    lines = path.read_bytes().splitlines(True)
    lines[1] = {"garbled": b"\x00" * 9 + lines[1][9:], "doubled": lines[0], "emptied": b"{}\n"}[harm]
    path.write_bytes(b"".join(lines))
    with pytest.raises(EditError, match=rf"{name}.jsonl is damaged in line 2; put back a copy"):
        World().run(done / "images", tmp_path / "out")
    assert path.read_bytes() == b"".join(lines)
    shutil.copy(done / f"out/state/{name}.jsonl", path)
    assert World().run(done / "images", tmp_path / "out") == 0


@pytest.mark.parametrize(("name", "harm"), [("edits/1", "gone"), ("pictures", "damaged"), ("edits/2", "damaged")])
def test_a_picture_of_the_build_that_is_gone_or_damaged_is_named(tmp_path, done, name, harm):
    """Whoever lost what stages 3 and 4 decided, and a picture with it."""
    shutil.copytree(done / "out", tmp_path / "out")
    for ledger_name in ("3_choice", "4_checks"):
        (tmp_path / f"out/state/{ledger_name}.jsonl").unlink()
    path = sorted((tmp_path / "out" / name).iterdir())[0]
    path.unlink() if harm == "gone" else path.write_bytes(path.read_bytes()[:99])
    with pytest.raises(EditError, match=f"{path.name}, which this build wrote, is gone or damaged"):
        World().run(done / "images", tmp_path / "out")


def test_other_settings_need_another_folder(tmp_path, done):
    images, world = done / "images", World()
    shutil.copytree(done / "out", tmp_path / "out")
    for more, said in (
        (("--short-side", 48), "begun with short_side 32 and is now asked for 48"),
        (("--least-change", 0.1), "begun with least_change 0.001"),
        (("--skip", "aesthetic"), "begun with skip"),
    ):
        with pytest.raises(EditError, match=said):
            world.run(images, tmp_path / "out", *more)
    assert world.run(images, tmp_path / "out", "--workers", 2, "--patience", 1) == 0
    (tmp_path / "out/build.json").write_text("{")
    with pytest.raises(EditError, match="build.json is damaged"):
        world.run(images, tmp_path / "out")


def test_a_second_run_in_the_same_folder_is_refused_while_the_first_runs(tmp_path, images):
    world, second = World(), []

    def see(question, pictures):
        with pytest.raises(EditError, match="Another run is writing to"):
            World().run(images, tmp_path / "out")
        second.append(1)
        return "2, better."

    world.see = see
    assert world.run(images, tmp_path / "out") == 0 and len(second) == 6
    assert World().run(images, tmp_path / "out") == 0


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit on a file's size")
def test_a_full_disk_ends_the_run_and_loses_nothing(tmp_path, images):
    """Files may not grow beyond a limit, first one that stops pictures and then ones that stop ledgers, half-way in a
    row, and the table."""
    import resource

    small = ("--short-side", 16)
    assert World().run(images, tmp_path / "whole", *small) == 0
    usual, stopped = resource.getrlimit(resource.RLIMIT_FSIZE), []
    for limit in (700, 1200, 2000, 3000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, usual[1]))
        try:
            World().run(images, tmp_path / "out", *small)
        except EditError as error:
            stopped.append(str(error))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, usual)
        state = [path.read_bytes() for path in (tmp_path / "out/state").glob("*.jsonl")]
        assert all(data[-1:] in (b"", b"\n") for data in state)  # no half rows
    assert len(stopped) >= 2 and all("Cannot write" in said and "what is done is kept" in said for said in stopped)
    assert any(".jsonl" in said for said in stopped) and any(".png" in said for said in stopped), stopped
    assert not list((tmp_path / "out").rglob("*.part"))
    assert World().run(images, tmp_path / "out", *small) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_folder_that_cannot_be_written_to(tmp_path, images, refused):
    (tmp_path / "file").write_text("")
    said = refused(*build(images, tmp_path / "file/out", "--skip", "suitability"))
    assert "Cannot write" in said and str(tmp_path / "file") in said


def test_an_editor_that_fails_on_some_is_a_reject_and_on_all_ends_the_run(tmp_path, images):
    some = World(bad=(1, 2))
    assert some.run(images, tmp_path / "some") == 0
    assert len(table(tmp_path / "some")) == 4
    assert (tmp_path / "some/rejects.csv").read_text().count("editor 1: the network did not like it; editor 2:") == 2
    every = World(bad=range(6))
    with pytest.raises(EditError, match="the network did not like it, 5 times in succession"):
        every.run(images, tmp_path / "every")
    assert ledger.read(tmp_path / "every/state/3_editor_1.jsonl") == {}
    every.bad = ()
    every.editors.clear()
    assert every.run(images, tmp_path / "every") == 0 and len(table(tmp_path / "every")) == 6


def test_an_editor_whose_server_is_away_rejects_nothing(tmp_path, images, monkeypatch):
    class Away(EditError):
        down = True

    def edit(editor, image, *, sets=None):
        if len(editor.told) == 2:
            raise Away("The server at http://127.0.0.1:8188 stayed away.")
        return usual(editor, image, sets=sets)

    usual = stubs.Editor.edit
    with monkeypatch.context() as patch:
        patch.setattr(stubs.Editor, "edit", edit)
        with pytest.raises(EditError, match="stayed away; put that right and run the same command again"):
            World().run(images, tmp_path / "out")
    assert len(ledger.read(tmp_path / "out/state/3_editor_1.jsonl")) == 2
    assert World().run(images, tmp_path / "out") == 0 and len(table(tmp_path / "out")) == 6


def test_words_that_mean_nothing(tmp_path, images, refused):
    assert "--categories has 'juggle'" in refused(*build(images, tmp_path / "o", "--categories", "add,juggle",
                                                         "--skip", "suitability"))  # fmt: skip
    assert "holds no config.json" in refused(*scenes.flags(images, tmp_path / "o", NOWHERE, None, "--clip", images))
    assert "is neither an address" in refused(*build(images, tmp_path / "o", llm=images))
    assert "holds no build" in refused("look", images)


def test_a_machine_without_pyarrow_is_told_before_the_work(tmp_path, images, refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install pyarrow" in refused(*build(images, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_picture_of_a_table_that_is_not_there_is_a_reject(tmp_path, images):
    (images / "03.png").unlink()
    Image.new("CMYK", (64, 48)).save(images / "03.jpg")
    assert World().run(images, tmp_path / "out") == 0
    assert "there is no file" in (tmp_path / "out/rejects.csv").read_text() and len(table(tmp_path / "out")) == 5
