"""The command line on the small world: phases in order, resuming, files, the export, and what it refuses."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file

from editkit.models.editmgt import checkpoint, config, files, lora
from editkit.tests.house import pack
from editkit.training.editmgt import cli, release, running
from editkit.training.store import Store


def parts(state):
    store = Store(state, "editmgt")
    return {p.stem: store.read_part(p.stem) for p in (store.root / "weights").iterdir()}


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
    ("phase", "more"),
    [
        ("phase1", ["--connector", "mlp2"]),
        ("phase2", ["--accumulate", 2]),
        ("phase2", ["--lora", 2, "--lora-part", "reference"]),
        ("phase3", []),
    ],
)
def test_a_resumed_run_continues_the_same_curve(train, log, tmp_path, phase, more):
    """Bit for bit: the losses, the held-out measures, and the weights."""
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    for state, stops in ((whole, [20]), (halves, [7, 20])):
        for steps in stops:
            torch.rand(3)
            assert train(phase, "--state", state, "--steps", steps, *more) == 0
    one, two = (without_times(log(state, phase)) for state in (whole, halves))
    assert [row["step"] for row in one if "loss" in row] == [1, 20]
    assert [row for row in two if row in one] == one  # the halves are also measured at 7
    assert all(same(weights, parts(halves)[name]) for name, weights in parts(whole).items())


def test_each_phase_goes_on_from_the_one_before(train, tmp_path, capsys):
    common = ["--state", tmp_path, "--steps", 1, "--lr", 0]
    for phase, before in (("phase1", "model"), ("phase2", "phase1"), ("phase3", "phase2")):
        assert train(phase, *common, *(["--connector", "mlp3"] if phase == "phase1" else [])) == 0
        assert f"from {before}" in capsys.readouterr().out
    found = parts(tmp_path)
    assert same(found["phase1_transformer"], found["phase2_transformer"])
    assert same(found["phase1_transformer"], found["phase3_transformer"])
    assert config.connector_kind(found["phase3_transformer"]) == "fmlp"


def test_a_lora_of_phase_2_is_tuned_in_phase_3(train, tmp_path, capsys):
    common = ["--state", tmp_path, "--steps", 2, "--lora", 2]
    assert train("phase2", *common) == 0 and train("phase3", *common, "--lr", 0) == 0
    assert "from phase2" in capsys.readouterr().out
    found = parts(tmp_path)
    assert set(found) == {"phase2_lora", "phase3_lora"} and same(found["phase2_lora"], found["phase3_lora"])
    for other in ([], ["--lora", 3], ["--lora", 2, "--lora-alpha", 5]):
        assert train("phase3", "--state", tmp_path, *other) == 1
        assert "another choice of --lora" in told(capsys)


def test_a_phase_2_of_all_weights_can_be_followed_by_a_lora(train, tmp_path):
    assert train("phase2", "--state", tmp_path, "--steps", 1) == 0
    assert train("phase3", "--state", tmp_path, "--steps", 1, "--lora", 2) == 0
    assert set(parts(tmp_path)) == {"phase2_transformer", "phase3_lora"}


def test_tables_are_trained_on(train, log, edits, pairs, tmp_path):
    common = ["--state", tmp_path, "--steps", 2]
    assert train("phase1", *common, "--pairs", pairs) == 0
    assert train("phase2", *common, "--edits", edits, "--follow", 2, "--follow-steps", 2) == 0
    assert train("phase3", *common, "--edits", edits / "edits.csv", "--score-column", "aesthetic") == 0
    assert {"validation_loss", "validation_followed", "validation_kept"} <= set(log(tmp_path, "phase2")[0])


def test_the_export_is_read_back_bit_for_bit(train, tmp_path):
    assert train("phase2", "--state", tmp_path, "--steps", 2, "--mask-schedule", "linear") == 0
    assert train("export", "--state", tmp_path, "--out", tmp_path / "out") == 0
    state = files.read_weights(tmp_path / "out/editmgt")
    shape = config.read(files.read_json(tmp_path / "out/editmgt/config.json"), state)
    card = running.card_of(Store(tmp_path, "editmgt"))
    assert running._plain(shape) == card["config"]
    assert same(state, parts(tmp_path)["phase2_transformer"])
    assert json.loads((tmp_path / "out/training.json").read_text())["time"] == "ratio"
    scheduler = json.loads((tmp_path / "out/scheduler" / checkpoint.SCHEDULER).read_text())
    assert scheduler == {"mask_token_id": shape.mask_token, "masking_schedule": "linear"}


def test_a_lora_is_exported_as_the_official_trainer_writes_it(train, tmp_path):
    flags = ["--lora", 2, "--lora-alpha", 3, "--lora-part", "reference"]
    assert train("phase2", "--state", tmp_path, "--steps", 2, *flags) == 0
    assert train("export", "--state", tmp_path, "--out", tmp_path / "out") == 0
    state = load_file(next((tmp_path / "out").glob("*.safetensors")))
    assert len(state) == 24 and state["unet._orig_mod.transformer_blocks.1.attn.to_q.lora_A.weight"].shape == (2, 64)
    assert all(re.fullmatch(r"unet\._orig_mod\..*\.to_[qkv]\.lora_[AB]\.weight", name) for name in state)
    assert sorted(float(v.sum()) for v in state.values()) == sorted(
        float(v.sum()) for v in parts(tmp_path)["phase2_lora"].values()
    )
    card = json.loads((tmp_path / "out/lora_config.json").read_text())
    assert (card["r"], card["lora_alpha"], card["lora_part_enable"]) == (2, 3, True)


def test_a_lora_is_merged_into_what_it_was_trained_on(train, tmp_path, capsys):
    common = ["--state", tmp_path, "--steps", 2]
    assert train("phase1", *common) == 0 and train("phase2", *common, "--lora", 2) == 0
    for out, more in (("merged", ["--merge"]), ("lora", [])):
        assert train("export", "--state", tmp_path, "--out", tmp_path / out, *more) == 0
    base = parts(tmp_path)["phase1_transformer"]
    expected = lora.merged(base, lora.read(tmp_path / "lora"))
    found = files.read_weights(tmp_path / "merged/editmgt")
    assert same(found, expected) and not same(found, base)


def test_what_cannot_be_exported_is_said(train, tmp_path, capsys):
    assert train("export", "--state", tmp_path / "none") == 1
    assert "train a phase first" in told(capsys)
    flags = ["--lora", 2, "--lora-part", "reference"]
    assert train("phase2", "--state", tmp_path, "--steps", 1, *flags) == 0
    capsys.readouterr()
    for more, said in ((["--merge"], "cannot be merged"), (["--phase", "phase3"], "no trained phase3"),
                       (["--phase", "four"], "--phase four")):  # fmt: skip
        assert train("export", "--state", tmp_path, *more) == 1
        assert said in told(capsys)


def test_a_state_of_another_connector_is_not_gone_on_with(train, tmp_path, capsys):
    assert train("phase1", "--state", tmp_path, "--steps", 1) == 0
    capsys.readouterr()
    assert train("phase1", "--state", tmp_path, "--connector", "ella") == 1
    assert "another model or connector" in told(capsys)


@pytest.mark.parametrize(
    ("phase", "flags", "said"),
    [
        ("phase1", ["--pairs", "nowhere"], "no nowhere, which --pairs"),
        ("phase2", ["--edits", "nowhere.csv"], "no nowhere.csv, which --edits"),
        ("phase2", ["--text-dropout", "1.2"], "--text-dropout 1.2"),
        ("phase3", ["--best", "12"], "--best 12"),
        ("phase2", ["--size", "7"], "--size 7"),
        ("phase2", ["--batch", "0"], "--batch 0"),
        ("phase2", ["--lora", "0"], "rank 0"),
        ("phase2", ["--lora", "2", "--lora-targets", "to_w"], "to_w"),
        ("phase2", ["--model", "x"], "--model, or say --config tiny"),
    ],
)
def test_a_wrong_flag_is_said_in_one_sentence(train, tmp_path, capsys, phase, flags, said):
    assert train(phase, "--state", tmp_path, *flags) == 1
    assert said in told(capsys)


def test_without_a_table_a_real_training_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(release, "find", lambda *_: "found")
    monkeypatch.setattr(release, "Release", lambda *_: pytest.fail("networks were loaded"))
    for phase, flag in (("phase1", "--pairs"), ("phase2", "--edits")):
        assert cli.main([phase, "--model", "m", "--state", str(tmp_path)]) == 1
        assert flag in told(capsys)


@pytest.mark.parametrize(
    ("phase", "steps", "best"), [("phase1", 5_000, None), ("phase2", 50_000, 1), ("phase3", 1_000, 0.12)]
)
def test_the_defaults_are_the_papers(phase, steps, best):
    arguments = cli.parser().parse_args([phase, "--model", "m"])
    o = running.options(arguments)
    assert (o.batch, o.accumulate, o.steps, o.lr, o.weight_decay, o.clip) == (4, 4, steps, 1e-4, 1e-2, 10)
    assert (o.size, arguments.text_dropout, getattr(arguments, "best", None)) == (64, 0.1, best)


def test_every_documented_flag_exists():
    """The README's flags are those of the command line."""
    page = (pack.ROOT / "training/README.md").read_text(encoding="utf-8")
    section = page[page.index("# Training EditMGT") :].split("\n# ")[0]
    known = set()
    for word in ("phase1", "phase2", "phase3", "export"):
        chosen = cli.parser()._subparsers._group_actions[0].choices[word]
        known |= {flag for action in chosen._actions for flag in action.option_strings}
    named = set(re.findall(r"--[a-z][a-z0-9-]+", section))
    assert len(named) > 15 and named <= known, named - known
