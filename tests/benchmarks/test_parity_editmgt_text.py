"""The families `editmgt_vq` and `editmgt_gemma2`: they agree with the recorded numbers, and a changed file does not."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from editkit.benchmarks import cli, parity

QUANTITIES = {
    "editmgt_vq": ["indices", "latents", "decoded"],
    "editmgt_gemma2": ["hidden_m2_softcap50_official"],
}


@pytest.fixture(params=QUANTITIES)
def family(request, root, tmp_path):
    """A family's name, and a copy of its folder."""
    source = root / "tests" / "fixtures" / request.param
    return request.param, shutil.copytree(source, tmp_path / request.param)


def checked(folder, tmp_path):
    status = cli.main(["parity", str(folder), "--json", str(tmp_path / "out.json")])
    return status, json.loads((tmp_path / "out.json").read_text())


def test_the_recorded_numbers_are_met(family, tmp_path):
    name, folder = family
    status, rows = checked(folder, tmp_path)
    assert status == 0
    assert [row["quantity"] for row in rows] == QUANTITIES[name]
    assert {row["family"] for row in rows} == {name} and all(row["ok"] for row in rows)


def test_each_changed_number_fails(family, tmp_path):
    name, folder = family
    whole = load_file(folder / "io.safetensors")
    for quantity in QUANTITIES[name]:
        changed = (whole[quantity] + 1) % 64 if quantity == "indices" else whole[quantity] + 1
        save_file(whole | {quantity: changed}, folder / "io.safetensors")
        status, rows = checked(folder, tmp_path)
        assert status == 1 and not {r["quantity"]: r["ok"] for r in rows}[quantity]


def test_changed_weights_fail(family, tmp_path):
    name, folder = family
    weight = {"editmgt_vq": "quant_conv.bias", "editmgt_gemma2": "model.layers.2.mlp.up_proj.weight"}[name]
    whole = load_file(folder / "weights.safetensors")
    save_file(whole | {weight: whole[weight] + 0.1}, folder / "weights.safetensors")
    assert checked(folder, tmp_path)[0] == 1


def test_gemma_without_its_cap_fails(root, tmp_path):
    folder = shutil.copytree(root / "tests" / "fixtures" / "editmgt_gemma2", tmp_path / "editmgt_gemma2")
    data = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(data | {"attn_logit_softcapping": None}))
    status, (row,) = checked(folder, tmp_path)
    assert status == 1 and row["value"] > 1e-4


def test_files_that_are_absent_or_broken(family, tmp_path, capsys):
    name, folder = family
    (folder / "weights.safetensors").write_bytes(b"broken")
    status, rows = checked(folder, tmp_path)
    assert status == 1 and [row["quantity"] for row in rows] == ["error"]
    (folder / "weights.safetensors").unlink()
    capsys.readouterr()
    assert cli.main(["parity", str(folder)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{name} {'vq' if name == 'editmgt_vq' else 'softcap'} absent", "0 cases, 0 quantities, 0 failed"
    ]  # fmt: skip


def test_the_cases_are_registered_once():
    assert [case.name for case in parity.FAMILIES["editmgt_vq"]] == ["vq"]
    assert [case.name for case in parity.FAMILIES["editmgt_gemma2"]] == ["softcap"]
