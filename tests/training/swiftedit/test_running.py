"""The command line from end to end: both stages, resuming, the export, and what it refuses."""

import json
import re
import shutil

import pytest
import torch

from editkit.models.swiftedit import checkpoint
from editkit.tests.house import pack
from editkit.tests.training.swiftedit import tiny
from editkit.training.store import Store
from editkit.training.swiftedit import cli, networks, running, stages


@pytest.fixture
def stage1(train, pipeline, captions):
    def run(state, steps, *more):
        return train("stage1", "--generator", pipeline, "--captions", captions, "--state", state, "--size", 16,
                     "--steps", steps, *more)  # fmt: skip

    return run


@pytest.fixture
def stage2(train, pipeline, teacher, photos, random_dists):
    def run(state, steps, *more):
        return train("stage2", "--generator", pipeline, "--teacher", teacher, "--photos", photos, "--state", state,
                     "--size", 16, "--steps", steps, *more)  # fmt: skip

    return run


def parts(state, family="swiftbrush_v2"):
    store = Store(state, f"swiftedit-{family}")
    return {p.stem: store.read_part(p.stem) for p in (store.root / "weights").iterdir()}


def without_times(rows):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def same(one, two):
    return set(one) == set(two) and all(torch.equal(one[k], two[k]) for k in one)


def test_the_export_of_both_stages_is_read_back_bit_for_bit(stage1, stage2, train, pipeline, tmp_path):
    state, out = tmp_path / "state", tmp_path / "out"
    assert stage1(state, 2) == 0 and stage2(state, 2) == 0
    assert train("export", "--state", state, "--out", out, "--with-generator", "--generator", pipeline) == 0
    trained, release = parts(state), checkpoint.find(out)
    assert release.kind == "swiftbrush_v2" and not list(out.rglob("*.part"))
    config, inversion = checkpoint.read_unet(release.inversion)
    assert same(inversion, trained["stage2_inversion"])
    branch = checkpoint.read_branch(release.branch)
    assert same(branch.state(), trained["stage1_branch"])
    own = json.loads((pipeline / "unet/config.json").read_text())
    assert config == {k: v for k, v in own.items() if not k.startswith("_")}
    assert same(checkpoint.read_unet(release.generator)[1], checkpoint.read_unet(pipeline / "unet")[1])
    assert not same(inversion, trained["stage1_inversion"])


def test_each_image_layer_is_exported_under_its_own_name(stage1, train, pipeline, tmp_path):
    """The released inference puts them back by name: what F and G^IP then compute is what training computed."""
    assert stage1(tmp_path / "state", 2) == 0
    assert train("export", "--state", tmp_path / "state", "--out", tmp_path / "out") == 0
    release = checkpoint.find(tmp_path / "out")
    branch = checkpoint.read_branch(release.branch)
    unet = networks.load_unet(pipeline / "unet")
    prompt = networks.ImagePrompt(unet, 12)
    prompt.load_state_dict(parts(tmp_path / "state")["stage1_branch"])
    assert len(branch.layers) == len(prompt.layers)
    for layer, weights in branch.layers.items():
        own = unet.get_submodule(layer).processor
        assert torch.equal(own.to_k_ip.weight, weights["to_k_ip.weight"])
        assert torch.equal(own.to_v_ip.weight, weights["to_v_ip.weight"])
    assert torch.equal(prompt.projection.proj.weight, branch.projection["proj.weight"])
    networks.load_unet(release.inversion)  # and F is a UNet that loads


def test_a_resumed_run_continues_the_same_curve(stage1, stage2, log, tmp_path):
    """Bit for bit: the losses, the held-out measures, and the weights."""
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    for run, name in ((stage1, "stage1"), (stage2, "stage2")):
        for state, stops in ((whole, [20]), (halves, [10, 20])):
            for steps in stops:
                torch.rand(3)
                assert run(state, steps, "--batch", 1) == 0
        one, two = (without_times(log(state, name)) for state in (whole, halves))
        assert [row["step"] for row in one if "loss" in row] == [1, 20]
        assert [row for row in two if row in one] == one  # the halves are also measured at 10
    assert all(same(weights, parts(halves)[name]) for name, weights in parts(whole).items())


@pytest.mark.parametrize("family", ["swiftbrush_v1", "dmd2", "instaflow"])
def test_other_generators_train_and_export_under_their_name(stage1, train, family, tmp_path):
    assert stage1(tmp_path, 1, "--family", family) == 0
    assert train("export", "--family", family, "--state", tmp_path, "--out", tmp_path / "out") == 0
    assert checkpoint.find(tmp_path / "out").kind == family


def test_without_the_image_branch_there_is_none_in_the_export(stage1, stage2, train, tmp_path):
    more = ["--no-image-branch"]
    assert stage1(tmp_path, 1, *more) == 0 and stage2(tmp_path, 1, *more, "--no-perceptual") == 0
    assert train("export", "--state", tmp_path, "--out", tmp_path / "out") == 0
    release = checkpoint.find(tmp_path / "out")
    assert release.branch is None and release.inversion is not None and release.kind == "swiftbrush_v2"


