import shutil

import pytest

import editkit
from editkit.models.blazeedit import checkpoint
from editkit.nodes.host import models as blazeedits
from editkit.tests.tiny_editmgt_release import write_release


@pytest.fixture(autouse=True)
def tiny_shipped(tiny_weights, tmp_path_factory, monkeypatch):
    """A tiny random model stands where the shipped one is."""
    folder = shutil.copytree(tiny_weights, tmp_path_factory.mktemp("shipped"), dirs_exist_ok=True)
    monkeypatch.setattr(checkpoint, "SHIPPED", folder)
    monkeypatch.setattr(blazeedits, "_loaded", {})
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder of ComfyUI's kind, with a tiny release of EditMGT in it."""
    root = tmp_path_factory.mktemp("comfy")
    write_release(root / "models" / "editkit" / "editmgt")
    return root


@pytest.fixture
def loaded(models, monkeypatch):
    """(model, clip, vae) of it."""
    monkeypatch.chdir(models)
    return editkit.NODE_CLASS_MAPPINGS["EditKitLoadEditMGT"]().run(release="editmgt", weight_dtype="default")
