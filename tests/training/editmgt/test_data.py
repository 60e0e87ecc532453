"""Tables of examples, what is cut of their pictures, and the choice of the best."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from editkit.models.errors import EditError
from editkit.tests.training.editmgt.conftest import write
from editkit.training import tables
from editkit.training.editmgt import data, world


def rows(scores):
    return [{"aesthetic": s, "name": i} for i, s in enumerate(scores)]


def names(chosen):
    return [row["name"] for row in chosen]


def test_the_best_twelve_per_cent_are_chosen_by_their_score():
    scores = [(i * 37) % 50 for i in range(50)]
    assert names(data.best(rows(scores), 0.12)) == [i for i, s in enumerate(scores) if s >= 44]


def test_scores_may_be_text_and_of_equals_the_first_is_taken():
    assert names(data.best(rows(["1.5", "1.50", "10", "9"]), 0.75)) == [0, 2, 3]
    assert names(data.best(rows([1, 1, 1]), 1.0)) == [0, 1, 2]


@pytest.mark.parametrize(
    ("given", "share", "column", "said"),
    [
        (rows([1, 2]), 0.5, "beauty", "'beauty'"),
        ([{"a": 1}, {"a": 2}], 0.5, None, "aesthetic, aesthetic_score, score"),
        (rows([1, "high"]), 0.5, None, "Row 2 has 'high'"),
        (rows([1, float("nan")]), 0.5, None, "Row 2"),
        (rows([1, 2]), 0.0, None, "--best 0.0"),
        (rows([1, 2]), 1.5, None, "--best 1.5"),
    ],
)
def test_a_choice_that_cannot_be_made_is_refused(given, share, column, said):
    with pytest.raises(EditError, match=said) as caught:
        data.best(given, share, column)
    assert str(caught.value).count("\n") == 0


def test_the_same_edits_are_held_out_whatever_is_chosen(edits):
    everything, few = (data.read(str(edits), edits=True, share=s) for s in (1.0, 0.12))
    assert everything.held == few.held and len(few.held) == 8
    assert len(everything.trained) == 32 and len(few.trained) == 4
    others = [float(r["aesthetic"]) for r in everything.trained if r not in few.trained]
    assert min(float(r["aesthetic"]) for r in few.trained) >= max(others)


def test_an_edit_is_read_as_its_ids_its_text_and_its_mask(edits):
    files = data.Files(data.read(str(edits), edits=True), world.World())
    rng, known = np.random.default_rng(3), {}
    for _ in range(40):
        example = world.edited(rng)
        known.setdefault(example.text, []).append(example)
    for found in [*files.held(world.SIDE), files.draw(rng, world.SIDE)]:
        assert any(
            torch.equal(found.source, e.source) and torch.equal(found.target, e.target)
            and torch.equal(found.region, e.region) for e in known[found.text]
        )  # fmt: skip


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize("columns", [("source", "target", "instruction"), ("input", "output", "edit")])
def test_tables_are_read_under_their_usual_names(edits, tmp_path, kind, columns):
    folder = shutil.copytree(edits, tmp_path / "edits")
    (folder / "edits.csv").unlink()
    found = [dict(zip(columns, (f"{i}_source.png", f"{i}_target.png", f"edit {i}"))) for i in range(10)]
    path = folder / f"table.{kind}"
    if kind == "csv":
        write(path, found)
    else:
        path.write_text("\n".join(map(json.dumps, found)))
    for given in (path, folder):
        read = data.read(str(given), edits=True)
        assert sorted(r["instruction"] for r in read.trained + read.held) == sorted(f"edit {i}" for i in range(10))
        assert all(r["source"].is_file() for r in read.trained)


def test_captions_lie_beside_their_pictures(pairs):
    read = data.read(str(pairs), edits=False)
    assert len(read.trained) == 16 and len(read.held) == 4
    example = data.Files(read, world.World()).held(world.SIDE)[0]
    assert example.text == (pairs / "00.txt").read_text() and example.source is None


def test_one_of_several_captions_is_drawn_and_the_first_is_measured():
    several = ["one", "two", "three"]
    rng = np.random.default_rng(0)
    assert {data._said(several, rng) for _ in range(30)} == set(several) and data._said(several, None) == "one"


def test_source_target_and_mask_are_cut_alike(tmp_path):
    """Wide pictures whose halves differ: the official trainer crops each of the two anywhere."""
    class Colours(world.World):
        def ids(self, image):
            return (image[:, ::4, ::4].mean(0) * 255).round().long()

    wide = np.tile(np.arange(120, dtype=np.uint8), (32, 1))
    for name in ("source", "target", "mask"):
        Image.fromarray(wide if name != "mask" else (wide >= 60).astype(np.uint8) * 255).save(tmp_path / f"{name}.png")
    table = [dict(source="source.png", target="target.png", mask="mask.png", instruction="x")] * 6
    write(tmp_path / "t.csv", table)
    files, rng = data.Files(data.read(str(tmp_path), edits=True), Colours()), np.random.default_rng(0)
    starts = set()
    for _ in range(10):
        example = files.draw(rng, 8)
        assert torch.equal(example.source, example.target)
        starts.add(int(example.source[0, 0]))
        assert torch.equal(example.region, example.source + 3 >= 60)
    assert len(starts) > 4


def test_without_pyarrow_a_parquet_is_refused_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(EditError, match="pip install pyarrow"):
        tables.read(str(tmp_path), "--edits", data.EDIT)


def test_a_parquet_with_its_pictures_inside_is_read(edits, tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow import parquet

    table = {
        name: [{"bytes": (edits / f"{i}_{name}.png").read_bytes(), "path": None} for i in range(10)]
        for name in ("source", "target")
    } | {"instruction": [f"edit {i}" for i in range(10)]}
    parquet.write_table(pyarrow.table(table), tmp_path / "a.parquet", row_group_size=3)
    inside = data.Files(data.read(str(tmp_path), edits=True), world.World())
    beside = data.Files(data.read(str(edits), edits=True), world.World())
    assert torch.equal(inside.held(8)[0].source, beside.held(8)[0].source)
    assert inside.draw(np.random.default_rng(0), 8).text.startswith("edit")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("source,target\na.png,b.png\n", "a row without instruction"),
        ("instruction,target\nx,b.png\n", "a row without source; its columns are instruction, target"),
        ("source,target,instruction\n", "holds no rows"),
        ("source,target,instruction\na.png,,x\n", "a row without target"),
    ],
)
def test_a_table_that_lacks_something_is_refused(tmp_path, content, said):
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(EditError, match=said) as caught:
        data.read(str(tmp_path / "t.csv"), edits=True)
    assert "t.csv" in str(caught.value)


def test_a_damaged_picture_is_named(edits, tmp_path):
    folder = shutil.copytree(edits, tmp_path / "edits")
    for path in folder.glob("*_target.png"):
        path.write_bytes(b"no picture")
    with pytest.raises(EditError, match="_target.png cannot be read"):
        data.Files(data.read(str(folder), edits=True), world.World()).held(world.SIDE)
