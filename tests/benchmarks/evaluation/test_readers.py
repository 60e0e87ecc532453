"""Each benchmark's published layout is read, field by field; what is missing or strange is said in one sentence."""

import json

import numpy as np
import pytest
from PIL import Image

from editkit.benchmarks.evaluation import readers
from editkit.benchmarks.evaluation.readers import masks
from editkit.models.errors import EditError
from editkit.tests.benchmarks.evaluation import layouts

BOX = np.asarray(layouts.mask()) > 127


def read(benchmark, folder, **options):
    return readers.read(benchmark, folder, readers.Options(**options))


def region(picture, size=(layouts.WIDTH, layouts.HEIGHT)):
    return np.asarray(picture.grey().resize(size, Image.Resampling.NEAREST)) > 127


def same(picture, other) -> bool:
    return np.array_equal(np.asarray(picture.load()), np.asarray(other.convert("RGB")))


def test_pie_bench(tmp_path):
    found = read("pie-bench", layouts.pie_bench(tmp_path)).samples
    assert [s.category for s in found] == ["random", "change object", "random"]
    one = found[1]
    assert (one.source_caption, one.target_caption) == ("a photograph of a round thing", "a photograph of a red thing")
    assert one.instruction == "Make the thing red" and one.source.path.name == "000000000001.jpg"
    assert (region(one.mask) == BOX).mean() > 0.99
    scored = np.asarray(one.scored.grey()) > 127
    assert scored[0].all() and scored[:, -1].all() and scored.mean() < 0.2


def test_run_lengths_are_decoded_as_pie_benchs_own_loop_does():
    draw = np.random.default_rng(0)
    runs = [int(n) for start in np.sort(draw.integers(0, 990, 20)) for n in (start, draw.integers(0, 40))]
    expected = np.zeros(1000)
    for i in range(0, len(runs), 2):
        for j in range(min(runs[i + 1], 1000 - runs[i])):
            expected[runs[i] + j] = 1
    made = np.asarray(masks.from_runs(runs, 25, 40, border=False)).ravel() / 255
    assert np.array_equal(made, expected)


@pytest.mark.parametrize("runs", [[3], [-1, 2], [1, -2]])
def test_bad_run_lengths_are_refused(runs):
    with pytest.raises(EditError, match="run lengths"):
        masks.from_runs(runs, 4, 4, border=False)


@pytest.mark.parametrize("turns_file", [False, True])
def test_magicbrush_as_released(tmp_path, turns_file):
    folder = layouts.magicbrush(tmp_path, turns_file)
    found = read("magicbrush", folder).samples
    assert [s.id for s in found] == ["139-output1", "139-output2", "30-output1"]
    assert [s.instruction for s in found] == ["change 1", "change 2", "change 1"]
    assert all(not s.session and s.final for s in found)
    second = found[1]
    assert second.source.path.name == "139-output1.png" and second.target.path.name == "139-output2.png"
    assert second.target_caption == "a thing of 139-output2.png"
    assert second.source_caption == "a scene of 139-output1.png"
    assert np.array_equal(region(second.mask), BOX)


def test_magicbrush_in_turns(tmp_path):
    found = read("magicbrush", layouts.magicbrush(tmp_path), turns="multi").samples
    assert [(s.session, s.turn, s.final) for s in found] == [("139", 1, False), ("139", 2, True), ("30", 1, True)]


def test_magicbrush_as_parquet(tmp_path):
    released = read("magicbrush", layouts.magicbrush(tmp_path / "a")).samples
    found = {s.id: s for s in read("magicbrush", layouts.magicbrush_parquet(tmp_path / "b")).samples}
    assert set(found) == {s.id for s in released}
    for one in released:
        other = found[one.id]
        assert same(other.source, one.source.load()) and same(other.target, one.target.load())
        assert other.instruction == one.instruction
        assert (region(other.mask) == BOX).mean() > 0.99  # the hole's transparency is lost there


@pytest.mark.parametrize("layout", [layouts.emu_edit, layouts.emu_edit_folder])
def test_emu_edit(tmp_path, layout):
    found = read("emu-edit", layout(tmp_path))
    assert [s.id for s in found.samples] == ["local-0", "color-3"]
    assert "2 of 4 samples" in found.notes[0]
    one = found.samples[0]
    assert (one.source_caption, one.target_caption, one.category) == ("a dog", "a red dog", "local")
    assert same(one.source, layouts.photographs()[0]) and one.target is None
    assert len(read("emu-edit", tmp_path, keep_flawed=True).samples) == 4


def test_emu_edits_generations_are_targets(tmp_path):
    found = read("emu-edit", layouts.emu_edit(tmp_path, generations=True)).samples
    assert same(found[0].target, layouts.edited(layouts.photographs()[0]))


def test_a_split_of_emu_edit_is_chosen(tmp_path):
    folder = layouts.emu_edit(tmp_path, splits=True)
    with pytest.raises(EditError, match="test and validation; choose one with --split"):
        read("emu-edit", folder)
    assert [s.id for s in read("emu-edit", folder, split="test").samples] == ["local-9"]


