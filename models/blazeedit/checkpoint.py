"""Saves and loads BlazeEdit folders: `config.json`, safetensors shards, and an index that names what is where."""

import hashlib
import json
from pathlib import Path

import torch
from torch import nn

from ..errors import EditError
from ..files import save_tensors, write
from .config import BlazeEditConfig, from_dict
from .model import BlazeEdit

SHIPPED = Path(__file__).resolve().parent.parent / "weights" / "blazeedit-small"
CONFIG, INDEX = "config.json", "model.safetensors.index.json"
SHARD_BYTES = 15_900_000  # 16 MB with room for the header


def save(model: BlazeEdit, folder: Path | str, *, dtype: torch.dtype = torch.float16) -> list[Path]:
    """Writes the model as shards of at most 16 MB. Each file appears whole or not at all; the index comes last.

    Returns the paths written. OSError when the folder cannot be written.
    """
    folder = Path(folder)
    tensors = {k: v.detach().to("cpu", dtype).contiguous() for k, v in model.state_dict().items()}
    groups = _shards(tensors)
    written, where = [], {}
    for number, names in enumerate(groups, 1):
        path = folder / f"model-{number:05d}-of-{len(groups):05d}.safetensors"
        save_tensors(path, {k: tensors[k] for k in names}, {"config": model.config.name})
        where.update(dict.fromkeys(names, path.name))
        written.append(path)
    written.append(_write_json(folder / CONFIG, model.config.to_dict()))
    written.append(
        _write_json(folder / INDEX, {"metadata": {"total_size": _bytes(tensors)}, "weight_map": where})
    )
    return written


def load(
    folder: Path | str | None = None,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    operations=nn,
) -> BlazeEdit:
    """Loads a BlazeEdit folder, by default the weights that ship with the pack, ready for inference.

    EditError, in one sentence, for a folder that is missing, incomplete, truncated or not BlazeEdit's.
    """
    folder = Path(folder) if folder is not None else SHIPPED
    config = read_config(folder)
    state = read_state(folder)
    with torch.device("meta"):
        model = BlazeEdit(config, operations=operations)
    _check_keys(model, state, folder)
    model.load_state_dict({k: v.to(device, dtype) for k, v in state.items()}, assign=True)
    return model.requires_grad_(False).eval()


def digest(folder: Path | str) -> str:
    """The SHA-256 of a model folder's weights: of its .safetensors files one after the other, by name."""
    found = hashlib.sha256()
    for path in sorted(Path(folder).glob("*.safetensors")):
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                found.update(block)
    return found.hexdigest()


def read_config(folder: Path) -> BlazeEditConfig:
    """Reads config.json. EditError when it is missing or is not BlazeEdit's."""
    try:
        return from_dict(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise EditError(
            f"No BlazeEdit model in {folder}: {CONFIG} is missing; choose a folder saved by EditKit."
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise EditError(
            f"{folder / CONFIG} is not readable JSON ({error}); copy the model folder again."
        ) from None


def read_state(folder: Path) -> dict[str, torch.Tensor]:
    """Reads every shard that the index names. EditError for a missing, truncated or foreign file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    index = folder / INDEX
    if index.is_file():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    else:
        names = sorted(p.name for p in folder.glob("*.safetensors"))
    if not names:
        raise EditError(f"No .safetensors file in {folder}; copy the whole model folder.")
    state: dict[str, torch.Tensor] = {}
    for name in names:
        try:
            state.update(load_file(folder / name))
        except FileNotFoundError:
            raise EditError(f"{name} is missing from {folder}; copy the whole model folder.") from None
        except SafetensorError as error:
            raise EditError(
                f"{folder / name} is truncated or not safetensors ({error}); copy it again."
            ) from None
    return state


def _check_keys(model: nn.Module, state: dict[str, torch.Tensor], folder: Path) -> None:
    expected = model.state_dict()
    missing, foreign = expected.keys() - state.keys(), state.keys() - expected.keys()
    wrong = [k for k in expected.keys() & state.keys() if expected[k].shape != state[k].shape]
    if missing or foreign or wrong:
        first = next(iter(sorted(missing) or sorted(foreign) or sorted(wrong)))
        raise EditError(
            f"The weights in {folder} do not fit their configuration: {len(missing)} tensors missing, {len(foreign)} "
            f"unknown, {len(wrong)} of another shape, first {first!r}; use the files that were saved together."
        )


def _shards(tensors: dict[str, torch.Tensor]) -> list[list[str]]:
    groups: list[list[str]] = [[]]
    size = 0
    for name, tensor in tensors.items():
        if groups[-1] and size + tensor.nbytes > SHARD_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(name)
        size += tensor.nbytes
    return groups


def _bytes(tensors: dict[str, torch.Tensor]) -> int:
    return sum(t.nbytes for t in tensors.values())


def _write_json(path: Path, data: dict) -> Path:
    return write(path, json.dumps(data, indent=1) + "\n")
