"""Loads the pack once under the name `editkit`, whatever its folder is called, adds `--long`, and deals out tests."""

import importlib.util
import os
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# MKL rounds a small product by where its matrices lie in memory, and a file's tensors lie anywhere; STRICT rounds
# alike, so that what is said to be bit-identical can be tested as that. Read at the first product, in children too.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")

# Tests run beside each other, and threads of several processes that wait for each other on the same cores cost far more
# than they bring: a tiny FLUX takes 13 s of processor time with one thread each, and 99 s with two.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


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


def pytest_collection_modifyitems(config, items):
    """Leaves out what is marked `repeats`, but for the variant that is kept."""
    if os.environ.get("EDITKIT_LONG") == "1":
        return
    config.hook.pytest_deselected(items=[item for item in items if _repeats(item)])
    items[:] = [item for item in items if not _repeats(item)]


def _repeats(item) -> bool:
    marker = item.get_closest_marker("repeats")
    return marker is not None and any(item.callspec.params[name] != kept for name, kept in marker.kwargs.items())


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A file's tests go to one worker; those of the canvas, of all files, by the version of the front end.

    So there is one server for each version, and one page for each front end.
    """
    from xdist.scheduler import LoadFileScheduling

    class ByServer(LoadFileScheduling):
        def _split_scope(self, nodeid):
            canvas = re.search(r"browser/comfy/.*\[.*?(\d+\.\d+\.\d+)-(?:classic|nodes2)", nodeid)
            return canvas[1] if canvas else super()._split_scope(nodeid)

    return ByServer(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture
def at_length():
    """at_length(short, full): `full` under `make test-long`, else `short`; for tests marked `long`."""
    long = os.environ.get("EDITKIT_LONG") == "1"
    return lambda short, full: full if long else short


@pytest.fixture(scope="session")
def root() -> Path:
    """The pack's folder."""
    return ROOT


@pytest.fixture(scope="session")
def checkout(root):
    """A ComfyUI to test against; what needs one skips with one line without it."""
    from editkit.tests.comfyui import checkout as checkouts

    try:
        return checkouts.find(os.environ, root, Path.home())
    except checkouts.NoComfyUI as reason:
        pytest.skip(str(reason))


@pytest.fixture
def settings(tmp_path_factory, monkeypatch) -> Path:
    """A settings folder of EditKit's that is not there yet, and nothing about certificates in the environment."""
    from editkit.models.provenance import keys

    home = tmp_path_factory.mktemp("settings") / "editkit"
    monkeypatch.setattr(keys, "home", lambda: home)
    for name in (keys.CERTIFICATE, keys.KEY, keys.PASSWORD, keys.TRUST):
        monkeypatch.delenv(name, raising=False)
    return home
