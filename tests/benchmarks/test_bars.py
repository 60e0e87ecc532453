"""The verdicts follow from the rows and from nothing else."""

import copy
import json

import pytest

from editkit.benchmarks import bars, report

PAIRS = [("cat", 0), ("cat", 1), ("cup", 0)]


def rows_of(task, method, measure, *values):
    values = values * len(PAIRS) if len(values) == 1 else values
    return [
        {"task": task, "method": method, "photograph": p, "pair": n, "measure": measure, "value": v}
        for (p, n), v in zip(PAIRS, values, strict=True)
    ]


@pytest.fixture
def tone():
    """Rows that satisfy every must of tone."""
    found = rows_of("tone", "identity", "psnr", 18.0) + rows_of("tone", "luminance stretch", "psnr", 20.0)
    found += rows_of("tone", "partial stretch", "psnr", 21.0) + rows_of(
        "tone", "ours", "psnr", 22.5, 21.5, 21.6
    )
    found += rows_of("tone", "ours", "good_psnr", 30.0)
    return (
        found
        + rows_of("tone", "tau:tone", "swap_psnr", 22.0)
        + rows_of("tone", "tau:remove", "swap_psnr", 20.0)
    )


def musts(rows, tasks=None):
    return {v.bar.text: v for v in bars.evaluate(rows, tasks) if v.kind == "must"}


def changed(rows, method, measure, value, photograph=None):
    rows = copy.deepcopy(rows)
    for row in rows:
        if (row["method"], row["measure"]) == (method, measure) and photograph in (None, row["photograph"]):
            row["value"] = value
    return rows


def test_good_rows_pass_every_must_and_survive_json(tone):
    assert all(v.ok for v in musts(json.loads(json.dumps(tone))).values())


@pytest.mark.parametrize(
    ("method", "measure", "value", "photograph", "text"),
    [
        ("luminance stretch", "psnr", 21.5, None, "over the full luminance stretch"),
        ("partial stretch", "psnr", 22.5, None, "over the partial stretch"),
        ("identity", "psnr", 24.0, "cup",
         "worst photograph, over the better of identity and partial stretch"),
        ("ours", "good_psnr", 26.9, None, "already good photographs"),
        ("tau:remove", "swap_psnr", 21.5, None, "right τ over any other"),
    ],
)  # fmt: skip
def test_a_changed_row_fails_its_own_must_only(tone, method, measure, value, photograph, text):
    verdicts = musts(changed(tone, method, measure, value, photograph))
    assert not verdicts[text].ok
    assert all(v.ok for name, v in verdicts.items() if name != text)


def test_a_missing_pair_is_not_measured_and_fails(tone):
    rows = [
        r for r in tone if not (r["method"] == "ours" and r["measure"] == "psnr" and r["photograph"] == "cup")
    ]
    verdict = musts(rows)["over the full luminance stretch"]
    assert verdict.value is None
    assert not verdict.ok
    assert "not measured" in report.verdict_lines(verdict)[0]


def test_a_task_that_was_asked_for_but_has_no_rows_fails(tone):
    assert not any(v.ok for v in musts(tone, ["relight"]).values())
    assert set(musts(tone)) == set(musts(tone, ["tone"]))


def test_values_stand_per_photograph_and_the_summary_is_the_last_line(tone):
    verdicts = bars.evaluate(tone)
    table = bars.Table(tone)
    text = report.lines(table, verdicts)
    assert any("cat 2.00" in line and "cup 1.60" in line for line in text)
    assert text[-1] == "2 photographs, 3 pairs: 5 of 5 musts met, 0 short; 0 of 1 aims reached"


def test_shares_of_pairs_and_limits_from_above():
    rows = rows_of("remove", "ours", "patch_distance", 1.0, 1.0, 9.0) + rows_of(
        "remove", "telea", "patch_distance", 4.0
    )
    rows += rows_of("remove", "ours", "lattice", 1.31) + rows_of(
        "remove", "ours", "outside_changed", 0.0, 0.0, 1e-7
    )
    verdicts = musts(rows)
    share = verdicts["patch distance below Telea's, pairs"]
    assert share.value == pytest.approx(2 / 3)
    assert not share.ok
    assert not verdicts["8-px lattice ratio"].ok
    assert not verdicts["largest change outside `changed`"].ok


def test_every_bar_names_a_measure_that_its_statistic_can_find(tone):
    assert {bar.task for bar in bars.BARS} == {
        "remove",
        "outpaint",
        "tone",
        "relight",
        "sticker",
        "autoencoder",
    }
    assert all(bar.must is not None or bar.aim is not None for bar in bars.BARS)