def test_a_split_is_known_by_its_files_name_where_no_column_tells(tmp_path):
    for split in ("validation", "test"):
        rows = [{"instruction": "Make it red", "input_caption": "a dog", "output_caption": "a red dog", "task": split,
                 "idx": 1, "image": layouts.photographs()[0]}]  # fmt: skip
        layouts.parquet(tmp_path / "data" / f"{split}-00000-of-00001.parquet", rows)
    with pytest.raises(EditError, match="test and validation; choose one with --split"):
        read("emu-edit", tmp_path)
    assert [s.id for s in read("emu-edit", tmp_path, split="validation").samples] == ["validation-1"]


def test_anybench(tmp_path):
    found = read("anybench", layouts.anybench(tmp_path / "anybench")).samples
    assert [s.category for s in found] == ["color_alter", "implicit_change", "visual_bbox"]
    assert found[0].target_caption == "a red thing" and found[1].target_caption == ""
    assert found[0].target.path.is_file() and found[0].source.path.is_file()
    assert [s.reference is None for s in found] == [True, True, False]


def test_gedit_bench(tmp_path):
    folder = layouts.gedit_bench(tmp_path)
    found = read("gedit-bench", folder).samples
    assert [s.category for s in found] == ["color_alter", "subject-add", "subject-add"]
    assert [s.marks for s in found] == [("intersection",), ("intersection",), ()]
    assert found[0].instruction == "Make it red" and found[0].source.load().size == (layouts.WIDTH, layouts.HEIGHT)
    assert read("gedit-bench", folder, language="cn").samples[0].instruction == "变成红色"
    assert len(read("gedit-bench", folder, language="all").samples) == 6


def test_kontext_bench(tmp_path):
    found = read("kontext-bench", layouts.kontext_bench(tmp_path)).samples
    assert [(s.id, s.category) for s in found] == [("0000_0", "Character Reference"), ("0001_0", "Text Editing")]
    assert all(s.source.path.is_file() for s in found)


def test_a_plain_folder(data):
    one = read("folder", data).samples[1]
    assert one.id == "edit 1" and one.category == "colour" and one.target_caption == "a red thing"
    assert np.array_equal(region(one.mask), BOX) and one.region is one.mask
    assert one.stem != "edit 1" and " " not in one.stem


def test_a_plain_folder_with_a_csv_of_sources_alone(tmp_path):
    layouts.save(layouts.photographs()[0], tmp_path / "a.png")
    (tmp_path / "list.csv").write_text("image\na.png\n")
    (one,) = read("folder", tmp_path).samples
    assert one.id == "0001" and one.mask is None and one.target is None and one.instruction == ""


def test_sessions_of_a_plain_folder_are_ordered(tmp_path):
    layouts.plain(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    layouts.jsonl(tmp_path / "samples.jsonl", [r | {"session": "s", "turn": 3 - n} for n, r in enumerate(rows)])
    found = read("folder", tmp_path).samples
    assert [(s.id, s.turn, s.final) for s in found] == [("edit 2", 1, False), ("edit 1", 2, False), ("edit 0", 3, True)]


@pytest.mark.parametrize("benchmark", list(readers.READERS))
def test_a_folder_of_another_layout_is_refused_in_a_sentence(benchmark, tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(EditError) as error:
        read(benchmark, tmp_path)
    said = str(error.value)
    assert str(tmp_path) in said and said.count(". ") == 0 and said.endswith(".")


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(EditError, match="There is no folder .*gone"):
        read("pie-bench", tmp_path / "gone")


@pytest.mark.parametrize(
    ("benchmark", "layout", "file", "field"),
    [
        ("pie-bench", layouts.pie_bench, "mapping_file.json", "editing_prompt"),
        ("magicbrush", layouts.magicbrush, "edit_sessions.json", "instruction"),
        ("anybench", lambda folder: layouts.anybench(folder / "anybench").parent, "edit_result.json", "edited_file"),
        ("kontext-bench", layouts.kontext_bench, "metadata.jsonl", "category"),
    ],
)
def test_a_field_that_is_missing_is_named(benchmark, layout, file, field, tmp_path):
    layout(tmp_path)
    path = next(tmp_path.rglob(file))
    path.write_text(path.read_text().replace(f'"{field}"', '"another"'))
    with pytest.raises(EditError, match=f"has no {field}; it has .*another"):
        read(benchmark, tmp_path)


def test_damaged_tables_are_named(tmp_path):
    layouts.pie_bench(tmp_path / "a")
    (tmp_path / "a/mapping_file.json").write_text("{")
    with pytest.raises(EditError, match="not JSON"):
        read("pie-bench", tmp_path / "a")
    layouts.emu_edit(tmp_path / "b")
    next((tmp_path / "b").rglob("*.parquet")).write_bytes(b"PAR1")
    with pytest.raises(EditError, match="not readable as parquet"):
        read("emu-edit", tmp_path / "b")


def test_a_benchmark_without_one_picture_is_refused(tmp_path):
    layouts.kontext_bench(tmp_path)
    for path in tmp_path.rglob("*.jpg"):
        path.unlink()
    with pytest.raises(EditError, match="None of the 2 source pictures of KontextBench is there"):
        read("kontext-bench", tmp_path)


def test_an_id_that_comes_twice_is_refused(tmp_path):
    with pytest.raises(EditError, match="names the sample 'same' twice"):
        read("folder", layouts.plain(tmp_path, id="same"))


def test_a_row_without_a_source_is_refused(tmp_path):
    with pytest.raises(EditError, match="Row 1 of .* names no source"):
        read("folder", layouts.plain(tmp_path, source=None))
