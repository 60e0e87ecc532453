"""Where a training keeps its things: one folder with the weights of each part, and the state of each stage.

STATE/<config>/weights/<part>.safetensors    EMA weights, fp32, written when a stage saves
STATE/<config>/<config>.json                 what was trained, where a system notes it
STATE/<config>/<stage>/state.pt              optimiser, step, EMA: what a resumed run needs
STATE/<config>/<stage>/log.jsonl             one line per logged step
STATE/<config>/<stage>/sheet_<step>.jpg      samples as they develop
"""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from ..models import files
from ..models.errors import EditError


class Store:
    """The folder of one configuration's training."""

    def __init__(self, root: Path | str, config_name: str):
        self.root = Path(root).expanduser() / config_name
        (self.root / "weights").mkdir(parents=True, exist_ok=True)

    def stage(self, name: str) -> Path:
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def has(self, part: str) -> bool:
        return self._part(part).is_file()

    def save_part(self, part: str, state: dict[str, torch.Tensor]) -> None:
        """Writes one part's weights, whole or not at all."""
        files.save_tensors(self._part(part), {name: value.float() for name, value in state.items()})

    def load_part(self, part: str, module: nn.Module) -> bool:
        """Loads a part into `module` if it is there. Returns whether it was."""
        if not self.has(part):
            return False
        module.load_state_dict(self.read_part(part))
        return True

    def read_part(self, part: str) -> dict[str, torch.Tensor]:
        """The weights of a part that is there."""
        return load_file(self._part(part))

    def save_state(self, stage: str, state: dict) -> None:
        with files.replacing(self.stage(stage) / "state.pt") as part:
            torch.save(state, part)

    def load_state(self, stage: str) -> dict | None:
        path = self.stage(stage) / "state.pt"
        return torch.load(path, map_location="cpu", weights_only=True) if path.is_file() else None

    def last(self, parts: Sequence[str]) -> str | None:
        """The last of the named parts that has weights."""
        return next((part for part in reversed(parts) if self.has(part)), None)

    def write_card(self, name: str, card: dict) -> None:
        """Notes as NAME.json what the state is of; every process of a launch may write it."""
        files.write(self.root / f"{name}.json", json.dumps(card, indent=2, sort_keys=True) + "\n")

    def has_card(self, name: str) -> bool:
        return (self.root / f"{name}.json").is_file()

    def card(self, name: str, first: str) -> dict:
        """What was noted. first: what to train where nothing was. EditError then, and for a file that is no JSON."""
        path = self.root / f"{name}.json"
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise EditError(
                f"{self.root} holds no training; train {first} first, and name the same --state."
            ) from None
        except (OSError, ValueError):
            raise EditError(f"{path} is not readable as JSON; name another --state.") from None

    def _part(self, part: str) -> Path:
        return self.root / "weights" / f"{part}.safetensors"


def write_weights(path: Path, state: dict[str, torch.Tensor], dtype: torch.dtype, told: dict[str, str]) -> None:
    """One file of weights for others to load, whole or not at all. told: its metadata."""
    files.save_tensors(path, {name: value.to(dtype) for name, value in state.items()}, told)
