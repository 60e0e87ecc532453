"""Loads the pack once under the name `editkit`, whatever its folder is called, and adds `--long`."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# MKL rounds a small product by where its matrices lie, and a file's tensors lie anywhere; STRICT rounds alike,
# so that what is said to be bit-identical can be tested as that. It is read at the first product, here and in children.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")


def load_pack() -> None:
    """Puts the pack in sys.modules as `editkit`, so that tests say `from editkit.models import …`."""
    if "editkit" in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(
        "editkit", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["editkit"] = module
    spec.loader.exec_module(module)


load_pack()
pytest_plugins = ["editkit.tests.bundles"]


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="run tests marked `long` in full")


def pytest_configure(config):
    if config.getoption("--long"):
        os.environ["EDITKIT_LONG"] = "1"  # child processes see it too


@pytest.fixture
def at_length():
    """at_length(short, full): `full` under `make test-long`, else `short`; for tests marked `long`."""
    long = os.environ.get("EDITKIT_LONG") == "1"
    return lambda short, full: full if long else short


@pytest.fixture(scope="session")
def root() -> Path:
    """The pack's folder."""
    return ROOT


@pytest.fixture
def settings(tmp_path_factory, monkeypatch) -> Path:
    """A settings folder of EditKit's that is not there yet, and nothing about certificates in the environment."""
    from editkit.models.provenance import keys

    home = tmp_path_factory.mktemp("settings") / "editkit"
    monkeypatch.setattr(keys, "home", lambda: home)
    for name in (keys.CERTIFICATE, keys.KEY, keys.PASSWORD, keys.TRUST):
        monkeypatch.delenv(name, raising=False)
    return home
