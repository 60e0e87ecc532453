"""The frame of `bench parity`, on a toy family."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from editkit.benchmarks import cli, parity


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A registered family whose one case doubles a tensor, and its folder."""
    monkeypatch.setattr(parity, "FAMILIES", {})
    monkeypatch.setattr(parity, "MODULES", ())  # or their cases would be registered there

    @parity.case("toy", "doubling", files=("io.safetensors",))
    def doubling(folder):
        tensors = parity.read(folder / "io.safetensors")
        yield parity.compared("y", 2 * tensors["x"], tensors["y"], 1e-6, "rel")
        yield parity.compared("order", tensors["x"].argsort(), tensors["order"], 0, "exact")

    @parity.case("toy", "elsewhere", files=("other.safetensors",))
    def elsewhere(folder):
        raise AssertionError("its file is absent")

    folder = tmp_path / "fixtures" / "toy"
    folder.mkdir(parents=True)
    write(folder)
    return folder


def write(folder, change=0.0):
    x = torch.tensor([3.0, 1.0, 2.0])
    save_file({"x": x, "y": 2 * x + change, "order": x.argsort()}, folder / "io.safetensors")


def checked(folder, capsys, *options):
    status = cli.main(["parity", str(folder), *options])
    return status, capsys.readouterr().out.splitlines()


def test_a_family_that_agrees(toy, capsys, tmp_path):
    status, lines = checked(toy, capsys, "--json", str(tmp_path / "out.json"))
    assert status == 0
    assert lines == ["toy doubling y 0 1e-06 ok", "toy doubling order 0 0 ok", "toy elsewhere absent",
                     "1 cases, 2 quantities, 0 failed"]  # fmt: skip
    rows = json.loads((tmp_path / "out.json").read_text())
    assert rows[0] == {"family": "toy", "case": "doubling", "quantity": "y", "ok": True, "value": 0.0,
                       "tolerance": 1e-6}  # fmt: skip


def test_a_changed_file_fails(toy, capsys):
    write(toy, change=0.1)
    status, lines = checked(toy.parent, capsys)  # the folder of families
    assert status == 1
    assert "toy doubling y 0.0164 1e-06 FAILED" in lines
    assert lines[-1] == "1 cases, 2 quantities, 1 failed"


def test_a_truncated_file_fails_in_one_line(toy, capsys):
    (toy / "io.safetensors").write_bytes((toy / "io.safetensors").read_bytes()[:50])
    status, lines = checked(toy, capsys)
    assert status == 1
    assert lines[0].startswith("toy doubling error inf 0 FAILED (io.safetensors cannot be read")
    assert lines[-1] == "1 cases, 1 quantities, 1 failed"


def test_nothing_checked_is_a_failure(toy, capsys):
    (toy / "io.safetensors").unlink()
    status, lines = checked(toy, capsys)
    assert (status, lines[-1]) == (1, "0 cases, 0 quantities, 0 failed")


def test_empty_and_unknown_families_are_absent(tmp_path, capsys):
    for name in ("kontext", "nobody"):
        (tmp_path / name).mkdir()
    status, lines = checked(tmp_path, capsys)
    assert status == 1
    assert "kontext eq12 absent" in lines
    assert "nobody (no such family) absent" in lines


def test_a_missing_folder_is_one_sentence(tmp_path, capsys):
    assert cli.main(["parity", str(tmp_path / "gone")]) == 1
    assert "There is no folder" in capsys.readouterr().err


def test_the_three_ways_of_comparing():
    ref = torch.tensor([0.0, 0.5])
    assert parity.compared("q", ref + 0.1, ref, 1.0).value == pytest.approx(0.1, rel=1e-5)
    assert parity.compared("q", ref + 0.1, ref, 1.0, "rel").value == pytest.approx(0.2, rel=1e-5)
    assert parity.compared("q", np.array([1, 2, 3]), np.array([1, 5, 6]), 0, "exact").value == 2
    assert not parity.compared("q", ref[:1], ref, 1e9).ok
    assert not parity.compared("q", ref * float("nan"), ref, 1e9).ok
