"""The command line on the small world: the base, resuming, the exports, and what it refuses."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from editkit.models.icedit import lora as files
from editkit.nodes.host import loras
from editkit.tests.house import pack
from editkit.training.icedit import adapters, cli, running
from editkit.training.icedit.stages import Recipe
from editkit.training.kontext import flux
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


@pytest.fixture
def with_base(train, tmp_path, capsys):
    """A state with a small base that has learnt nothing yet."""
    assert train("base", "--state", tmp_path, "--steps", 1) == 0
    capsys.readouterr()
    return tmp_path


@pytest.mark.parametrize(("stage", "more"), [
    ("lora", ["--optimizer", "adamw", "--accumulate", 2, "--sample", 2, "--sample-steps", 2]),
    ("mixture", ["--optimizer", "adamw", "--softmax-first", "--balance", 0.01]),
    ("mixture", ["--optimizer", "prodigy"]),
])  # fmt: skip
def test_a_resumed_run_continues_the_same_curve(train, log, parts, tmp_path, stage, more):
    """Bit for bit: the losses, the held-out measures, and the weights; Prodigy's own estimates are kept too."""
    if "prodigy" in more:
        pytest.importorskip("prodigyopt", reason="Prodigy is prodigyopt's; see requirements-train.txt")
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    for state, stops in ((whole, [6]), (halves, [2, 6])):
        assert train("base", "--state", state, "--steps", 1) == 0
        for steps in stops:
            torch.rand(3)
            assert train(stage, "--state", state, "--steps", steps, "--rank", 2, *more) == 0
    one, two = (without_times(log(state, stage)) for state in (whole, halves))
    assert [row["step"] for row in one if "validation_loss" in row] == [0, 6]
    assert [row for row in two if row in one] == one and len(two) == len(one) + 1  # the halves are also measured at 2
    assert all(same(weights, parts(halves)[name]) for name, weights in parts(whole).items())


def test_the_exports_are_the_released_formats(train, parts, with_base, monkeypatch):
    """Names, no alpha, bf16 unless told; and the reader of our nodes takes them."""
    for stage, more in (("lora", []), ("mixture", ["--experts", 3])):
        flags = ["--rank", 2, "--steps", 2, "--optimizer", "adamw", "--lr", 0.1, *more]
        assert train(stage, "--state", with_base, *flags) == 0
        out = with_base / f"{stage}.safetensors"
        assert train("export", "--state", with_base, "--trained", stage, "--out", out) == 0
        state = load_file(out)
        choice = adapters.Choice(**running.card_of(Store(with_base, "icedit"))["choices"][stage])
        wanted = adapters.to_file(parts(with_base)[stage], choice)
        assert same(state, {k: v.bfloat16() for k, v in wanted.items()})
        assert all(k.startswith("transformer.") and k.endswith(".weight") and "alpha" not in k for k in state)
        with safe_open(out, "pt") as file:
            assert file.metadata()["format"] == "pt" and files.ROUTING not in file.metadata()
            assert json.loads(file.metadata()["recipe"])["dropout"] == 0.1
        monkeypatch.setattr(loras.folders, "lora", lambda name, out=out: out)
        found = loras.read(out.name)
        assert found.rank == 2 and {e.count for e in found.experts.values()} == ({3} if stage == "mixture" else set())
        assert not found.experts or not any(e.softmax_first for e in found.experts.values())
    assert train("export", "--state", with_base) == 0
    assert (with_base / "icedit/export/ICEdit-MoE-LoRA.safetensors").is_file()


def test_softmax_first_is_noted_in_the_file_and_read_by_the_node(train, with_base, monkeypatch):
    flags = ["--rank", 2, "--steps", 1, "--optimizer", "adamw", "--softmax-first"]
    assert train("mixture", "--state", with_base, *flags) == 0
    out = with_base / "one.safetensors"
    assert train("export", "--state", with_base, "--out", out) == 0
    monkeypatch.setattr(loras.folders, "lora", lambda name: out)
    assert all(e.softmax_first for e in loras.read("one").experts.values())


