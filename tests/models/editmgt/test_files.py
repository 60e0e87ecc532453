"""Weight files of a folder: whole, in shards, of other precisions, and broken."""

import json

import pytest
import torch
from safetensors.torch import save_file

from editkit.models.editmgt import files
from editkit.models.errors import EditError

STATE = {"a.weight": torch.ones(2, 2), "b.weight": torch.zeros(3)}


def shards(folder, stem="model", end="", index="model.safetensors.index.json"):
    """Two shards, and the index that names them."""
    where = {}
    for number, (name, value) in enumerate(STATE.items(), 1):
        file = f"{stem}-{number:05d}-of-00002{end}.safetensors"
        save_file({name: value}, folder / file)
        where[name] = file
    if index:
        (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": where}))


@pytest.mark.parametrize("name", [
    "diffusion_pytorch_model.safetensors", "model.safetensors", "model.fp16.safetensors",
    "diffusion_pytorch_model.bf16.safetensors", "renamed.safetensors",
])  # fmt: skip
def test_one_file_of_any_name(tmp_path, name):
    save_file(STATE, tmp_path / name)
    assert files.read_weights(tmp_path).keys() == STATE.keys()


@pytest.mark.parametrize("layout", [
    {}, {"index": None}, {"end": ".fp16", "index": "model.safetensors.index.fp16.json"},
    {"stem": "model.fp16", "index": "model.fp16.safetensors.index.json"}, {"end": ".fp16", "index": None},
])  # fmt: skip
def test_shards_with_and_without_an_index(tmp_path, layout):
    shards(tmp_path, **layout)
    assert files.read_weights(tmp_path).keys() == STATE.keys()


def test_full_precision_comes_first_and_what_mac_leaves_is_skipped(tmp_path):
    save_file({"a": torch.ones(1, dtype=torch.float16)}, tmp_path / "model.fp16.safetensors")
    save_file({"a": torch.ones(1)}, tmp_path / "model.safetensors")
    (tmp_path / "._model.safetensors").write_bytes(b"nothing")
    (tmp_path / "._model.safetensors.index.json").write_bytes(b"nothing")
    save_file({"x": torch.ones(1)}, tmp_path / "pytorch_lora_weights.safetensors")
    assert files.read_weights(tmp_path)["a"].dtype == torch.float32


def test_a_whole_file_serves_where_a_shard_lacks(tmp_path):
    shards(tmp_path)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(EditError, match="lacks model-00002-of-00002.safetensors, one of its 2 files"):
        files.weight_files(tmp_path)
    save_file(STATE, tmp_path / "model.fp16.safetensors")
    assert files.read_weights(tmp_path).keys() == STATE.keys()


def test_only_what_is_wanted_is_read(tmp_path):
    save_file(STATE, tmp_path / "model.safetensors")
    assert list(files.read_weights(tmp_path, lambda name: name.startswith("b"))) == ["b.weight"]


def test_no_weights_and_weights_as_bin(tmp_path):
    with pytest.raises(EditError, match="lacks its weights"):
        files.weight_files(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(EditError, match="as .bin, which is not read"):
        files.weight_files(tmp_path)


def test_broken_files_are_one_sentence(tmp_path):
    save_file(STATE, tmp_path / "model.safetensors")
    data = (tmp_path / "model.safetensors").read_bytes()
    for broken in (data[:-3], data[:20], b"", b"not safetensors at all"):
        (tmp_path / "model.safetensors").write_bytes(broken)
        with pytest.raises(EditError, match="model.safetensors is truncated or not safetensors") as error:
            files.read_weights(tmp_path)
        assert "\n" not in str(error.value)
    with pytest.raises(EditError, match="gone.safetensors is missing"):
        files.read_file(tmp_path / "gone.safetensors")


@pytest.mark.parametrize("text", ["{", "[1]", "\x00"])
def test_broken_json_is_one_sentence(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(EditError, match="config.json"):
        files.read_json(tmp_path / "config.json")
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": 3}')
    with pytest.raises(EditError, match="not an index of weights"):
        files.weight_files(tmp_path)


def test_weights_that_do_not_fit_are_named():
    module = torch.nn.Linear(2, 3)
    state = module.state_dict()
    fitted = files.fit(torch.nn.Linear(2, 3, device="meta"), state, "here", torch.bfloat16)
    assert fitted.weight.dtype == torch.bfloat16 and not fitted.weight.requires_grad and not fitted.training
    for wrong, words in (
        ({"weight": state["weight"]}, "1 tensors missing, 0 unknown, 0 of another shape, first 'bias'"),
        (state | {"x": state["bias"]}, "0 tensors missing, 1 unknown"),
        (state | {"bias": torch.ones(4)}, "1 of another shape, first 'bias'"),
    ):
        with pytest.raises(EditError, match=words):
            files.fit(torch.nn.Linear(2, 3), wrong, "here")


def test_json_appears_whole(tmp_path):
    files.save_json(tmp_path / "new" / "config.json", {"b": 1})
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["config.json"]
    assert files.read_json(tmp_path / "new" / "config.json") == {"b": 1}
