"""The command line on the small world: stages in order, resuming, the exports, and what it refuses."""

import json
import re

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from editkit.models.kontext import names
from editkit.tests.house import pack
from editkit.training.kontext import adapters, cli, flux, running
from editkit.training.store import Store


def same(one, two):
    return set(one) == set(two) and all(torch.equal(one[k], two[k]) for k in one)


def without_times(rows):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def told(capsys):
    """The one sentence that was printed."""
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize(
    ("stage", "more"),
    [
        ("flow", ["--accumulate", 2, "--sample", 2, "--sample-steps", 2]),
        ("flow", ["--lora", 2]),
        ("guidance", []),
        ("ladd", ["--distillation", 0.5, "--r1", 0.1, "--critic-width", 16]),
    ],
)
def test_a_resumed_run_continues_the_same_curve(train, log, parts, tmp_path, stage, more):
    """Bit for bit: the losses, the held-out measures, and the weights."""
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    for state, stops in ((whole, [6]), (halves, [2, 6])):
        for steps in stops:
            torch.rand(3)
            assert train(stage, "--state", state, "--steps", steps, *more) == 0
    one, two = (without_times(log(state, stage)) for state in (whole, halves))
    assert [row["step"] for row in one if "validation_loss" in row] == [0, 6]
    assert [row for row in two if row in one] == one and len(two) == len(one) + 1  # the halves are also measured at 2
    assert all(same(weights, parts(halves)[name]) for name, weights in parts(whole).items())


def test_each_stage_goes_on_from_the_one_before(train, parts, tmp_path, capsys):
    for stage, before in (("flow", "model"), ("guidance", "flow"), ("ladd", "guidance")):
        assert train(stage, "--state", tmp_path, "--steps", 1, "--lr", 0) == 0
        assert f"from {before}" in capsys.readouterr().out
    found = parts(tmp_path)
    flow, guidance, ladd = (found[f"{name}_transformer"] for name in ("flow", "guidance", "ladd"))
    assert same(guidance, ladd) and same(flow, {k: v for k, v in guidance.items() if "guidance" not in k})
    card = running.card_of(Store(tmp_path, "kontext"))
    assert [card["stages"][s]["guidance_embeds"] for s in ("flow", "guidance", "ladd")] == [False, True, True]


def test_the_export_is_the_averages_under_bfls_names(train, parts, tmp_path):
    assert train("flow", "--state", tmp_path, "--steps", 2, "--ema", 0.5) == 0
    for dtype in ("fp32", "bf16"):
        assert train("export", "--state", tmp_path, "--out", tmp_path / f"{dtype}.safetensors", "--dtype", dtype) == 0
    kept = parts(tmp_path)["flow_transformer"]
    assert same(names.to_diffusers(load_file(tmp_path / "fp32.safetensors")), kept)
    half = load_file(tmp_path / "bf16.safetensors")
    assert same(half, {k: v.bfloat16() for k, v in names.to_bfl(kept).items()})
    with safe_open(tmp_path / "bf16.safetensors", "pt") as file:
        assert file.metadata()["stage"] == "flow" and json.loads(file.metadata()["recipe"])["placement"] == "index"
    live = torch.load(tmp_path / "kontext/flow/state.pt", weights_only=True)["stage"]
    assert not torch.equal(live["net.x_embedder.weight"], kept["x_embedder.weight"])


def test_an_exported_folder_is_diffusers_own(train, parts, tmp_path):
    from diffusers import FluxTransformer2DModel

    assert train("guidance", "--state", tmp_path, "--steps", 1) == 0
    flags = ["--layout", "diffusers", "--dtype", "fp32"]
    assert train("export", "--state", tmp_path, "--out", tmp_path / "out", *flags) == 0
    net = FluxTransformer2DModel.from_pretrained(tmp_path / "out")
    assert same(net.state_dict(), parts(tmp_path)["guidance_transformer"]) and net.config.guidance_embeds