def test_either_stage_can_be_left_out(stage1, stage2, train, tmp_path):
    alone, both = tmp_path / "alone", tmp_path / "both"
    assert stage2(alone, 1, "--skip-stage1") == 0
    assert set(parts(alone)) == {"stage2_inversion", "stage2_branch"}
    assert train("export", "--state", alone, "--out", tmp_path / "second") == 0
    second = checkpoint.read_branch(checkpoint.find(tmp_path / "second").branch)
    assert same(second.state(), parts(alone)["stage2_branch"])
    assert stage1(both, 1) == 0 and stage2(both, 1) == 0
    assert train("export", "--state", both, "--out", tmp_path / "first", "--skip-stage2") == 0
    first = checkpoint.read_unet(checkpoint.find(tmp_path / "first").inversion)[1]
    assert same(first, parts(both)["stage1_inversion"])


def test_the_order_of_the_stages_is_kept(stage1, stage2, train, tmp_path, capsys):
    assert train("export", "--state", tmp_path) == 1
    assert "train stage1 first" in capsys.readouterr().out
    assert stage2(tmp_path, 1) == 1
    assert "--skip-stage1" in capsys.readouterr().out
    assert stage1(tmp_path, 1) == 0 and stage2(tmp_path, 1, "--skip-stage1") == 1
    assert "another --state" in capsys.readouterr().out


def test_a_state_of_another_generator_is_not_gone_on_with(stage1, pipeline, tmp_path, capsys):
    assert stage1(tmp_path / "state", 1) == 0
    other = shutil.copytree(pipeline, tmp_path / "other")
    tiny.unet(block_out_channels=(8, 16)).save_pretrained(other / "unet")
    assert stage1(tmp_path / "state", 2, "--generator", other) == 1
    assert "another generator" in capsys.readouterr().out
    assert stage1(tmp_path / "state", 2, "--no-image-branch") == 1
    assert "--no-image-branch" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("--generator", "--generator"),
        ("--captions", "--captions"),
        ("--vision", "--vision"),
        ("--vae", "--vae"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_loaded(
    stage1, tmp_path, capsys, monkeypatch, missing, said
):
    monkeypatch.setattr(networks, "Frozen", lambda *_: pytest.fail("networks were loaded"))
    assert stage1(tmp_path / "state", 1, missing, tmp_path / "nowhere") == 1
    told = capsys.readouterr().out
    assert said in told and "nowhere" in told and len(told.strip().splitlines()) == 1
    assert not (tmp_path / "state/swiftedit-swiftbrush_v2/swiftedit.json").exists()


def test_a_teacher_is_needed_only_for_the_regularisation(
    train, stage1, pipeline, photos, random_dists, tmp_path, capsys
):
    common = ["--generator", pipeline, "--photos", photos, "--state", tmp_path, "--size", 16, "--steps", 1]
    assert stage1(tmp_path, 1) == 0 and train("stage2", *common) == 1
    assert "--teacher" in capsys.readouterr().out
    assert train("stage2", *common, "--no-regularisation") == 0


def test_a_range_of_timesteps_that_is_none_is_refused(stage2, tmp_path, capsys):
    assert stage2(tmp_path, 1, "--timesteps", 500, 1000) == 1
    assert "--timesteps 500 1000" in capsys.readouterr().out


@pytest.mark.parametrize(("stage", "batch", "steps"), [("stage1", 4, 100_000), ("stage2", 1, 180_000)])
def test_the_defaults_are_the_papers(stage, batch, steps):
    data = "--captions" if stage == "stage1" else "--photos"
    arguments = cli.parser().parse_args([stage, "--generator", "g", data, "d"])
    o = running.options(arguments)
    assert (o.batch, o.steps, o.lr, o.weight_decay, o.size) == (batch, steps, 1e-5, 1e-4, 512)
    assert arguments.weight == 1 and arguments.family == "swiftbrush_v2"
    parameter = torch.nn.Parameter(torch.ones(1))
    optimizer = stages.SwiftEditStage.optimizer(None, [parameter], o.lr, o.weight_decay)
    assert type(optimizer) is torch.optim.Adam and optimizer.defaults["weight_decay"] == 1e-4


def test_every_documented_flag_exists():
    """The README's flags are those of the command line."""
    page = (pack.ROOT / "training/README.md").read_text(encoding="utf-8")
    section = page[page.index("# Training SwiftEdit") :].partition("\n# ")[0]
    known = set()
    for word in ("stage1", "stage2", "export"):
        chosen = cli.parser()._subparsers._group_actions[0].choices[word]
        known |= {flag for action in chosen._actions for flag in action.option_strings}
    named = set(re.findall(r"--[a-z][a-z0-9-]+", section))
    assert len(named) > 15 and named <= known, named - known
