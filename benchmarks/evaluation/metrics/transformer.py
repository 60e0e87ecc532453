"""CLIP and DINO of local transformers folders: nothing is fetched, and no code of a folder runs."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from . import finding, missing

FROM_FOLDER = {"local_files_only": True, "trust_remote_code": False}


class Known(NamedTuple):
    """A published model: its folder's name, the class that reads it, the size of its weights, its address."""

    name: str
    kind: str
    size: str
    source: str


CLIP_B32 = Known("clip-vit-base-patch32", "CLIPModel", "605 MB", "huggingface.co/openai/clip-vit-base-patch32")
CLIP_L14 = Known("clip-vit-large-patch14", "CLIPModel", "1.7 GB", "huggingface.co/openai/clip-vit-large-patch14")
DINO_S16 = Known("dino-vits16", "ViTModel", "87 MB", "huggingface.co/facebook/dino-vits16")
DINO_B8 = Known("dino-vitb8", "ViTModel", "343 MB", "huggingface.co/facebook/dino-vitb8")


def load(known: Known, models: Path | None, **options):
    """(the model without gradients on the computing device, its folder). Missing when it cannot be had."""
    from safetensors import SafetensorError

    from ....nodes.host.devices import load_device

    try:
        import transformers
    except ImportError:
        raise missing.package("transformers", "pip install -r requirements-eval.txt") from None
    folder = finding.folder(known.name, models)
    if folder is None:
        place = finding.home(models) / known.name
        raise missing.weights(f"{known.name} in transformers' format", known.size, known.source, place)
    try:
        with _quiet(transformers.utils.logging):
            model = getattr(transformers, known.kind).from_pretrained(folder, **FROM_FOLDER, **options)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
        raise missing.damaged(f"{known.name} in {folder}", str(error).splitlines()[0]) from None
    return model.requires_grad_(False).eval().float().to(load_device()), folder


@contextmanager
def _quiet(logging) -> Iterator[None]:
    """Keeps transformers' bars and its report of unused weights (DINO's pooler) off the terminal while it loads."""
    before, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if shown:
            logging.enable_progress_bar()


def identity(folder: Path) -> str:
    """What tells one set of weights from another: the folder's name, its config and the size of its files."""
    sizes = [f"{p.name}:{p.stat().st_size}" for p in sorted(folder.iterdir()) if p.suffix in (".safetensors", ".bin")]
    digest = hashlib.sha256((folder / "config.json").read_bytes() + "|".join(sizes).encode()).hexdigest()
    return f"{folder.name} {digest[:8]}"
