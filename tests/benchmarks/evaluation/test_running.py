"""A run: what reaches the workflow, what is kept when it is stopped, turns, and everything that can be wrong."""

import hashlib
import json
import multiprocessing
import os
import time

import numpy as np
import pytest
from PIL import Image

from editkit.benchmarks.evaluation import compare, ledger, papers
from editkit.benchmarks.evaluation.ledger import Ledger
from editkit.models.errors import EditError
from editkit.tests.benchmarks.evaluation import layouts
from editkit.tests.loopback_judge import serving

BOX = np.asarray(layouts.mask()) > 127
LAYOUTS = {
    "pie-bench": layouts.pie_bench, "magicbrush": layouts.magicbrush, "emu-edit": layouts.emu_edit,
    "anybench": layouts.anybench, "gedit-bench": layouts.gedit_bench, "kontext-bench": layouts.kontext_bench,
    "folder": layouts.plain,
}  # fmt: skip
WITHOUT_MASK = ("instruction",)


def rows(out):
    return Ledger(out).rows


@pytest.mark.parametrize("benchmark", list(LAYOUTS))
def test_every_layout_is_run_and_reported(benchmark, evaluate, tmp_path):
    data = LAYOUTS[benchmark](tmp_path / benchmark)
    made = evaluate(benchmark, data, titles=WITHOUT_MASK)
    assert made.report["done"] == made.report["samples"] == len(rows(made.out)) > 0
    text = (made.out / "report.txt").read_text()
    for table in papers.BENCHMARKS[benchmark].tables:
        if table.printed:
            printed = papers.printed()[table.printed]
            assert table.title in text and printed["source"] in text and printed["rows"][-1][0] in text
    assert json.loads((made.out / "report.json").read_text())["benchmark"] == benchmark
    assert (made.out / "page" / "index.html").is_file()


def test_words_and_mask_reach_the_titled_nodes(evaluate, data):
    made = evaluate("folder", data)
    path, sets = made.editor.asked[0]
    assert path == data / "0_source.png"
    assert sets["instruction"] == "Make <b>it</b> red & round" and sets["target caption"] == "a red thing"
    assert np.array_equal(sets["mask"] > 127, BOX)


def test_map_sends_a_field_elsewhere_or_nowhere(evaluate, data):
    maps = ("--map", "1.image=source caption", "--map", "mask=")
    made = evaluate("folder", data, lambda p, s: p, *maps, titles=("mask",))
    assert made.editor.asked[0][1] == {"1.image": "a thing"}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--map", "nothing=instruction"], "nothing called 'nothing'"),
        (["--map", "mask=words"], "no NAME=FIELD; the fields are instruction"),
        (["--metrics", "l1_target,beauty"], "no metric 'beauty'; there are l1_target"),
        (["--category", "none of them"], "No sample is of the category 'none of them'; there are colour, first"),
    ],
)
def test_bad_options_are_said_in_a_sentence(more, said, evaluate, data):
    with pytest.raises(EditError, match=said):
        evaluate("folder", data, lambda p, s: p, *more)


def test_a_benchmark_in_words_needs_a_workflow_that_takes_them(evaluate, tmp_path):
    folder = layouts.gedit_bench(tmp_path / "gedit")
    with pytest.raises(EditError, match="GEdit-Bench tells its edits in words, and .* no node titled 'instruction'"):
        evaluate("gedit-bench", folder, titles=())
    made = evaluate("gedit-bench", folder, lambda p, s: p, "--map", "1.image=instruction", titles=())
    assert made.report["done"] == 3


def test_a_workflow_that_wants_what_no_sample_has_is_refused(evaluate, tmp_path):
    folder = layouts.gedit_bench(tmp_path / "gedit")
    with pytest.raises(EditError, match="'mask' takes the mask, and no sample of GEdit-Bench has one; .*--map 'mask='"):
        evaluate("gedit-bench", folder, titles=("instruction", "mask"))