@pytest.mark.parametrize("form", ["comfyui", "diffusers"])
def test_what_was_exported_is_gone_on_with(train, parts, prepared, tmp_path, form):
    """A trained model is a model to start from."""
    assert train("flow", "--state", tmp_path / "one", "--steps", 1) == 0
    out = tmp_path / "m" / ("one.safetensors" if form == "comfyui" else "folder")
    assert train("export", "--state", tmp_path / "one", "--out", out, "--layout", form, "--dtype", "fp32") == 0
    if form == "comfyui":  # a file does not tell its rotary axes
        config = running.card_of(Store(tmp_path / "one", "kontext"))["stages"]["flow"]
        (tmp_path / "m/config.json").write_text(json.dumps(config))
    flags = ["--steps", "1", "--lr", "0", "--batch", "2", "--precision", "fp32", "--state", str(tmp_path / "two")]
    assert cli.main(["flow", "--model", str(out), "--data", str(prepared), *flags]) == 0
    assert same(parts(tmp_path / "one")["flow_transformer"], parts(tmp_path / "two")["flow_transformer"])


def test_a_lora_is_exported_for_core_and_diffusers(train, parts, tmp_path):
    assert train("flow", "--state", tmp_path, "--steps", 2, "--lora", 2, "--lora-alpha", 3) == 0
    assert train("export", "--state", tmp_path, "--out", tmp_path / "lora.safetensors", "--dtype", "fp32") == 0
    state, kept = load_file(tmp_path / "lora.safetensors"), adapters.pairs(parts(tmp_path)["flow_lora"])
    assert len(state) == 22 and all(re.fullmatch(r"transformer\..*\.lora_[AB]\.weight", name) for name in state)
    for layer, (a, b) in kept.items():
        assert torch.equal(state[f"transformer.{layer}.lora_A.weight"], a)
        assert torch.allclose(state[f"transformer.{layer}.lora_B.weight"], 1.5 * b)


def test_a_lora_loads_in_diffusers_and_is_what_merging_gives(train, network, parts, prepared, tmp_path):
    from diffusers import FluxPipeline

    net = network()
    net.save_pretrained(tmp_path / "model")
    flags = ["--model", tmp_path / "model", "--data", prepared, "--steps", 2, "--lr", 0.1, "--lora", 2]
    common = ["--batch", 2, "--precision", "fp32", "--state", tmp_path / "state", *flags]
    assert cli.main(["flow", *map(str, common)]) == 0
    for name, more in (("lora", []), ("merged", ["--merge"])):
        out = tmp_path / f"{name}.safetensors"
        assert train("export", "--state", tmp_path / "state", "--out", out, "--dtype", "fp32", *more) == 0
    merged = names.to_diffusers(load_file(tmp_path / "merged.safetensors"))
    assert not same(merged, net.state_dict())
    lora, alphas = FluxPipeline.lora_state_dict(tmp_path / "lora.safetensors", return_alphas=True)
    FluxPipeline.load_lora_into_transformer(lora, alphas, net)
    net.fuse_lora()
    net.unload_lora()
    assert all(torch.allclose(v, merged[k], atol=1e-6) for k, v in net.state_dict().items())


def test_what_cannot_be_exported_is_said(train, tmp_path, capsys):
    assert train("export", "--state", tmp_path / "none") == 1
    assert "train a stage first" in told(capsys)
    assert train("flow", "--state", tmp_path, "--steps", 1, "--lora", 2) == 0
    capsys.readouterr()
    for more, said in ((["--merge"], "nothing to merge"), (["--trained", "ladd"], "no trained ladd")):
        assert train("export", "--state", tmp_path, *more) == 1
        assert said in told(capsys)


def test_a_state_of_another_model_or_lora_is_not_gone_on_with(train, tmp_path, capsys):
    assert train("flow", "--state", tmp_path, "--steps", 1, "--lora", 2) == 0
    capsys.readouterr()
    for more, said in (([], "another choice of --lora"), (["--lora", 3], "another choice of --lora")):
        assert train("flow", "--state", tmp_path, "--steps", 2, *more) == 1
        assert said in told(capsys)
    assert train("flow", "--state", tmp_path, "--steps", 2, "--lora", 2, own=True) == 1
    assert "another model" in told(capsys)


