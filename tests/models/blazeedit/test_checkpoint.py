import json

import pytest
import torch

from editkit.models import files
from editkit.models.blazeedit import checkpoint
from editkit.models.errors import EditError
from editkit.tests.tiny import tiny_model


@pytest.fixture
def folder(tmp_path):
    checkpoint.save(tiny_model(), tmp_path / "model")
    return tmp_path / "model"


def test_a_saved_model_comes_back_in_half_precision(folder):
    model, again = tiny_model(), checkpoint.load(folder)
    assert again.config == model.config
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value.half().float()), key


def test_shards_are_small_and_the_index_names_every_tensor(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "SHARD_BYTES", 20_000)
    written = checkpoint.save(tiny_model(), tmp_path)
    shards = [p for p in written if p.suffix == ".safetensors"]
    assert len(shards) > 2 and not list(tmp_path.glob("*.part"))
    index = json.loads((tmp_path / checkpoint.INDEX).read_text())["weight_map"]
    assert set(index) == set(tiny_model().state_dict()) and set(index.values()) == {p.name for p in shards}
    assert checkpoint.load(tmp_path).config.name == "tiny"


def test_a_missing_folder_and_a_missing_shard_are_named(folder, tmp_path):
    with pytest.raises(EditError, match="nowhere.*config.json is missing"):
        checkpoint.load(tmp_path / "nowhere")
    next(folder.glob("*.safetensors")).unlink()
    with pytest.raises(EditError, match="safetensors is missing from"):
        checkpoint.load(folder)


def test_a_truncated_file_is_named(folder):
    path = next(folder.glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(EditError, match="truncated or not safetensors"):
        checkpoint.load(folder)


def test_foreign_weights_are_refused_with_a_count(folder):
    from safetensors.torch import save_file

    save_file({"other": torch.zeros(3)}, next(folder.glob("*.safetensors")))
    with pytest.raises(EditError, match="tensors missing, 1 unknown"):
        checkpoint.load(folder)


def test_a_damaged_configuration_is_named(folder):
    (folder / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(EditError, match="not readable JSON"):
        checkpoint.load(folder)
    (folder / "config.json").write_text('{"name": "sd15"}', encoding="utf-8")
    with pytest.raises(EditError, match="not a BlazeEdit configuration"):
        checkpoint.load(folder)


def test_an_interrupted_save_leaves_the_old_model(folder, monkeypatch):
    before = {p.name: p.read_bytes() for p in folder.iterdir()}

    def fail(*_args, **_kw):
        raise OSError("disk full")

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        checkpoint.save(tiny_model(seed=1), folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before, "and nothing beside it"