def test_guided_edits_are_left_out_unless_the_workflow_takes_their_picture(evaluate, tmp_path):
    folder = layouts.anybench(tmp_path / "anybench")
    made = evaluate("anybench", folder, titles=WITHOUT_MASK, out=tmp_path / "a")
    assert made.report["samples"] == 2 and "1 samples are guided by a further picture" in made.report["notes"][0]
    with pytest.raises(EditError, match="takes the reference"):
        evaluate("folder", layouts.plain(tmp_path / "b"), titles=("reference",), out=tmp_path / "b_out")


def stopping(after):
    """An editor that is stopped at the picture of that number, from 0."""
    left = iter(range(after))

    def edit(picture, sets):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return picture

    return edit


def test_a_stopped_run_goes_on_where_it_was(evaluate, data):
    with pytest.raises(KeyboardInterrupt):
        evaluate("folder", data, stopping(2))
    kept = rows(data.parent / "out")
    assert list(kept) == ["edit 0", "edit 1"]
    assert "2 of 3 samples" in (data.parent / "out" / "report.txt").read_text()
    made = evaluate("folder", data)
    assert [path.name for path, _ in made.editor.asked] == ["2_source.png"]
    assert {k: v for k, v in rows(made.out).items() if k in kept} == kept and made.report["done"] == 3
    again = evaluate("folder", data)
    assert again.editor.asked == [] and again.report == made.report


def test_what_is_measured_is_not_measured_again(evaluate, data, monkeypatch):
    from editkit.benchmarks.evaluation import running

    made = evaluate("folder", data)
    monkeypatch.setattr(running, "measured", None)  # a call would raise
    assert evaluate("folder", data).report == made.report


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_run_killed_again_and_again_loses_nothing(evaluate, tmp_path):
    """Each kill comes at another moment of a sample; what was written before stays as it was."""
    data, out = layouts.plain(tmp_path / "data", 6), tmp_path / "out"
    context, draw, before = multiprocessing.get_context("fork"), np.random.default_rng(0), {}
    begun = context.Value("i", 0)

    def slow(picture, sets):
        begun.value += 1
        time.sleep(0.03)
        return picture

    for _ in range(6):
        begun.value, child = 0, context.Process(target=evaluate, args=("folder", data, slow, "--metrics", "l1_source"))
        child.start()
        wait_for(lambda child=child: begun.value >= 2 or not child.is_alive())
        time.sleep(draw.uniform(0, 0.1))
        child.kill()
        child.join()
        now = rows(out)
        assert {key: now[key] for key in before} == before
        before = now
    made = evaluate("folder", data, slow, "--metrics", "l1_source")
    assert len(before) >= 5 and len(made.editor.asked) == 6 - len(before) and len(rows(out)) == 6
    for row in rows(out).values():
        assert hashlib.sha256((out / row["result"]).read_bytes()).hexdigest() == row["sha256"]


def wait_for(happened, seconds=60):
    end = time.monotonic() + seconds
    while not happened() and time.monotonic() < end:
        time.sleep(0.002)
    assert happened()


def test_rows_are_gathered_and_survive_a_kill_in_between(evaluate, data, monkeypatch):
    monkeypatch.setattr(ledger, "EVERY", 2)
    with pytest.raises(KeyboardInterrupt):
        evaluate("folder", data, stopping(2))
    out = data.parent / "out"
    assert (out / ledger.GATHERED).is_file() and not list((out / ledger.PARTS).iterdir())
    book = Ledger(out)
    book.add(book.rows["edit 0"] | {"note": "later"})  # gathered and single: the single one is the newer
    assert rows(out)["edit 0"]["note"] == "later" and len(rows(out)) == 2


def test_two_runs_do_not_write_into_one_folder(evaluate, data, tmp_path):
    with ledger.held(tmp_path / "out"), pytest.raises(EditError, match="Another run writes into .*out"):
        evaluate("folder", data)
    assert evaluate("folder", data).report["done"] == 3


