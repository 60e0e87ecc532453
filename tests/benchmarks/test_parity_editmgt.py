"""The families `editmgt_transformer` and `editmgt_scheduler`: they agree with the released code, and changes do not."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from editkit.benchmarks import cli


@pytest.fixture
def folder(root, tmp_path):
    source = root / "tests" / "fixtures"
    for name in ("editmgt_transformer", "editmgt_scheduler"):
        shutil.copytree(source / name, tmp_path / name)
    return tmp_path


def checked(folder):
    status = cli.main(["parity", str(folder), "--json", str(folder / "out.json")])
    return status, [row for row in json.loads((folder / "out.json").read_text()) if row.get("quantity")]


def test_transformer_and_scheduler_agree_with_the_released_code(folder):
    status, rows = checked(folder)
    assert status == 0 and all(row["ok"] for row in rows)
    assert {row["family"] for row in rows} == {"editmgt_transformer", "editmgt_scheduler"}
    assert {"t2i", "edit_g1", "edit_g1.1"} <= {row["case"] for row in rows}
    assert {"cosine12", "usermask8"} <= {row["case"] for row in rows}


def test_changed_weights_fail(folder):
    path = folder / "editmgt_transformer" / "weights_down.safetensors"
    whole = load_file(path)
    name = "transformer_blocks.1.attn.to_q.weight"
    save_file(whole | {name: whole[name] * 1.1}, path)
    status, rows = checked(folder)
    bad = {row["quantity"] for row in rows if not row["ok"]}
    assert status == 1 and "logits" in bad and "double.1.img" in bad and "double.0.img" not in bad


def test_another_sequence_of_tokens_fails(folder):
    path = folder / "editmgt_scheduler" / "fixture.safetensors"
    whole = load_file(path)
    name = next(k for k in whole if k.startswith("cosine12.3.") and k.endswith("prev_sample"))
    save_file(whole | {name: (whole[name] + 1) % 64}, path)
    status, rows = checked(folder)
    assert status == 1 and {row["case"] for row in rows if not row["ok"]} == {"cosine12"}
