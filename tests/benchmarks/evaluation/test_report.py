"""Means, intervals, the papers' tables, the pages, and the comparison of two runs."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from editkit.benchmarks.evaluation import bootstrap, compare, page, papers, summary
from editkit.benchmarks.evaluation.ledger import Ledger
from editkit.benchmarks.evaluation.metrics import finding
from editkit.benchmarks.evaluation.metrics.catalogue import METRICS
from editkit.models.errors import EditError
from editkit.tests.benchmarks.evaluation import layouts

DRAW = np.random.default_rng(1)


def test_a_mean_leaves_out_what_is_no_number():
    found = bootstrap.mean([1.0, None, 3.0, float("nan"), float("inf")])
    assert (found.value, found.count) == (2, 2) and found.low == 1 and found.high == 3
    assert bootstrap.mean([None]).count == 0


def test_one_value_has_no_interval():
    found = bootstrap.mean([2.0])
    assert (found.value, found.count) == (2, 1) and np.isnan(found.low) and np.isnan(found.high)
    pair = bootstrap.paired([1.0], [2.0], "higher")
    assert pair.difference.value == 1 and not pair.clear
    table = summary.report(papers.BENCHMARKS["folder"], [row("a", l1_target=0.25)], SETTINGS, {}, [])["tables"][0]
    assert "±" not in "\n".join(summary.table_lines(table))


def test_the_interval_is_the_one_that_statistics_expects():
    values = DRAW.normal(5, 2, 400)
    found = bootstrap.mean(values)
    half = 1.96 * values.std() / 20  # of a mean of 400
    assert found.low == pytest.approx(values.mean() - half, abs=0.06)
    assert found.high == pytest.approx(values.mean() + half, abs=0.06)
    assert bootstrap.mean(values) == found and bootstrap.mean(values, seed=1) != found


def test_pairs_find_a_difference_that_means_hide():
    base = DRAW.normal(0, 10, 60)
    found = bootstrap.paired(base, base + 1 + DRAW.normal(0, 0.5, 60), "higher")
    assert found.clear and found.difference.value == pytest.approx(1, abs=0.2) and found.wins > 0.95
    assert not bootstrap.paired(base, DRAW.permutation(base), "higher").clear
    assert bootstrap.paired([1, None], [1, 2], "lower").wins == 0.5
    assert bootstrap.paired([None], [1], "lower") is None


def test_every_table_has_a_printed_number_or_none_for_each_column():
    tables = [table for benchmark in papers.BENCHMARKS.values() for table in benchmark.tables]
    used = [table.printed for table in tables if table.printed]
    assert sorted(used) == sorted(papers.printed())
    for table in tables:
        assert all(len(cells) == len(table.columns) for _, cells in table.ours)
        assert all(cell.metric in METRICS or cell.metric == papers.SECONDS for _, cells in table.ours for cell in cells)
        for row in papers.printed().get(table.printed, {"rows": []})["rows"]:
            names = row[: len(row) - len(table.columns)]
            numbers = row[len(names) :]
            assert names and all(isinstance(n, str) for n in names)
            assert all(n is None or isinstance(n, (int, float)) for n in numbers)


@pytest.mark.parametrize(
    ("table", "method", "numbers"),
    [
        ("swiftedit_1", "SwiftEdit (Ours)", [23.33, 6.60, 25.16, 21.25, 0.23]),
        ("editmgt_1_emu", "EditMGT (Ours)", [0.878, 0.308, 0.093, 0.832]),
        ("editmgt_1_magicbrush", "EditMGT (Ours)", [0.911, 0.301, 0.058, 0.881]),
        ("icedit_1", "ICEdit (ours)", [0.907, 0.305, 0.866, 0.68]),
        ("icedit_2", "ICEdit (ours)", [0.060, 0.928, 0.853]),
        ("editmgt_2", "FluxKontext.dev", [7.06, 7.03, 5.52, 5.62, 4.68, 5.55, 6.95, 6.76, 6.13, 6.10, 7.48, 6.26]),
    ],
)
def test_printed_numbers_are_the_papers(table, method, numbers):
    assert [method, *numbers] in papers.printed()[table]["rows"]


HEADS = {
    "swiftedit_1": "PSNR MSE CLIP-whole CLIP-edited Runtime", "editmgt_1_emu": "CLIP-I CLIP-Out L1 DINO",
    "editmgt_1_magicbrush": "CLIP-I CLIP-Out L1 DINO", "icedit_1": "CLIP-I CLIP-Out DINO GPT",
    "icedit_2": "L1 CLIP-I DINO",
    "editmgt_2": "BG-Change Color-Alt. Mat.-Mod. Motion Port. Style Add Remove Replace Text Tone Avg",
    "editmgt_6_7": "remove replace add color appearance material action textual counting "
                   "background tone style implicit relation",
}  # fmt: skip


def test_numbers_stand_below_the_heads_of_the_papers():
    tables = {table.printed: table for made in papers.BENCHMARKS.values() for table in made.tables if table.printed}
    assert set(tables) == set(HEADS)
    for name, heads in HEADS.items():
        for column, head in zip(tables[name].columns, heads.split(), strict=True):
            assert column.replace(" source", "").replace(" ", "-").startswith(head), (name, column)


def row(name, category="", **values):
    empty = dict.fromkeys((*METRICS, "seconds"))
    words = {"status": "done", "error": "", "note": "", "marks": "", "final": True}
    return empty | words | {"id": name, "category": category} | values


SETTINGS = {"workflow": "w.json", "workflow_hash": "0" * 64, "data": "d", "set": []}


def cells(benchmark, rows, table=0):
    found = summary.report(papers.BENCHMARKS[benchmark], rows, SETTINGS, {}, [])["tables"][table]
    return dict(zip(found["columns"], found["ours"][0]["cells"], strict=True))


def test_values_are_scaled_as_the_paper_prints_them():
    found = cells("pie-bench", [row("a", mse_outside=0.001, seconds=2.0), row("b", mse_outside=0.002, seconds=4.0)])
    assert found["MSE×10⁴ ↓"]["value"] == pytest.approx(15) and found["Runtime ↓ (s)"]["value"] == 3
    assert found["PSNR ↑"] == {"value": None, "low": None, "high": None, "count": 0}


def test_gedit_averages_the_kinds_and_not_the_samples():
    rows = [row("a", "color_alter", vie_overall=2.0)]
    rows += [row(f"b{i}", "subject-add", vie_overall=8.0, marks="intersection") for i in range(3)]
    found = cells("gedit-bench", rows)
    assert (found["Color Alt."]["value"], found["Add"]["value"], found["Avg"]["value"]) == (2, 8, 5)
    assert cells("gedit-bench", rows, table=1)["Avg"]["value"] == 8


def test_anybench_has_a_row_for_each_metric_and_a_column_for_each_kind():
    found = summary.report(
        papers.BENCHMARKS["anybench"], [row("a", "color_alter", l1_target=0.25)], SETTINGS, {}, []
    )["tables"][0]  # fmt: skip
    ours = {made["name"]: made["cells"] for made in found["ours"]}
    assert ours["this workflow L1 ↓"][found["columns"].index("color")]["value"] == 0.25
    assert found["printed"][-1]["name"] == "EditMGT (Ours) DINO" and found["printed"][-1]["cells"][-1] == 0.827


def test_tables_of_nothing_are_left_out_and_papers_stay():
    found = summary.report(papers.BENCHMARKS["folder"], [row("a", l1_target=0.1)], SETTINGS, {}, [])
    assert [table["title"] for table in found["tables"]] == ["How near the target"]
    found = summary.report(papers.BENCHMARKS["pie-bench"], [row("a")], SETTINGS, {}, [])
    assert [table["title"] for table in found["tables"]] == ["SwiftEdit's Table 1"]


def test_samples_are_shown_from_the_worst_to_the_best():
    rows = [row(str(n), psnr_target=float(n)) for n in DRAW.permutation(100)]
    shown = [int(r["psnr_target"]) for r in page.spread(rows, "psnr_target")]
    assert shown == sorted(shown) and len(shown) == page.SHOWN
    assert shown[:8] == list(range(8)) and shown[-8:] == list(range(92, 100))
    lower = page.spread([row(str(n), l1_target=float(n)) for n in range(3)], "l1_target")
    assert [r["id"] for r in lower] == ["2", "1", "0"]


NASTY = "<script>alert('x')</script> & \"quoted\""


def test_the_page_shows_everything_and_lets_no_text_through_as_html(evaluate, tmp_path):
    data = layouts.plain(tmp_path / "data", instruction=NASTY, category=NASTY)
    (data / "1_source.png").write_text("<b>no picture</b>")
    made = evaluate("folder", data)
    text = (made.out / "page" / "index.html").read_text(encoding="utf-8")
    assert "<script" not in text and text.count("&lt;script&gt;") >= 2 and "<b>no picture" not in text
    pictures = re.findall(r'src="([^"]+)"', text)
    named = text.replace(str(data), "").replace(str(finding.home(None)), "")  # in words: what failed, what to put where
    assert len(pictures) == 2 * 3 and not re.search(r"https?://|file:|/tmp", named)
    for name in pictures:
        with Image.open(made.out / "page" / name) as picture:
            assert max(picture.size) <= 320
    assert "left out" not in text and "clip-vit-base-patch32" in text and "Failed" in text


def test_small_numbers_are_shown_times_their_power_of_ten(evaluate, tmp_path):
    """And without a target, samples come in the order of what was measured."""
    data = layouts.plain(tmp_path / "data", target=None)
    made = evaluate("folder", data, lambda photo, sets: photo.point(lambda level: min(level + 2, 255)))
    text = (made.out / "page" / "index.html").read_text(encoding="utf-8")
    (mse,) = re.findall(r"<td>mse_outside×10⁴</td><td>([\d.]+)<", text)
    wanted = 1e4 * made.report["metrics"]["mse_outside"]["value"]
    assert float(mse) == pytest.approx(wanted, abs=1e-3) and wanted > 0.1
    assert "from the worst to the best psnr_outside" in text


def test_the_masks_outline_is_seen_on_any_colour(evaluate, data):
    made = evaluate("folder", data)
    with Image.open(made.out / "thumbs" / f"{Ledger(made.out).rows['edit 0']['stem']}_source.jpg") as picture:
        values = np.asarray(picture, int)
    left, top, *_ = layouts.BOX
    around = values[top + 4 : top + 16, left - 4 : left + 3]
    assert abs(around - (255, 255, 255)).max(-1).min() < 40 and abs(around - (255, 64, 96)).max(-1).min() < 60


def test_an_older_pages_pictures_go(evaluate, data):
    made = evaluate("folder", data)
    stale = made.out / "page" / "pictures" / "stale.jpg"
    stale.write_bytes(b"x")
    evaluate("folder", data)
    assert not stale.exists()


@pytest.fixture
def runs(evaluate, tmp_path):
    """Two runs of one folder: the untouched picture, and the truth but for the last sample."""
    data = layouts.plain(tmp_path / "data", 4)
    photos = layouts.photographs()
    evaluate("folder", data, out=tmp_path / "a")
    numbers = iter(range(4))

    def better(picture, sets):
        number = next(numbers)
        return picture if number == 3 else layouts.edited(photos[number], seed=number)

    evaluate("folder", data, better, out=tmp_path / "b")
    return tmp_path / "a", tmp_path / "b"


def test_two_runs_are_compared_in_pairs(runs, tmp_path):
    found = compare.compared(*runs, "", 0)
    told = found["metrics"]["l1_target"]
    a, b = ([r["l1_target"] for r in Ledger(out).rows.values()] for out in runs)
    assert told["difference"] == pytest.approx(np.mean(b) - np.mean(a)) and told["better"] in ("B", "")
    assert told["wins"] == pytest.approx(3.5 / 4) and told["count"] == 4
    assert found["metrics"]["psnr_outside"]["better"] in ("A", "") and found["ranked_by"] == "l1_target"
    gaps = [abs(s["b"] - s["a"]) for s in found["samples"]]
    assert gaps == sorted(gaps, reverse=True) and found["samples"][-1]["id"] == "edit 3"
    text = "\n".join(compare.lines(found))
    assert "where they differ most by l1_target" in text and "edit 0" in text
    built = compare.build(tmp_path / "c", found).read_text()
    assert built.count("<img") == 4 * 4 and "&lt;b&gt;it&lt;/b&gt;" in built and "<b>it" not in built
    assert json.loads((tmp_path / "c/comparison.json").read_text())["shared"] == 4
    of_b = np.mean([r["mse_outside"] for r in Ledger(runs[1]).rows.values()])
    mse = f"mse_outside×10⁴ ↓         {0:>10.3f}{1e4 * of_b:>10.3f}"
    assert mse in text and "mse_outside×10⁴ ↓</td>" in built
    assert len(list((tmp_path / "c/page/pictures").iterdir())) == 16
    assert compare.compared(*runs, "", 0) == found and compare.compared(*runs, "psnr_outside", 0) != found


def test_numbers_of_two_models_are_not_compared(runs, tmp_path):
    for out, judge in zip(runs, ("judge one", "judge two"), strict=True):
        book, record = Ledger(out), out / "run.json"
        for row in list(book.rows.values()):
            book.add(row | {"vie_overall": 5.0})
        settings = json.loads(record.read_text())
        record.write_text(json.dumps(settings | {"engines": settings["engines"] | {"judge": judge}}))
    found = compare.compared(*runs, "", 0)
    (why,) = found["left_out"]
    assert why == "A was measured with judge one, B with judge two." and "vie_overall" in found["left_out"][why]
    assert "vie_overall" not in found["metrics"] and "l1_target" in found["metrics"]
    assert why in "\n".join(compare.lines(found)) and why in compare.build(tmp_path / "c", found).read_text()
    with pytest.raises(EditError, match="vie_overall does not compare: A was measured with judge one"):
        compare.compared(*runs, "vie_overall", 0)


def test_a_run_against_itself_differs_in_nothing(runs):
    found = compare.compared(runs[0], runs[0], "", 0)
    assert all(told["difference"] == 0 and told["better"] == "" for told in found["metrics"].values())


def test_what_cannot_be_compared_is_said(runs, evaluate, tmp_path):
    with pytest.raises(EditError, match="holds no results of `eval`"):
        compare.compared(runs[0], tmp_path / "gone", "", 0)
    with pytest.raises(EditError, match="No two samples have 'clip_out' measured; both have l1_target"):
        compare.compared(*runs, "clip_out", 0)
    evaluate("kontext-bench", layouts.kontext_bench(tmp_path / "k"), titles=("instruction",), out=tmp_path / "ko")
    with pytest.raises(EditError, match="compare runs of one benchmark"):
        compare.compared(runs[0], tmp_path / "ko", "", 0)
    evaluate("folder", layouts.plain(tmp_path / "other", instruction="Else"), out=tmp_path / "o")
    with pytest.raises(EditError, match="no finished sample in common"):
        compare.compared(runs[0], tmp_path / "o", "", 0)
