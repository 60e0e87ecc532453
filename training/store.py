"""Where a training keeps its things: one folder with the weights of each part, and the state of each stage.

STATE/<config>/weights/<part>.safetensors    EMA weights, fp32, written when a stage saves
STATE/<config>/<stage>/state.pt              optimiser, step, EMA: what a resumed run needs
STATE/<config>/<stage>/log.jsonl             one line per logged step
STATE/<config>/<stage>/sheet_<step>.jpg      samples as they develop
"""

import os
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn


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
        path = self._part(part)
        temporary = path.with_suffix(".part")
        save_file({k: v.detach().float().cpu().contiguous() for k, v in state.items()}, temporary)
        os.replace(temporary, path)

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
        path = self.stage(stage) / "state.pt"
        temporary = path.with_suffix(".part")
        torch.save(state, temporary)
        os.replace(temporary, path)

    def load_state(self, stage: str) -> dict | None:
        path = self.stage(stage) / "state.pt"
        return torch.load(path, map_location="cpu", weights_only=True) if path.is_file() else None

    def _part(self, part: str) -> Path:
        return self.root / "weights" / f"{part}.safetensors"
