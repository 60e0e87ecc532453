"""Reads and writes the weight files of a diffusers or transformers folder; only safetensors.

Whole or in shards, with an index or without, of any precision (`model.safetensors`, `model.fp16.safetensors`,
`model-00001-of-00002.safetensors` …). macOS leaves `._*` files in archives; they are skipped.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import EditError
from ..files import write

SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})(.*)\.safetensors")
VARIANT = re.compile(r"\.(fp16|bf16|fp32|non_ema)\b|[-_](fp16|bf16)\b")


def read_json(path: Path) -> dict:
    """A JSON object. EditError, in one sentence, for a file that is missing or is none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EditError(f"{path} is missing; download the whole folder again.") from None
    except (OSError, ValueError) as error:
        raise EditError(f"{path} is not readable JSON ({error}); download it again.") from None
    if not isinstance(data, dict):
        raise EditError(f"{path} does not hold a JSON object; download it again.")
    return data


def here(folder: Path, pattern: str) -> list[Path]:
    """Files of a folder, by name, without those that macOS leaves."""
    return sorted(p for p in folder.glob(pattern) if p.is_file() and not p.name.startswith("._"))


def weight_files(folder: Path) -> list[Path]:
    """The files that together hold a folder's weights; full precision first. EditError where one is missing."""
    sets = _sets(folder)
    for names in sets:
        if all((folder / name).is_file() for name in names):
            return [folder / name for name in names]
    if sets:
        name = next(name for name in sets[0] if not (folder / name).is_file())
        raise EditError(
            f"{folder} lacks {name}, one of its {len(sets[0])} files of weights; download it again."
        )
    if here(folder, "*.bin"):
        raise EditError(f"{folder} holds its weights as .bin, which is not read; save them as .safetensors.")
    raise EditError(f"{folder} lacks its weights; put its .safetensors there.")


def _sets(folder: Path) -> list[list[str]]:
    """Every set of files that may hold the weights: without a variant first, then as the index says."""
    found = [(bool(VARIANT.search(p.name)), 0, _indexed(p)) for p in here(folder, "*.index*.json")]
    for path in here(folder, "*.safetensors"):
        variant, shard = bool(VARIANT.search(path.name)), SHARD.fullmatch(path.name)
        if shard:
            first, _, count, end = shard.groups()
            names = [f"{first}-{i + 1:05d}-of-{count}{end}.safetensors" for i in range(int(count))]
            found.append((variant, 2, names))
        elif "lora" not in path.name.lower():
            found.append((variant, 1, [path.name]))
    return [names for _, _, names in sorted(found, key=lambda one: one[:2])]


def _indexed(index: Path) -> list[str]:
    """The files that an index names, all beside it."""
    try:
        return sorted({Path(name).name for name in read_json(index)["weight_map"].values()})
    except (KeyError, TypeError, AttributeError):
        raise EditError(f"{index} is not an index of weights; download it again.") from None


def read_weights(folder: Path, keep: Callable[[str], bool] = bool) -> dict[str, Tensor]:
    """The tensors of a folder whose names `keep` wants. EditError, in one sentence, for a bad or missing file."""
    return {k: v for path in weight_files(folder) for k, v in read_file(path, keep).items()}


def read_file(path: Path, keep: Callable[[str], bool] = bool) -> dict[str, Tensor]:
    """The tensors of a safetensors file whose names `keep` wants. EditError for a truncated or foreign one."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys() if keep(name)}  # noqa: SIM118
    except FileNotFoundError:
        raise EditError(f"{path} is missing; download the whole folder again.") from None
    except (OSError, SafetensorError) as error:
        raise EditError(f"{path} is truncated or not safetensors ({error}); download it again.") from None


def fit(
    module: nn.Module, state: dict[str, Tensor], where: Path | str, dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> nn.Module:  # fmt: skip
    """Gives a module its weights, ready for inference. dtype: as they are by default.

    EditError, in one sentence, where a tensor is missing, unknown or of another shape.
    """
    expected = module.state_dict()
    missing, foreign = expected.keys() - state.keys(), state.keys() - expected.keys()
    wrong = {name for name in expected.keys() & state.keys() if expected[name].shape != state[name].shape}
    if missing or foreign or wrong:
        first = min(missing or foreign or wrong)
        raise EditError(
            f"The weights in {where} do not fit their configuration: {len(missing)} tensors missing, {len(foreign)} "
            f"unknown, {len(wrong)} of another shape, first {first!r}; use the files that were published together."
        )
    module.load_state_dict({k: v.to(device, dtype or v.dtype) for k, v in state.items()}, assign=True)
    return module.requires_grad_(False).eval()


def save_json(path: Path, data: dict) -> None:
    """Writes a JSON object, whole or not at all."""
    write(path, json.dumps(data, indent=2, sort_keys=True) + "\n")