@pytest.mark.parametrize("content", ["[]", "{", '{"engines": {}}', "\xff"])
def test_a_damaged_record_of_the_run_is_named(content, evaluate, data):
    made = evaluate("folder", data)
    (made.out / "run.json").write_bytes(content.encode("latin-1"))
    for again in (lambda: evaluate("folder", data), lambda: compare.compared(made.out, made.out, "", 0)):
        with pytest.raises(EditError, match="run.json cannot be read .*put back a copy of it, or choose another --out"):
            again()


def test_a_damaged_table_of_rows_is_named_and_nothing_is_overwritten(evaluate, data):
    made = evaluate("folder", data)
    path = made.out / ledger.GATHERED
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(EditError, match="rows.parquet is damaged .*delete it, and its samples are run again"):
        evaluate("folder", data)
    path.unlink()
    assert evaluate("folder", data).report["done"] == 3


def test_a_missing_source_is_a_failed_row_and_the_others_are_done(evaluate, data):
    (data / "1_source.png").unlink()
    made = evaluate("folder", data)
    assert made.report["done"] == 2
    (failed,) = made.report["failed"]
    assert failed["id"] == "edit 1" and "There is no picture" in failed["error"] and "1_source.png" in failed["error"]
    layouts.plain(data)
    again = evaluate("folder", data)
    assert again.report["failed"] == [] and len(again.editor.asked) == 1


def test_a_missing_target_or_mask_leaves_the_rest_measured(evaluate, data):
    (data / "0_target.png").unlink()
    made = evaluate("folder", data)
    row = rows(made.out)["edit 0"]
    assert row["status"] == "done" and row["psnr_outside"] == 99 and row["l1_target"] is None
    assert "There is no picture" in row["note"] and made.report["open"][0]["id"] == "edit 0"
    layouts.plain(data)
    again = evaluate("folder", data)
    assert again.editor.asked == [] and again.report["open"] == [] and rows(again.out)["edit 0"]["l1_target"] > 0


def test_a_file_that_is_no_picture_is_a_failed_row(evaluate, data):
    (data / "2_source.png").write_text("not a picture")
    assert "not a picture that can be read" in evaluate("folder", data).report["failed"][0]["error"]


def test_a_sample_without_what_the_workflow_takes_is_a_failed_row(evaluate, data):
    lines = (data / "samples.jsonl").read_text().splitlines()
    lines[0] = json.dumps({k: v for k, v in json.loads(lines[0]).items() if k != "mask"})
    (data / "samples.jsonl").write_text("\n".join(lines))
    assert evaluate("folder", data).report["failed"][0]["error"] == "This sample has no mask, which the workflow takes."


def test_a_workflow_that_fails_at_every_picture_ends_the_run(evaluate, tmp_path):
    def broken(picture, sets):
        raise EditError("The model is not here.")

    data = layouts.plain(tmp_path / "data", 5)
    with pytest.raises(EditError, match="failed at the first 3 pictures: The model is not here."):
        evaluate("folder", data, broken)
    assert len(rows(tmp_path / "out")) == 2


def test_an_editor_that_is_away_ends_the_run_and_fails_no_sample(evaluate, tmp_path):
    class Away(EditError):
        down = True

    data, left = layouts.plain(tmp_path / "data", 4), iter(range(2))

    def leaving(picture, sets):
        if next(left, None) is None:
            raise Away("The server stayed away.")
        return picture

    with pytest.raises(EditError, match="The server stayed away"):
        evaluate("folder", data, leaving)
    assert [row["status"] for row in rows(tmp_path / "out").values()] == ["done", "done"]
    assert len(evaluate("folder", data).editor.asked) == 2


def test_the_first_edit_which_loads_the_models_is_not_timed(evaluate, data):
    def slow_at_first(picture, sets, begun=[]):  # noqa: B006 - that is the point
        time.sleep(0 if begun else 0.5)
        begun.append(1)
        return picture

    made = evaluate("folder", data, slow_at_first, "--metrics", "l1_source")
    assert made.report["metrics"]["seconds"]["count"] == 2 and made.report["metrics"]["seconds"]["value"] < 0.4


