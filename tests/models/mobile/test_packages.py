"""What is missing or too old is said in one sentence, with the command that helps."""

import importlib.metadata

import pytest

from editkit.models.errors import EditError
from editkit.models.mobile import packages


@pytest.mark.parametrize(
    "call, package, version, command",
    [
        (packages.litert, "ai-edge-litert", "1.4.9", "pip install --upgrade ai-edge-litert"),
        (packages.exporter, "litert-torch", "0.9.1", "pip install -r requirements-mobile.txt"),
        (packages.exporter, "ai-edge-quantizer", "0.6.0", "pip install -r requirements-mobile.txt"),
    ],
)
def test_an_old_package_is_named_with_its_version_and_the_command(monkeypatch, call, package, version, command):
    real = importlib.metadata.version
    known = {"litert-torch": "0.10.0", "ai-edge-litert": "2.3.0", "ai-edge-quantizer": "0.10.0"}
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: version if name == package else known.get(name) or real(name)
    )
    monkeypatch.setattr(packages, "_import", lambda *_: None)
    with pytest.raises(EditError) as problem:
        call()
    said = str(problem.value)
    assert f"{package} {version} is too old" in said and command in said and "\n" not in said


@pytest.mark.parametrize("version", ["2.3.0", "2.10", "3.0.0rc1"])
def test_newer_packages_are_let_in(monkeypatch, version):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    packages._check_version("ai_edge_litert", "run a bundle", "-")