def test_the_base_stays_as_it_was(train, parts, with_base):
    before = parts(with_base)["base"]
    flags = ["--rank", 2, "--steps", 3, "--optimizer", "adamw", "--lr", 0.1]
    assert train("mixture", "--state", with_base, *flags) == 0
    after = parts(with_base)
    assert same(before, after["base"]) and set(after) == {"base", "mixture"}
    assert all("lora_" in k or k.rsplit("/", 1)[-1] in ("down", "up", "router") for k in after["mixture"])
    state = torch.load(with_base / "icedit/mixture/state.pt", weights_only=True)["stage"]
    assert len(state) == len(after["mixture"])  # frozen weights are in no state


def test_prodigy_is_the_released_one(stage):
    pytest.importorskip("prodigyopt", reason="Prodigy is prodigyopt's; see requirements-train.txt")
    one = stage(optimizer="prodigy")
    made = one.optimizer(one.role_parameters("main"), 1.0, 0.01)
    assert type(made).__name__ == "Prodigy"
    wanted = {"lr": 1.0, "weight_decay": 0.01, "use_bias_correction": True, "safeguard_warmup": True, "decouple": True}
    assert {k: made.defaults[k] for k in wanted} == wanted


def test_without_prodigy_it_says_what_to_install(train, with_base, monkeypatch, capsys):
    import sys

    monkeypatch.setitem(sys.modules, "prodigyopt", None)
    assert train("lora", "--state", with_base, "--steps", 1) == 1
    assert "pip install prodigyopt" in told(capsys)


def test_the_defaults_are_the_released_recipe():
    arguments = cli.parser().parse_args(["mixture", "--model", "m"])
    arguments.optimizer = "adamw"
    recipe = running.recipe_of(arguments)
    o = running.options(cli.parser().parse_args(["mixture", "--model", "m"]))
    assert (recipe.dropout, recipe.guidance, recipe.balance, recipe.sample_guidance) == (0.1, 1.0, 0.0, 50.0)
    assert (o.lr, o.weight_decay, o.clip, o.batch * o.accumulate) == (1, 0.01, 0.5, 2)
    assert (o.ema, o.warmup, o.decay) == (0, 0, 0)
    assert running.choice_of(arguments) == adapters.Choice(32, 4, 1, False) and Recipe().optimizer == "prodigy"


def test_times_are_unshifted_and_dropped_texts_are_the_space(stage):
    """t = sigmoid(N(0, 1)) whatever the size; the loss is the velocity's over both panels."""
    one = stage()
    rng = np.random.default_rng(0)
    batches = [one.batch(rng, 50, 0) for _ in range(20)]
    times = torch.cat([b[2] for b in batches])
    normal = torch.logit(times)
    assert abs(float(normal.mean())) < 0.1 and abs(float(normal.std()) - 1) < 0.07
    assert abs(float(torch.cat([b[3] for b in batches]).float().mean()) - 0.1) < 0.03
    target, masked, time, _, states, pooled = batches[0]
    assert torch.equal(target[..., :6], masked[..., :6]) and masked[..., 6:].abs().max() < 1e-6
    seen = {}
    one.net.forward = lambda **given: seen.update(given) or (torch.zeros(len(target), 18, 16),)
    torch.manual_seed(3)
    found = one.losses(target, masked, time, torch.arange(50) < 25, states, pooled)
    torch.manual_seed(3)
    noise = torch.randn_like(target)
    assert float(found["loss"]) == pytest.approx(float((noise - target).square().mean()), rel=1e-5)
    t = time[:, None, None, None]
    assert torch.equal(seen["hidden_states"][..., :16], flux.pack((1 - t) * target + t * noise))
    empty = one.examples.empty[0].expand(25, -1, -1)
    assert torch.equal(seen["encoder_hidden_states"][:25], empty) and seen["guidance"].unique().tolist() == [1.0]
    assert torch.equal(seen["encoder_hidden_states"][25:], states[25:])