def test_one_failure_among_others_does_not(evaluate, data):
    answers = iter([None, EditError("Too dark."), None])

    def sometimes(picture, sets):
        if (problem := next(answers)) is not None:
            raise problem
        return picture

    report = evaluate("folder", data, sometimes).report
    assert report["done"] == 2 and report["failed"] == [{"id": "edit 1", "error": "Too dark."}]


def darker(picture, sets):
    return picture.point(lambda level: level // 2)


def test_turns_start_from_the_result_before(evaluate, tmp_path):
    data = layouts.magicbrush(tmp_path / "magic")
    single = evaluate("magicbrush", data, darker, titles=WITHOUT_MASK, out=tmp_path / "single")
    assert [path.name for path, _ in single.editor.asked] == ["139-input.png", "139-output1.png", "30-input.png"]
    multi = evaluate("magicbrush", data, darker, "--turns", "multi", titles=WITHOUT_MASK, out=tmp_path / "multi")
    names = [path.name for path, _ in multi.editor.asked]
    assert names == ["139-input.png", "139-output1.png", "30-input.png"]
    assert multi.editor.asked[1][0] == multi.out / "results" / "139-output1.png"
    twice = np.asarray(Image.open(multi.out / "results" / "139-output2.png"))
    assert np.array_equal(twice, np.asarray(darker(darker(layouts.photographs()[0], {}), {})))
    (table, _), found = multi.report["tables"], rows(multi.out)
    last = [found[name]["l1_target"] for name in ("139-output2", "30-output1")]
    assert table["ours"][0]["cells"][2]["value"] == pytest.approx(np.mean(last))


def test_a_turn_after_a_failed_one_says_so(evaluate, tmp_path):
    def first_fails(picture, sets):
        if sets["instruction"] == "change 1":
            raise EditError("No.")
        return picture

    data = layouts.magicbrush(tmp_path / "magic")
    report = evaluate("magicbrush", data, first_fails, "--turns", "multi", titles=WITHOUT_MASK).report
    errors = {failed["id"]: failed["error"] for failed in report["failed"]}
    assert errors == {"139-output1": "No.", "30-output1": "No.",
                      "139-output2": "The turn before this one was not made, so there is nothing to edit."}  # fmt: skip


def test_a_judge_that_says_nothing_leaves_the_marks_open(evaluate, data):
    with serving(lambda request: "I would rather not.") as server:
        judged = ("--judge-url", server.url, "--judge-model", "m", "--metrics", "vie_overall,l1_target")
        made = evaluate("folder", data, lambda p, s: p, *judged)
        assert len(made.report["open"]) == 3 and "holds no 2 marks" in made.report["open"][0]["note"]
        server.script = lambda request: '{"score": [8, 6]}' if len(request.pictures) == 2 else '{"score": 6}'
        again = evaluate("folder", data, lambda p, s: p, *judged)
    assert again.editor.asked == [] and again.report["open"] == []
    row = rows(again.out)["edit 0"]
    assert (row["vie_sc"], row["vie_pq"], row["vie_overall"]) == (6, 6, pytest.approx(6))
    assert row["vie_weighted"] == pytest.approx(0.36)


def test_a_full_disk_ends_the_run_and_keeps_what_was_done(evaluate, data, monkeypatch):
    from editkit.benchmarks.evaluation import running

    real, left = running.write, iter(range(2))

    def full(path, fill):
        if next(left, None) is None:
            raise EditError(f"Cannot write {path}: No space left on device; choose another place for the results.")
        return real(path, fill)

    monkeypatch.setattr(running, "write", full)
    with pytest.raises(EditError, match="No space left on device"):
        evaluate("folder", data)
    monkeypatch.undo()
    assert list(rows(data.parent / "out")) == ["edit 0", "edit 1"]
    assert len(evaluate("folder", data).editor.asked) == 1
