"""`python . eval` from the command line, with the shipped workflow and models, and what it says to bad input."""

import json

import pytest

from editkit.benchmarks.evaluation.ledger import Ledger
from editkit.benchmarks.evaluation.papers import BENCHMARKS
from editkit.headless import cli
from editkit.tests.benchmarks.evaluation import layouts


def run(*words):
    return cli.main(["eval", *map(str, words)])


def test_a_shipped_workflow_is_evaluated_and_compared(root, data, tmp_path, capsys):
    tone = root / "workflows/api/tone.json"
    given = ("folder", "--data", data, "--workflow", tone, "--limit", 1, "--metrics", "l1_target,psnr_outside")
    assert run(*given, "--out", tmp_path / "a") == 0
    said = capsys.readouterr().out
    assert "Edits of a folder: 1 of 1 samples, workflow tone.json" in said and "page/index.html" in said
    (one,) = Ledger(tmp_path / "a").rows.values()
    assert (one["width"], one["height"]) == (layouts.WIDTH, layouts.HEIGHT) and 0 < one["l1_target"] < 0.5
    assert run(*given, "--set", "Correct Tone.strength=0", "--out", tmp_path / "b") == 0
    assert Ledger(tmp_path / "b").rows["edit 0"]["psnr_outside"] == 99  # nothing was changed
    assert run("compare", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "c") == 0
    said = capsys.readouterr().out
    assert "1 samples that both have" in said and (tmp_path / "c/page/index.html").is_file()
    assert "nan" not in said + (tmp_path / "c/comparison.json").read_text().lower()
    assert run(*given, "--set", "Correct Tone.strength=0.5", "--out", tmp_path / "a") == 1
    assert "holds results of another workflow" in capsys.readouterr().err


def test_the_exit_status_is_1_when_an_edit_failed(root, data, tmp_path, capsys):
    (data / "0_source.png").unlink()
    tone = root / "workflows/api/tone.json"
    assert run("folder", "--data", data, "--workflow", tone, "--out", tmp_path / "a", "--metrics", "l1_source",
               "--limit", 1) == 1  # fmt: skip
    assert "1 failed:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: w["1"]["_meta"].update(title="photo"), "no node titled 'image'"),
        (lambda w: w[max(w)]["_meta"].update(title="end"), "no node titled 'result'"),
    ],
)
def test_a_workflow_without_marked_ends_is_refused(change, said, root, data, tmp_path, capsys):
    prompt = json.loads((root / "workflows/api/tone.json").read_text())
    change(prompt)
    path = tmp_path / "unmarked.json"
    path.write_text(json.dumps(prompt))
    assert run("folder", "--data", data, "--workflow", path, "--out", tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error and not (tmp_path / "out").exists()


def test_wrong_usage_says_what_is_right(capsys):
    assert run("pie-bnech", "--data", "x") == 2
    assert "pie-bench" in capsys.readouterr().err
    assert run("folder", "--data", "x", "--workflow", "y", "--out", "z", "--limit", "0") == 2
    assert "'0' is no number from 1" in capsys.readouterr().err


def test_help_names_every_benchmark(capsys):
    assert run("--help") == 0
    said = capsys.readouterr().out
    assert [name for name in (*BENCHMARKS, "compare") if name not in said] == []


def test_without_pyarrow_one_sentence_says_what_to_install(monkeypatch, data, capsys):
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert run("folder", "--data", data, "--workflow", "w.json", "--out", data.parent / "o") == 1
    assert "pip install -r requirements-eval.txt" in capsys.readouterr().err