@pytest.mark.parametrize(
    ("stage", "flags", "said"),
    [
        ("flow", ["--text-dropout", "1.2"], "--text-dropout 1.2"),
        ("flow", ["--text-to-image", "-1"], "--text-to-image -1"),
        ("flow", ["--sigma", "0"], "--sigma 0"),
        ("flow", ["--batch", "0"], "--batch 0"),
        ("flow", ["--lora", "0"], "rank 0"),
        ("flow", ["--lora", "2", "--lora-targets", "to_w"], "'to_w'"),
        ("flow", ["--model", "x"], "--model, or say --config tiny"),
        ("flow", ["--data", "nowhere"], "nowhere holds no index.jsonl"),
        ("guidance", ["--scales", "5", "1"], "--scales 5 1"),
        ("ladd", ["--student-steps", "0"], "--student-steps 0"),
        ("ladd", ["--first", "2"], "--first 2"),
    ],
)
def test_a_wrong_flag_is_said_in_one_sentence(train, tmp_path, capsys, stage, flags, said):
    assert train(stage, "--state", tmp_path, *flags) == 1
    assert said in told(capsys)


def test_a_real_training_wants_data_and_a_model_that_fits_it(network, prepared, tmp_path, capsys):
    common = ["--state", str(tmp_path), "--precision", "fp32"]
    assert cli.main(["flow", *common]) == 1 and "--model" in told(capsys)
    assert cli.main(["flow", "--model", str(tmp_path / "none.safetensors"), *common]) == 1
    assert "--data" in told(capsys)
    for name, changes in (("states", {"joint_attention_dim": 48}), ("channels", {"in_channels": 64})):
        network(**changes).save_pretrained(tmp_path / name)
        assert cli.main(["flow", "--model", str(tmp_path / name), "--data", str(prepared), *common]) == 1
        assert name in told(capsys)


def test_the_defaults_are_those_of_the_page():
    arguments = cli.parser().parse_args(["flow", "--model", "m"])
    o = running.options(arguments)
    assert (o.batch, o.accumulate, o.steps, o.lr, o.clip, o.ema) == (4, 4, 50_000, 1e-5, 1.0, 0.9999)
    recipe = running.recipe_of(arguments)
    assert (recipe.text_to_image, recipe.dropout, recipe.sigma, recipe.mu) == (0.25, 0.1, 1.0, None)
    dev = running.recipe_of(cli.parser().parse_args(["guidance", "--model", "m"]))
    assert dev.text_to_image == 0 and dev.scales == (1.0, 5.0)  # §3: edits alone


def test_every_documented_flag_exists():
    """The README's flags are those of the command line, or of accelerate."""
    page = (pack.ROOT / "training/README.md").read_text(encoding="utf-8")
    section = page[page.index("# Training FLUX.1 Kontext") :].partition("\n# ")[0]
    known = {"--config_file", "--num_processes"}
    for word in cli.WORDS:
        chosen = cli.parser()._subparsers._group_actions[0].choices[word]
        known |= {flag for action in chosen._actions for flag in action.option_strings}
    named = set(re.findall(r"--[a-z][a-z0-9_-]+", section))
    assert len(named) > 15 and named <= known, named - known


def test_quantised_weights_are_refused(network, prepared, tmp_path, capsys):
    state = names.to_bfl(network().state_dict()) | {"scaled_fp8": torch.zeros(1)}
    save_file(state, tmp_path / "q.safetensors")
    network().save_config(tmp_path)
    flags = ["--model", str(tmp_path / "q.safetensors"), "--data", str(prepared), "--state", str(tmp_path)]
    assert cli.main(["flow", *flags, "--precision", "fp32"]) == 1
    assert "belong to no FLUX" in told(capsys) and flux.CONFIG
