"""The family `moelora`: our routed layers agree with the released ones, and changed files do not."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from editkit.benchmarks import cli

CASES = {
    "layer_ffnet2_top1_fp32", "layer_projout_top1_fp32", "layer_projout_top2_alpha8_fp32", "layer_ffnet2_top1_bf16",
    "flux_moe", "flux_moe_half", "flux_normal_lora", "keys_moe", "keys_normal",
}  # fmt: skip


@pytest.fixture
def folder(root, tmp_path):
    shutil.copytree(root / "tests" / "fixtures" / "moelora", tmp_path / "moelora")
    return tmp_path / "moelora"


def checked(folder):
    status = cli.main(["parity", str(folder), "--json", str(folder / "out.json")])
    return status, json.loads((folder / "out.json").read_text())


def test_every_case_agrees_with_the_released_code(folder):
    status, rows = checked(folder)
    assert status == 0 and all(row["ok"] for row in rows) and {row["case"] for row in rows} == CASES
    assert sum(row["quantity"].startswith("hook.") for row in rows) == 10  # in and out of five routed layers


def alter(path, name, change):
    from editkit.benchmarks.parity import metadata

    save_file(load_file(path) | {name: change(load_file(path)[name]).contiguous()}, path, metadata(path))


def test_another_router_fails_in_its_layer(folder):
    alter(folder / "layer_projout_top1_fp32.safetensors", "lora_route.weight", lambda x: x.flip(0))
    status, rows = checked(folder)
    assert status == 1 and {row["case"] for row in rows if not row["ok"]} == {"layer_projout_top1_fp32"}


def test_a_changed_expert_fails_in_the_whole_transformer(folder):
    name = "transformer.transformer_blocks.1.ff.net.2.lora_B.expert_0.weight"
    alter(folder / "tiny_lora" / "pytorch_lora_weights.safetensors", name, lambda x: 1.2 * x)
    status, rows = checked(folder)
    bad = {(row["case"], row["quantity"]) for row in rows if not row["ok"]}
    assert status == 1 and ("flux_moe", "out_moe") in bad and ("flux_moe_half", "out_moe_official_scale_0_5") in bad
    assert ("flux_moe", "hook.transformer_blocks.1.ff.net.2.out") in bad
    assert ("flux_moe", "hook.transformer_blocks.0.ff.net.2.out") not in bad


def test_a_layer_too_many_or_too_few_is_counted(folder):
    path = folder / "official_normal_lora_expected_keys_shapes.json"
    keys = json.loads(path.read_text())
    gone = {k: v for k, v in keys.items() if ".single_transformer_blocks.7.proj_mlp." not in k}
    path.write_text(json.dumps(gone | {"transformer.proj_in.lora_A.weight": [32, 3072],
                                       "transformer.proj_in.lora_B.weight": [3072, 32]}))  # fmt: skip
    status, rows = checked(folder)
    bad = {row["quantity"]: row["value"] for row in rows if not row["ok"]}
    assert status == 1 and bad == {"left_over": 1.0, "missing": 1.0}


def test_a_mixture_called_plain_is_noticed(folder):
    shutil.copy(folder / "official_moe_lora_expected_keys_shapes.json",
                folder / "official_normal_lora_expected_keys_shapes.json")  # fmt: skip
    status, rows = checked(folder)
    assert status == 1 and [r["case"] for r in rows if not r["ok"]] == ["keys_normal"]
