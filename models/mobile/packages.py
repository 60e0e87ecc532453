"""The packages that making and running a bundle need, or one sentence on how to get them."""

import contextlib
import importlib
import importlib.metadata
import io
import logging
import os
import re
import warnings

from ..errors import EditError

INSTALL = "`pip install -r requirements-mobile.txt` in the pack's folder"
KNOWN_GOOD = {"litert_torch": "0.10.0", "ai_edge_litert": "2.3.0", "ai_edge_quantizer": "0.10.0"}
FLOORS = {"litert_torch": (0, 10), "ai_edge_litert": (2, 3), "ai_edge_quantizer": (0, 10)}  # requirements-mobile.txt
EXPORT = ("litert_torch", "ai_edge_quantizer", "ai_edge_litert")


def litert():
    """LiteRT's interpreter module. EditError when ai-edge-litert is missing."""
    _check_version("ai_edge_litert", "run a bundle", "`pip install --upgrade ai-edge-litert`")
    return _import("ai_edge_litert.interpreter", "run a bundle", "`pip install ai-edge-litert`")


def exporter():
    """litert_torch, quiet. EditError when it or what it needs is missing or of another version."""
    os.environ.setdefault("LITERT_TORCH_SHOW_PROGRESS", "n")
    for name in EXPORT:
        _check_version(name, "export a bundle", INSTALL)
        _import(name, "export a bundle", INSTALL)
    return importlib.import_module("litert_torch")


def quantizer():
    """ai_edge_quantizer. EditError when it is missing."""
    return _import("ai_edge_quantizer", "quantise a bundle", INSTALL)


def first_line(error: Exception) -> str:
    """What a library says of a failure, or what kind it is where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def can_run() -> bool:
    """Whether a bundle could be run here; nothing is imported."""
    import importlib.util

    return importlib.util.find_spec("ai_edge_litert") is not None


def _check_version(name: str, purpose: str, command: str) -> None:
    """EditError for a package that is older than what this code was written for; a missing one is left to `_import`."""
    package = name.replace("_", "-")
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return
    found = tuple(int(n) for n in re.findall(r"\d+", version)[:2])
    if found < FLOORS[name]:
        floor = ".".join(map(str, FLOORS[name]))
        raise EditError(
            f"{package} {version} is too old to {purpose}, which needs {floor} or newer; run {command} "
            f"(known to work: {KNOWN_GOOD[name]})."
        )


def _import(name: str, purpose: str, command: str):
    top = name.partition(".")[0]
    try:
        with quiet():
            return importlib.import_module(name)
    except ImportError as error:
        what = (
            "is not installed" if (error.name or "").partition(".")[0] == top else f"does not load ({error})"
        )
        raise EditError(
            f"{top.replace('_', '-')} {what}, which is needed to {purpose}; run {command} "
            f"(known to work: {KNOWN_GOOD[top]})."
        ) from None


@contextlib.contextmanager
def quiet():
    """Without the converters' notes, which are for their developers."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
