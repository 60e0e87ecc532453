"""Mobile bundles for tests: of the tiny model, converted once and exported often, and one of the shipped weights."""

import atexit
import contextlib
import functools
import gc
import os
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from filelock import FileLock  # torch's own requirement

from editkit.models.blazeedit import checkpoint
from editkit.models.mobile import convert, exporting, operators, quantise, samples
from editkit.tests.tiny import tiny_model

SIZES = [64, 96]
NEEDED = ("litert_torch", "ai_edge_litert", "ai_edge_quantizer")
SHIPPED = checkpoint.SHIPPED  # before any test puts another model there


@pytest.fixture(scope="session", autouse=True)
def users_cache(tmp_path_factory):
    """An empty folder stands where the user's cache is: bundles of his own must not change a test. Returns the
    function that finds the real one."""
    from editkit.nodes.host import bundles

    real, empty = bundles.cache, tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundles, "cache", lambda: empty)
        yield real


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory) -> Path:
    """The folder of a tiny random model."""
    folder = tmp_path_factory.mktemp("tiny")
    checkpoint.save(tiny_model(), folder)
    return folder


@pytest.fixture(scope="session")
def tiny(tiny_weights):
    """The tiny model as its folder has it, in numbers of half precision."""
    return checkpoint.load(tiny_weights)


def once(tmp_path_factory, name: str, make) -> Path:
    """The folder that make(folder) filled, for the first of the processes that run this session's tests and ask."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with FileLock(base / f"{name}.lock"):
        if not (base / name).exists():
            unfinished = tmp_path_factory.mktemp(name)
            make(unfinished)
            unfinished.rename(base / name)
    return base / name


@pytest.fixture(scope="session")
def converted(tiny, tmp_path_factory) -> Path:
    """The tiny model's float files, for canvases of 64 and 96 px: half a minute, once."""
    for name in NEEDED:
        pytest.importorskip(name, reason=f"{name} is not installed (requirements-mobile.txt)")

    def make(folder):
        for name, module in convert.modules(tiny).items():
            convert.convert(name, module, tiny, SIZES, folder / f"{name}.tflite")

    folder = once(tmp_path_factory, "converted", make)
    gc.collect()
    gc.freeze()  # an export collects garbage before it measures memory: not through all that tests have loaded by now
    return folder


@contextlib.contextmanager
def reusing(model, files: Path):
    """Exports take the files that were converted once, know what was made of the same bytes before, and check each
    task on one sample of the three."""

    def copy(name, _module, wanted, sizes, path):
        assert wanted.config == model.config and sizes == SIZES[: len(sizes)]
        shutil.copyfile(files / f"{name}.tflite", path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert, "convert", copy)
        patch.setattr(samples, "cases", _cases(model))
        patch.setattr(quantise, "quantise", _quantise)
        patch.setattr(quantise, "without_names", _without_names)
        patch.setattr(operators, "_operators", lambda path: _operators(_same_bytes(path)))
        yield


@functools.cache
def _cases(model):
    made = functools.cache(functools.partial(samples.cases, model, per_task=1))
    return lambda _model, size, per_task=3: list(made(size))


_seen: dict[bytes, Path] = {}  # content -> a file that holds it and stays
_made: dict[tuple, bytes] = {}
_real = quantise.quantise, quantise.without_names
_operators = functools.cache(operators._operators)


def _same_bytes(path: Path) -> Path:
    content = path.read_bytes()
    if content not in _seen:
        _seen[content] = Path(tempfile.mkdtemp(dir=_kept())) / path.name
        _seen[content].write_bytes(content)
    return _seen[content]


@functools.cache
def _kept() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="editkit-tests-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


def _quantise(source, target, name, calibration=None):
    key = source.read_bytes(), name
    if key not in _made or calibration:
        _real[0](source, target, name, calibration)
        if not calibration:
            _made[key] = target.read_bytes()
    else:
        target.write_bytes(_made[key])


def _without_names(path):
    key = (path.read_bytes(),)
    if key not in _made:
        _real[1](path)
        _made[key] = path.read_bytes()
    path.write_bytes(_made[key])


@pytest.fixture
def export(tiny, converted):
    """export(out, quantisation, sizes, callback, **Request's fields): a real export but for the conversion."""
    with reusing(tiny, converted):
        yield lambda out, quantisation="fp32", sizes=(64,), callback=None, **wanted: exporting.export(
            tiny, exporting.Request(out, quantisation, list(sizes), **wanted), callback
        )


def _bundle(model, weights: Path, files: Path, folder: Path, quantisation: str) -> Path:
    request = exporting.Request(folder, quantisation, SIZES, weights_sha256=checkpoint.digest(weights))
    with reusing(model, files):
        return exporting.export(model, request)["folder"]


@pytest.fixture(scope="session")
def fp32_bundle(tiny, tiny_weights, converted, tmp_path_factory) -> Path:
    """A bundle of the tiny model as trained. Read only: `copy` it to damage it."""
    return _bundle(tiny, tiny_weights, converted, tmp_path_factory.mktemp("fp32") / "tiny-fp32", "fp32")


@pytest.fixture(scope="session")
def int8_bundle(tiny, tiny_weights, converted, tmp_path_factory) -> Path:
    """A bundle of the tiny model in 8 bits. Read only: `copy` it to damage it."""
    return _bundle(tiny, tiny_weights, converted, tmp_path_factory.mktemp("int8") / "tiny-int8", "int8")


@pytest.fixture(scope="session")
def small_bundle(tmp_path_factory) -> Path:
    """The weights that ship, in 8 bits for a canvas of 256 px, nothing spared: about a minute. Made by the node, inside
    the inference mode in which ComfyUI runs every node. Read only."""
    for name in NEEDED:
        pytest.importorskip(name, reason=f"{name} is not installed (requirements-mobile.txt)")
    from editkit.nodes import NODE_CLASS_MAPPINGS
    from editkit.nodes.host import bundles, devices

    def make(folder):
        with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
            patch.setattr(bundles, "home", lambda: folder)
            model = devices.managed(checkpoint.load(SHIPPED), SHIPPED)
            made = NODE_CLASS_MAPPINGS["EditKitExportMobileBundle"]().run(
                model=model, name="blazeedit-small-int8", quantisation="int8", canvas=256, overwrite=False
            )
        assert Path(made["result"][0]) == folder / "blazeedit-small-int8"

    return once(tmp_path_factory, "small", make) / "blazeedit-small-int8"


@pytest.fixture
def bundle(fp32_bundle, tmp_path) -> Path:
    """A copy of the fp32 bundle, to be damaged."""
    return shutil.copytree(fp32_bundle, tmp_path / "bundle")
