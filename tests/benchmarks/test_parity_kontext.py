"""The family `kontext`: it agrees with the released code in either naming of the weights, and changes do not."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from editkit.benchmarks import cli, parity_kontext
from editkit.models.kontext import names

CASES = {"t2i", "single", "single_diffsize", "multi_index", "multi_offset", "multi_uxo", "schedule_bfl",
         "schedule_diffusers", "eq12", "loop4", "loop4_single"}  # fmt: skip


@pytest.fixture
def folder(root, tmp_path):
    shutil.copytree(root / "tests/fixtures/kontext", tmp_path / "kontext")
    return tmp_path / "kontext"


def checked(folder):
    out = folder.parent / "out.json"
    status = cli.main(["parity", str(folder), "--json", str(out)])
    return status, [row for row in json.loads(out.read_text()) if row.get("quantity")]


def change(path, name, make):
    whole = load_file(path)
    save_file(whole | {name: make(whole[name]).contiguous()}, path)


@pytest.mark.parametrize("naming", ["bfl", "diffusers"])
def test_every_case_agrees_with_the_released_code(folder, naming):
    if naming == "diffusers":
        state = names.to_diffusers(load_file(folder / "weights_bfl.safetensors"))
        (folder / "weights_bfl.safetensors").unlink()
        save_file(state, folder / "weights_diffusers.safetensors")
    status, rows = checked(folder)
    assert status == 0 and all(row["ok"] for row in rows) and {row["case"] for row in rows} == CASES


def test_a_case_whose_numbers_are_absent_costs_nothing(folder, capsys):
    (folder / "more.safetensors").unlink()
    status, rows = checked(folder)
    assert status == 0 and {row["case"] for row in rows} == {"t2i", "single", "multi_index", "eq12"}
    assert "kontext loop4 absent" in capsys.readouterr().out


def test_without_weights_the_schedules_are_still_checked(folder):
    (folder / "weights_bfl.safetensors").unlink()
    status, rows = checked(folder)
    assert status == 0 and {row["case"] for row in rows} == {"schedule_bfl", "schedule_diffusers", "eq12"}


@pytest.mark.parametrize(
    ("file", "name", "make", "bad"),
    [
        ("io", "single.img_ids", lambda x: x + 1, {"single"}),
        ("more", "multi_offset.velocity", lambda x: x + 1e-4, {"multi_offset"}),
        ("more", "sched.mu.48", lambda x: x + 1e-4, {"schedule_bfl"}),
        ("more", "sched.diffusers.4096.n28", lambda x: x * 0.9999, {"schedule_diffusers"}),
        ("io", "eq12.mu0.8000.sigma0.7", lambda x: x.flip(0), {"eq12"}),
        ("more", "loop4.timesteps", lambda x: x[:-1], {"loop4", "loop4_single"}),
        ("more", "loop4_single.final_latent", lambda x: x * 1.001, {"loop4_single"}),
        ("io", "ref3", lambda x: x.flip(3), {"multi_index", "multi_offset"}),
        ("weights_bfl", "single_blocks.2.linear2.weight", lambda x: x * 1.1,
         CASES - {"schedule_bfl", "schedule_diffusers", "eq12"}),
    ],
)  # fmt: skip
def test_a_changed_number_fails_its_cases(folder, file, name, make, bad):
    change(folder / f"{file}.safetensors", name, make)
    status, rows = checked(folder)
    assert status == 1 and {row["case"] for row in rows if not row["ok"]} == bad


def test_a_file_that_cannot_be_read_fails(folder):
    (folder / "io.safetensors").write_bytes(b"no tensors")
    status, rows = checked(folder)
    assert status == 1 and not any(row["ok"] for row in rows)


def test_log_3_is_written_with_four_decimals():
    assert parity_kontext.exact_mu("1.0986") != 1.0986 and parity_kontext.exact_mu("1.1500") == 1.15
