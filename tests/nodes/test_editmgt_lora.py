"""EditMGT LoRA, without ComfyUI: as if it were merged, and the given MODEL stays as it is."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from editkit.models.editmgt import lora, options
from editkit.models.errors import EditError
from editkit.nodes import editmgt_lora as nodes
from editkit.nodes.host import editmgt, folders
from editkit.tests.nodes.test_editmgt import call, photo, sample
from editkit.tests.tiny_editmgt_lora import FILE, LAYERS, WIDTH, write


@pytest.fixture(scope="module")
def stored(models):
    """The folder `loras`, with two LoRAs for all tokens, and one for the reference."""
    root = models / "models" / "loras"
    write(root / "one")
    write(root / "two", seed=1, lora_alpha=1)
    write(root / "shown", lora_part_enable=True)
    return root


def worn(model, name, strength=1.0, part="as trained"):
    file = f"{name}/{FILE}"
    return call("EditMGTLora", model=model, lora=file, strength=strength, part=part)[0]


def tokens(loaded, model, image=True, **more):
    parts = (model, *loaded[1:])
    return sample(parts, photo() if image else None, **{"cfg": 1.0, "gamma": 2.0, **more})[0][editmgt.TOKENS]


def merged_release(models, stored, tmp_path, monkeypatch, *names):
    """(model, clip, vae) of the release with LoRAs added to its weights."""
    shutil.copytree(models / "models", tmp_path / "models", dirs_exist_ok=True)
    file = next((tmp_path / "models/editkit/editmgt/editmgt").glob("*.safetensors"))
    state = load_file(file)
    for name, strength in names:
        state = lora.merged(state, lora.read(stored / name), strength)
    save_file(state, file)
    monkeypatch.chdir(tmp_path)
    return call("LoadEditMGT", release="editmgt", weight_dtype="default")


def test_every_file_below_loras_is_offered_by_its_path(stored, loaded):
    assert folders.loras() == [f"{name}/{FILE}" for name in ("one", "shown", "two")]
    assert folders.lora(f"one\\{FILE}").is_file()
    assert nodes.EditMGTLora.INPUT_TYPES()["required"]["lora"][0] == folders.loras()


def test_a_worn_lora_gives_the_merged_ones_tokens_and_the_given_model_stays(
    stored, models, loaded, tmp_path, monkeypatch
):
    before = tokens(loaded, loaded[0])
    state = {k: v.clone() for k, v in editmgt.module(loaded[0]).state_dict().items()}
    one = worn(loaded[0], "one")
    two = worn(one, "two", -0.5)
    found = [tokens(loaded, model) for model in (one, two)]
    assert torch.equal(tokens(loaded, loaded[0]), before) and torch.equal(tokens(loaded, one), found[0])
    assert all(torch.equal(v, state[k]) for k, v in editmgt.module(two).state_dict().items())
    assert not torch.equal(found[0], before) and not torch.equal(found[0], found[1])
    for given, expected in ((("one", 1.0),), found[0]), ((("one", 1.0), ("two", -0.5)), found[1]):
        parts = merged_release(models, stored, tmp_path, monkeypatch, *given)
        assert torch.equal(tokens(parts, parts[0]), expected)


def test_no_strength_is_no_lora(stored, loaded):
    assert torch.equal(tokens(loaded, worn(loaded[0], "one", 0.0)), tokens(loaded, loaded[0]))


def test_on_the_reference_alone_text_to_image_stays_as_it_is(stored, loaded):
    shown = worn(loaded[0], "shown", 10.0)
    assert torch.equal(tokens(loaded, shown, image=False), tokens(loaded, loaded[0], image=False))
    assert not torch.equal(tokens(loaded, shown), tokens(loaded, loaded[0]))


@pytest.mark.parametrize(("name", "part", "same"), [
    ("shown", "reference", True), ("shown", "all tokens", False),
    ("one", "reference", False), ("one", "all tokens", True),
])  # fmt: skip
def test_the_part_is_as_trained_unless_the_node_says_otherwise(stored, loaded, name, part, same):
    as_trained, chosen = (tokens(loaded, worn(loaded[0], name, part=p)) for p in ("as trained", part))
    assert torch.equal(as_trained, chosen) == same


@pytest.mark.parametrize("time", options.TIMES)
def test_a_step_is_told_what_it_was_told_when_the_lora_was_trained(loaded, stored, time):
    write(stored / f"timed_{time}")
    (stored / f"timed_{time}/training.json").write_text(json.dumps({"time": time}))
    model = worn(worn(loaded[0], f"timed_{time}"), "one")
    told, said = (tokens(loaded, model, time=name, cfg=10.0) for name in ("model", time))
    assert torch.equal(told, said) and editmgt.network(loaded[0]).time == "step"
    shutil.rmtree(stored / f"timed_{time}")


def test_a_file_that_changes_is_read_again(loaded, stored, tmp_path):
    write(stored / "later")
    first = nodes.EditMGTLora.IS_CHANGED(lora=f"later/{FILE}", strength=1.0)
    shutil.rmtree(stored / "later")
    write(stored / "later", layers=LAYERS[:1])
    assert nodes.EditMGTLora.IS_CHANGED(lora=f"later/{FILE}", strength=1.0) != first
    shutil.rmtree(stored / "later")


def test_a_file_that_is_not_there_is_said_with_where_it_belongs(loaded, stored):
    said = nodes.EditMGTLora.VALIDATE_INPUTS("mine.safetensors")
    assert "'mine.safetensors'" in said and "loras" in said and "\n" not in said
    assert nodes.EditMGTLora.VALIDATE_INPUTS(f"one/{FILE}") is True
    assert nodes.EditMGTLora.VALIDATE_INPUTS(None) is True


WRONG = {
    "another model's": (lambda path: write(path, layers=("down_blocks.0.attn.to_q",)), "does not have; it is another"),
    "another size": (lambda path: write(path, width=48), "48x48 weights, and the transformer's are 32x32"),
    "no LoRA": (lambda path: _file(path, {"a.weight": torch.ones(2)}), "'a.weight' is no weight of a LoRA"),
    "half": (lambda path: _file(path, {"unet.a.lora_A.weight": torch.ones(1, 2)}), "only one half of its LoRA"),
    "another's config": (lambda path: write(path, r=64), "rank 2, and the lora_config.json beside the file is of one"),
    "feed-forward of the reference": (
        lambda path: _file(path, {f"unet.transformer_blocks.0.ff.net.0.proj.lora_{h}.weight": t for h, t in (
            ("A", torch.ones(1, WIDTH)), ("B", torch.ones(4 * WIDTH, 1)))}, lora_part_enable=True),
        "let it act on all tokens"),
    "truncated": (lambda path: _file(path, None), "truncated or not safetensors"),
}  # fmt: skip


def _file(folder, state, **config):
    folder.mkdir()
    path = folder / FILE
    path.write_bytes(b"PK") if state is None else save_file(state, path)
    (folder / lora.CONFIG).write_text(json.dumps(config))


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_file_is_one_sentence(stored, loaded, what):
    make, said = WRONG[what]
    make(stored / "wrong")
    try:
        with pytest.raises(EditError, match=said) as error:
            worn(loaded[0], "wrong")
    finally:
        shutil.rmtree(stored / "wrong")
    assert "\n" not in str(error.value)


def test_another_systems_model_is_said(stored, loaded):
    with pytest.raises(EditError, match="Load EditMGT"):
        worn(torch.nn.Linear(1, 1), "one")
