import pytest

from editkit.models.blazeedit import checkpoint
from editkit.nodes.host import models
from editkit.tests.tiny import tiny_model


@pytest.fixture(autouse=True)
def tiny_shipped(tmp_path_factory, monkeypatch):
    """A tiny random model stands where the shipped one is."""
    folder = tmp_path_factory.mktemp("shipped")
    checkpoint.save(tiny_model(), folder)
    monkeypatch.setattr(checkpoint, "SHIPPED", folder)
    monkeypatch.setattr(models, "_loaded", {})
    return folder
