import shutil

import pytest

from editkit.models.blazeedit import checkpoint
from editkit.nodes.host import models


@pytest.fixture(autouse=True)
def tiny_shipped(tiny_weights, tmp_path_factory, monkeypatch):
    """A tiny random model stands where the shipped one is."""
    folder = shutil.copytree(tiny_weights, tmp_path_factory.mktemp("shipped"), dirs_exist_ok=True)
    monkeypatch.setattr(checkpoint, "SHIPPED", folder)
    monkeypatch.setattr(models, "_loaded", {})
    return folder
