"""`eval` and `data build` with a ComfyUI server that edits: the same rows and pictures as in this process."""

import json

import numpy as np
import pytest
from PIL import Image

from editkit.headless import cli, shipped
from editkit.tests.benchmarks.evaluation import layouts
from editkit.tests.loopback_judge import serving
from editkit.tests.training.triplets import scenes

pytest.importorskip("pyarrow", reason="pyarrow is not installed")


def level(path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"), int)


@pytest.fixture
def worked(server):
    """How many prompts the server has done for the test."""
    before = set(server.get("/history"))
    return lambda: len(set(server.get("/history")) - before)


def two_branches(tmp_path):
    """The shipped removal, beside a branch that the result does not depend on and that has a seed of its own."""
    prompt = json.loads((shipped.WORKFLOWS / "remove_object.json").read_text())
    other = {key: json.loads(json.dumps(node)) for key, node in prompt.items()}
    for key, node in other.items():
        node["_meta"]["title"] += " beside"
        node["inputs"] = {n: [f"{v[0]}0", v[1]] if isinstance(v, list) else v for n, v in node["inputs"].items()}
        prompt[f"{key}0"] = node
    path = tmp_path / "two_branches.json"
    path.write_text(json.dumps(prompt))
    return path


def test_an_evaluation_on_a_server_has_the_rows_of_one_in_this_process(server, worked, tmp_path):
    pytest.importorskip("torchmetrics", reason="torchmetrics is not installed")
    from editkit.benchmarks.evaluation.ledger import Ledger

    given = ["eval", "folder", "--data", layouts.plain(tmp_path / "data", 2), "--workflow", two_branches(tmp_path)]
    given += ["--metrics", "l1_source", "--set", "Remove Object.seed=3", "--set", "Remove Object beside.seed=4"]
    for out, more in (("here", ()), ("there", ("--server", server.url))):
        assert cli.main([str(word) for word in (*given, *more, "--out", tmp_path / out)]) == 0
    here, there = (Ledger(tmp_path / out).rows for out in ("here", "there"))
    assert list(here) == list(there) == ["edit 0", "edit 1"] and worked() == 2
    for name, row in there.items():
        results = [level(tmp_path / out / row["result"]) for out in ("here", "there")]
        assert abs(results[0] - results[1]).max() <= 1 and row["status"] == "done"
        assert row["l1_source"] == pytest.approx(here[name]["l1_source"], abs=1e-4) and row["l1_source"] > 1e-3
        outside = np.asarray(layouts.mask()) == 0  # the mask has reached the server
        assert (results[1] == level(tmp_path / "data" / f"{name[-1]}_source.png"))[outside].mean() > 0.5


def test_triplets_that_a_server_edits_are_those_of_this_process(server, worked, tmp_path):
    from pyarrow import parquet

    images, found = scenes.write(tmp_path / "images", 3), {}
    with serving(scenes.Language(healed=True)) as llm, serving(scenes.judge) as seer:
        for out, more in (("here", ()), ("there", ("--server", server.url))):
            said = scenes.flags(images, tmp_path / out, llm.url, seer.url, "--skip", "clip", *more)
            assert cli.main(["data", *map(str, said)]) == 0
            found[out] = parquet.read_table(tmp_path / out / "triplets/triplets.parquet").to_pylist()
    assert len(found["there"]) == 3 and worked() == 6  # three pictures, two editors
    for here, there in zip(found["here"], found["there"], strict=True):
        assert all(there[k] == here[k] for k in ("target", "instruction", "editor"))
        pictures = [level(tmp_path / out / "triplets" / there["target"]) for out in found]
        assert abs(pictures[0] - pictures[1]).max() <= 1
