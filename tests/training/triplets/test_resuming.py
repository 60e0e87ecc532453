"""A build that is killed anywhere goes on: nothing is lost, nothing is there twice, and it ends as if left alone."""

import hashlib
import os
import signal
import subprocess
import sys
import time

import pytest

from editkit.headless import cli
from editkit.tests.loopback_judge import serving
from editkit.tests.training.triplets import scenes
from editkit.tests.training.triplets.stubs import World
from editkit.training.triplets import editing, ledger

KILLS = ("before a row", "in a row", "after a row", "before a picture", "in a picture")


class Killed(BaseException):
    pass


def contents(out) -> dict[str, str]:
    """Every file of a build with its hash, but for the table, whose bytes pyarrow does not promise."""
    return {
        p.relative_to(out).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(out.rglob("*")) if p.is_file() and p.name not in (".lock", "triplets.parquet")
    }  # fmt: skip


def table(out) -> list[dict]:
    from pyarrow import parquet

    return parquet.read_table(out / "triplets/triplets.parquet").to_pylist()


class Death:
    """Kills a run at the n-th time that it is about to, or has begun to, or is done writing a row or a picture."""

    def __init__(self, monkeypatch, how: str, number: int):
        self.how, self.left = how, number
        add, write = ledger.Ledger.add, ledger.write
        monkeypatch.setattr(ledger.Ledger, "add", lambda book, row: self.add(add, book, row))
        replaced = lambda path, fill: self.write(write, path, fill)  # noqa: E731
        for module in (ledger, editing.pictures):
            monkeypatch.setattr(module, "write", replaced)

    def due(self, how: str) -> bool:
        self.left -= how == self.how
        return how == self.how and self.left < 0

    def add(self, add, book, row):
        if self.due("before a row"):
            raise Killed
        if self.due("in a row"):
            book._file.write(b'{"key": "' + row["key"].encode()[:9])
            raise Killed
        add(book, row)
        if self.due("after a row"):
            raise Killed

    def write(self, write, path, fill):
        if self.due("before a picture"):
            raise Killed
        if self.due("in a picture"):
            path.parent.mkdir(parents=True, exist_ok=True)
            (path.parent / "tmpkilled.part").write_bytes(b"half")
            raise Killed
        return write(path, fill)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """(the pictures, a build of them that nobody disturbed)."""
    root = tmp_path_factory.mktemp("alone")
    images = scenes.write(root / "images", 4)
    assert World().run(images, root / "out", "--workers", 3) == 0
    assert len(table(root / "out")) == 4
    return images, root / "out"


@pytest.mark.parametrize("how", KILLS)
def test_a_run_killed_at_every_step_ends_as_one_left_alone(alone, how, tmp_path, monkeypatch):
    """Each run gets one row, or two pictures, further than the one before it."""
    images, wanted = alone
    world, deaths = World(), 0
    while True:
        with monkeypatch.context() as patch:
            Death(patch, how, 1 if "picture" in how else how != "after a row")
            try:
                assert world.run(images, tmp_path / "out") == 0
                break
            except Killed:
                deaths += 1
        assert deaths < 99
    assert deaths > 8
    assert contents(tmp_path / "out") == contents(wanted) and table(tmp_path / "out") == table(wanted)
    asked = {name: len(editor.told) for name, editor in world.editors.items()}
    assert all(4 <= count <= 8 for count in asked.values()), asked  # an edit is made again only where it was cut off


def test_a_run_that_is_done_does_nothing_again(alone, capsys):
    images, out = alone
    before, world = contents(out), World(write=lambda *_: pytest.fail("asked"), see=lambda *_: pytest.fail("asked"))
    assert world.run(images, out) == 0
    assert contents(out) == before and not any(editor.told for editor in world.editors.values())


def test_more_pictures_are_added_to_a_build(alone, tmp_path):
    images, wanted = alone
    few = tmp_path / "images"
    few.mkdir()
    (few / "captions.csv").write_text("".join((images / "captions.csv").read_text().splitlines(True)[:3]))
    for number in range(4):
        (few / f"{number:02d}.png").write_bytes((images / f"{number:02d}.png").read_bytes())
    assert World().run(few, tmp_path / "out") == 0 and len(table(tmp_path / "out")) == 2
    (few / "captions.csv").write_bytes((images / "captions.csv").read_bytes())
    assert World().run(few, tmp_path / "out") == 0
    assert table(tmp_path / "out") == table(wanted)


def test_an_instruction_that_is_written_anew_gets_no_older_edit(alone, tmp_path):
    """Whoever deletes the second stage's rows gets other words, and edits made for these."""
    images, _ = alone
    assert World().run(images, tmp_path / "out") == 0
    old = {row["key"] for row in table(tmp_path / "out")}
    (tmp_path / "out/state/2_instructions.jsonl").unlink()
    usual, world = World().write, World()
    world.write = lambda question, pictures: usual(question, pictures).replace("Do ", "Please do ")
    assert world.run(images, tmp_path / "out") == 0
    rows = table(tmp_path / "out")
    assert len(rows) == 4 and not old & {row["key"] for row in rows}
    assert all(row["instruction"].startswith("Please do ") for row in rows)
    assert all(said.startswith("Please do ") for editor in world.editors.values() for _, said in editor.told)
    files = {p.stem for p in (tmp_path / "out/triplets").glob("*/[xy]/*")}
    assert files == {row["key"] for row in rows}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_process_that_is_killed_outright_leaves_a_build_that_goes_on(tmp_path, root):
    """The shipped workflows, SIGKILL in the middle of the first editor, and the same command once more."""
    images = scenes.write(tmp_path / "images", 3)
    with serving(scenes.Language(healed=True)) as llm, serving(scenes.judge) as seer:
        def said(out):
            return ["data", *scenes.flags(images, tmp_path / out, llm.url, seer.url, "--skip", "clip")]

        process = subprocess.Popen([sys.executable, str(root), *said("out")], stdout=subprocess.DEVNULL)
        state, end = tmp_path / "out/state/3_editor_1.jsonl", time.monotonic() + 120
        while not (state.is_file() and state.read_bytes().count(b"\n") >= 1):
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (tmp_path / "out/triplets/triplets.parquet").exists()
        assert cli.main(said("out")) == 0 and cli.main(said("whole")) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert table(tmp_path / "out") == table(tmp_path / "whole") and table(tmp_path / "out")
