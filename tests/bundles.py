"""Mobile bundles for tests: of the tiny model, converted once and exported often, and one of the shipped weights."""

import contextlib
import functools
import shutil
from pathlib import Path

import pytest

from editkit.models.blazeedit import checkpoint
from editkit.models.mobile import convert, exporting, samples
from editkit.tests.tiny import tiny_model

SIZES = [64, 96]
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


@pytest.fixture(scope="session")
def converted(tiny, tmp_path_factory) -> Path:
    """The tiny model's float files, for canvases of 64 and 96 px: half a minute, once."""
    for name in ("litert_torch", "ai_edge_litert", "ai_edge_quantizer"):
        pytest.importorskip(name, reason=f"{name} is not installed (requirements-mobile.txt)")
    folder = tmp_path_factory.mktemp("converted")
    for name, module in convert.modules(tiny).items():
        convert.convert(name, module, tiny, SIZES, folder / f"{name}.tflite")
    return folder


@contextlib.contextmanager
def reusing(model, files: Path):
    """Exports take the files that were converted once, and know the samples' results already."""

    def copy(name, _module, wanted, sizes, path):
        assert wanted.config == model.config and sizes == SIZES[: len(sizes)]
        shutil.copyfile(files / f"{name}.tflite", path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert, "convert", copy)
        patch.setattr(samples, "cases", _cases(model))
        yield


@functools.cache
def _cases(model):
    made = functools.cache(functools.partial(samples.cases, model))
    return lambda _model, size, per_task=3: made(size, per_task=per_task)


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


@pytest.fixture
def bundle(fp32_bundle, tmp_path) -> Path:
    """A copy of the fp32 bundle, to be damaged."""
    return shutil.copytree(fp32_bundle, tmp_path / "bundle")
