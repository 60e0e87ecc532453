"""From published folders to a folder that the loader reads: tiny networks with their real encoders."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from editkit import NODE_CLASS_MAPPINGS as NODES
from editkit.models.editmgt import checkpoint, files, lora, options, prompts, sampling
from editkit.models.errors import EditError
from editkit.nodes.host import editmgt
from editkit.tests import tiny_editmgt_release as tiny
from editkit.tests.training.editmgt.conftest import write
from editkit.training.editmgt import cli, release
from editkit.training.store import Store

QUICK = ["--batch", "2", "--accumulate", "1", "--size", "4", "--precision", "fp32", "--lr", "0.001", "--threads", "1"]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """EditMGT's release."""
    return tiny.write_release(tmp_path_factory.mktemp("published") / "editmgt")


@pytest.fixture(scope="module")
def meissonic(tmp_path_factory):
    """Base Meissonic, and a language model elsewhere: (folder, llm)."""
    root = tmp_path_factory.mktemp("base")
    tiny.write_gemma(root / "gemma")
    return tiny.write_release(root / "meissonic", meissonic=True), root / "gemma"


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Ten photographs with captions, and edits of them: a folder for --pairs, a file for --edits."""
    root, rng, rows = tmp_path_factory.mktemp("tables"), np.random.default_rng(0), []
    for i in range(10):
        for name in ("a", "b"):
            image = Image.fromarray(rng.integers(0, 255, (5, 6, 3), dtype=np.uint8)).resize((80, 64))
            image.save(root / f"{i}{name}.png")
            (root / f"{i}{name}.txt").write_text("the small dog beside the table")
        rows.append({"source": f"{i}a.png", "target": f"{i}b.png", "instruction": "make the cat red", "score": i})
    (root / "edits").mkdir()
    write(root / "edits.csv", rows)
    (root / "edits.csv").rename(root / "edits" / "edits.csv")
    for path in root.glob("*.png"):
        shutil.copy(path, root / "edits")
    return root, root / "edits"


def run(phase, *arguments):
    quick = [] if phase == "export" else QUICK
    return cli.main([phase, *quick, *map(str, arguments)])


def test_meissonic_becomes_a_folder_that_the_loader_reads(meissonic, tables, tmp_path, capsys):
    """All three phases; what comes out is whole, equal to what was trained, and samples."""
    base, llm = meissonic
    common = ["--model", base, "--llm", llm, "--state", tmp_path / "state", "--steps", 2]
    assert run("phase1", *common, "--pairs", tables[0], "--connector", "mlp2") == 0
    assert run("phase2", *common, "--edits", tables[1], "--follow", 1, "--follow-steps", 2) == 0
    assert run("phase3", *common, "--edits", tables[1], "--gradient-checkpointing") == 0
    assert "from phase2" in capsys.readouterr().out
    assert run("export", "--state", tmp_path / "state", "--out", tmp_path / "out") == 0
    found = checkpoint.find(tmp_path / "out")
    net = checkpoint.load_transformer(found)
    assert net.config.connector == "mlp" and net.config.joint_attention_dim == tiny.GEMMA["hidden_size"]
    trained = Store(tmp_path / "state", "editmgt").read_part("phase3_transformer")
    assert all(torch.equal(value, trained[name]) for name, value in net.state_dict().items())
    encoders = release.Release(release.find(tmp_path / "out", None))
    text = encoders.text("make the cat red")
    sampled = sampling.run(net, text, encoders.text(""), (4, 4), options.Options(steps=2))
    assert encoders.picture(sampled.tokens).shape == (1, 3, 64, 64)


def test_the_base_models_weights_are_all_taken_over(meissonic):
    base = meissonic[0]
    shape, state = release.read(base / "transformer")
    net = release.network(shape, state, "linear", 24, seed=0)
    fresh = {name for name, value in net.state_dict().items() if name not in state}
    assert fresh == {"connector.projector.weight", "connector.projector.bias"}
    assert all(torch.equal(net.state_dict()[name], value) for name, value in state.items())
    again = release.network(shape, state, "linear", 24, seed=0)
    assert torch.equal(again.connector.projector.weight, net.connector.projector.weight)


def test_a_release_is_tuned_as_it_is_with_its_own_connector(published, tables, tmp_path, capsys):
    assert run("phase2", "--model", published, "--edits", tables[1], "--state", tmp_path, "--steps", 1, "--lr", 0) == 0
    assert "from model" in capsys.readouterr().out
    trained = Store(tmp_path, "editmgt").read_part("phase2_transformer")
    assert all(torch.equal(v.float(), trained[k]) for k, v in files.read_weights(published / "editmgt").items())


def test_a_lora_of_a_release_is_read_and_merges_to_the_export(published, tables, tmp_path):
    flags = ["--model", published, "--edits", tables[1], "--state", tmp_path, "--steps", 2, "--lora", 2]
    assert run("phase2", *flags) == 0
    for out, more in (("alone", []), ("merged", ["--merge", "--transformer-only"])):
        assert run("export", "--state", tmp_path, "--out", tmp_path / out, *more) == 0
    expected = lora.merged(files.read_weights(published / "editmgt"), lora.read(tmp_path / "alone"))
    found = files.read_weights(tmp_path / "merged/editmgt")
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert not (tmp_path / "merged/llm_encoder").exists()


@pytest.mark.parametrize("part", ["all", "reference"])
def test_a_trained_lora_is_worn_by_the_node_as_it_was_trained(published, tables, tmp_path, monkeypatch, part):
    """The export in models/loras, by EditMGT LoRA: its layers, its part, its scale and what a step is told."""
    flags = ["--lora", 2, "--lora-alpha", 6, "--lora-part", part, "--state", tmp_path / "state", "--steps", 2]
    assert run("phase2", "--model", published, "--edits", tables[1], *flags) == 0
    assert run("export", "--state", tmp_path / "state", "--out", tmp_path / "models/loras/mine") == 0
    shutil.copytree(published, tmp_path / "models/editkit/editmgt")
    monkeypatch.chdir(tmp_path)
    model = NODES["EditKitLoadEditMGT"]().run(release="editmgt", weight_dtype="default")[0]
    name = "mine/pytorch_lora_weights.safetensors"
    wearing = NODES["EditKitEditMGTLora"]().run(model=model, lora=name, strength=1.0, part="as trained")[0]
    (worn,) = editmgt.network(wearing).worn
    kept = Store(tmp_path / "state", "editmgt").read_part("phase2_lora")
    assert worn.part == part and {one.scale for one in worn.loras.values()} == {3.0} and len(worn.loras) == 9
    assert sorted(float(one.B.sum()) for one in worn.loras.values()) == sorted(
        float(v.sum()) for k, v in kept.items() if "lora_B" in k
    )
    assert (editmgt.network(model).time, editmgt.network(wearing).time) == ("step", "ratio")


def test_text_is_encoded_as_in_sampling(published):
    encoders, parts = release.Release(release.find(published, None)), checkpoint.find(published)
    made = encoders.text("make the cat red")
    ids = prompts.gemma_ids(prompts.load_gemma(parts.llm_encoder), ["make the cat red"])
    assert ids.shape == (1, 256) and ids[0, 0] == 0
    assert torch.equal(made.states, checkpoint.load_gemma(parts)(ids))
    clip = prompts.clip_ids(prompts.load(parts.tokenizer), ["make the cat red"])
    assert torch.equal(made.pooled, checkpoint.load_clip(parts)(clip).pooled)
    assert not any(p.requires_grad for p in encoders.parameters())


def test_meissonic_without_phase_1_or_a_language_model_is_refused(meissonic, tables, tmp_path, capsys):
    base, llm = meissonic
    assert run("phase2", "--model", base, "--llm", llm, "--edits", tables[1], "--state", tmp_path) == 1
    assert "train phase1 first" in capsys.readouterr().out
    with pytest.raises(EditError, match="Gemma2-2B-IT with --llm"):
        release.find(base, None)
    with pytest.raises(EditError, match="no language model in .*nowhere"):
        release.find(base, tmp_path / "nowhere")


def test_a_folder_that_is_none_is_said_before_anything_is_loaded(published, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(release, "Release", lambda *_: pytest.fail("networks were loaded"))
    for model, table, said in ((tmp_path / "none", "no.csv", "none"), (published, "no.csv", "no.csv")):
        assert run("phase2", "--model", model, "--edits", table, "--state", tmp_path) == 1
        told = capsys.readouterr().out
        assert said in told and len(told.strip().splitlines()) == 1


def test_a_pooled_vector_of_another_width_is_refused(published, tables, tmp_path, capsys):
    other = shutil.copytree(published, tmp_path / "other")
    path = other / "editmgt/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pooled_projection_dim": 20}))
    assert run("phase2", "--model", other, "--edits", tables[1], "--state", tmp_path) == 1
    assert "a vector 16 wide" in capsys.readouterr().out