def test_it_trains_on_a_prepared_folder(network, prepared, log, tmp_path):
    network(in_channels=96).save_pretrained(tmp_path / "transformer")
    common = ["--model", tmp_path, "--data", prepared, "--state", tmp_path / "state", "--steps", 2, "--rank", 2,
              "--precision", "fp32", "--threads", 1, "--optimizer", "adamw", "--sample", 1, "--sample-steps", 2,
              "--gradient-checkpointing"]  # fmt: skip
    for stage in ("lora", "mixture"):
        assert cli.main([stage, *map(str, common)]) == 0
        assert {"validation_loss", "validation_right", "validation_error"} <= set(log(tmp_path / "state", stage)[0])


def test_in_bf16_it_learns_too(train, log, with_base):
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state()  # a process has one precision, else
    flags = ["--rank", 2, "--steps", 3, "--optimizer", "adamw", "--lr", 0.1, "--precision", "bf16"]
    assert train("mixture", "--state", with_base, *flags) == 0
    AcceleratorState._reset_state()
    losses = [row["validation_loss"] for row in log(with_base, "mixture") if "validation_loss" in row]
    assert losses[-1] < losses[0] and np.isfinite(losses).all()


@pytest.mark.parametrize(("stage", "flags", "said"), [
    ("lora", ["--text-dropout", "1.2"], "--text-dropout 1.2"), ("lora", ["--rank", "0"], "rank 0"),
    ("lora", ["--batch", "0"], "--batch 0"), ("mixture", ["--experts", "0"], "--experts 0"),
    ("mixture", ["--experts-per-token", "5"], "5 of 4"), ("mixture", ["--balance", "-1"], "--balance -1"),
    ("lora", ["--data", "nowhere"], "nowhere holds no index.jsonl"), ("lora", ["--model", "x"], "or say --config tiny"),
])  # fmt: skip
def test_a_wrong_flag_is_said_in_one_sentence(train, with_base, capsys, stage, flags, said):
    assert train(stage, "--state", with_base, "--optimizer", "adamw", *flags) == 1
    assert said in told(capsys)


def test_what_does_not_fit_is_said(train, network, prepared, with_base, tmp_path, capsys):
    assert train("lora", "--state", tmp_path / "new", "--optimizer", "adamw") == 1
    assert "train icedit base" in told(capsys)
    states = {"in_channels": 96, "joint_attention_dim": 48}
    for name, changes, said in (("t2i", {"in_channels": 16}, "Fill-dev"), ("states", states, "text states 32 wide")):
        network(**changes).save_pretrained(tmp_path / name)
        flags = ["--model", tmp_path / name, "--data", prepared, "--state", tmp_path / "x", "--optimizer", "adamw"]
        assert cli.main(["lora", *map(str, flags)]) == 1
        assert said in told(capsys)
    flags = ["--state", with_base, "--rank", 2, "--steps", 1, "--optimizer", "adamw"]
    assert train("mixture", *flags) == 0
    capsys.readouterr()
    assert train("mixture", *flags, "--experts", 2) == 1 and "other experts" in told(capsys)
    assert train("export", "--state", with_base, "--trained", "lora") == 1 and "no trained lora" in told(capsys)


def test_every_documented_flag_exists():
    """The README's flags are those of the command line."""
    page = (pack.ROOT / "training/README.md").read_text(encoding="utf-8")
    section = page[page.index("# Training ICEdit") :].partition("\n# ")[0]
    known = set()
    for word in cli.WORDS:
        chosen = cli.parser()._subparsers._group_actions[0].choices[word]
        known |= {flag for action in chosen._actions for flag in action.option_strings}
    named = set(re.findall(r"--[a-z][a-z0-9_-]+", section))
    assert len(named) > 12 and named <= known, named - known
