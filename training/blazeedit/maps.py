"""Stages `shadow` (shadows of removed objects) and `relight`: the heads whose result is delivered as a gain map."""

import numpy as np
import torch
from torch import Tensor

from ...models.blazeedit.config import BlazeEditConfig
from ...models.blazeedit.heads import GainHead
from ...models.blazeedit.tasks import TASKS
from ...models.image import linear_to_srgb, srgb_to_linear
from ..loop import Stage
from ..store import Store
from .codec import psnr
from .sheets import grid
from .sources import Sources

SHADOW = 0.03  # a pixel that an edit changes by more belongs to the shadow (study, section 7.4)
MSE = 15.0  # a plain L1 turns timid with training: it takes the median of "shadow" and "dark ground"


def charbonnier(error: Tensor, epsilon: float = 1e-3) -> Tensor:
    """A smooth L1: sqrt(e² + ε²)."""
    return (error.square() + epsilon**2).sqrt()


class GainStage(Stage):
    """One gain-map network on one task, at the head's own small size."""

    task: str
    identity: dict[str, float] = {}
    changed_weight, rest_weight = 1.0, 1.0

    def __init__(self, config: BlazeEditConfig, sources: Sources, store: Store):
        super().__init__()
        self.triplets = sources.triplets(**self.identity)
        self.head = GainHead(config.gain_head)
        self.tau = TASKS[self.task].tau
        self.begin(store)
        self.held = sources.held_triplets().batch(self.task, 60, np.random.default_rng(5), config.gain_size)

    def begin(self, store: Store) -> None:
        store.load_part(self.part, self.head)

    @property
    def part(self) -> str:
        return f"{self.name}_head"

    def parts(self):
        return {self.part: self.head}

    def batch(self, rng, count, size):
        return self.triplets.batch(self.task, count, rng, size)

    def log_gain(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.head(x, mask * self.tau).float()

    def apply(self, x: Tensor, mask: Tensor) -> Tensor:
        return linear_to_srgb((srgb_to_linear(x) * self.log_gain(x, mask).exp()).clamp(0, 1))

    def counted(self, mask: Tensor) -> Tensor:
        """[b, h, w]: where the result reaches the user."""
        return torch.ones_like(mask)

    def forward(self, role: str, x: Tensor, mask: Tensor, y: Tensor) -> dict[str, Tensor]:
        error = self.apply(x, mask) - y
        changed = ((x - y).abs().amax(1) > SHADOW).float()
        weight = self.counted(mask) * (changed * self.changed_weight + (1 - changed) * self.rest_weight)
        return {"loss": (weight[:, None] * (charbonnier(error) + MSE * error.square())).mean()}

    def validate(self):
        x, mask, y = (t.to(next(self.head.parameters()).device) for t in self.held)
        result = self.apply(x, mask).float()
        counted, changed = self.counted(mask), ((x - y).abs().amax(1) > SHADOW).float()
        if self.task == "relight":
            changed = torch.ones_like(changed)
        has = (changed * counted).sum((1, 2)) > 40
        gained = region_psnr(result, y, changed * counted) - region_psnr(x, y, changed * counted)
        self.last = [t[:8].cpu() for t in (x, torch.where(counted[:, None] > 0, result, y), y)]
        out = {"gained": gained[has].mean().item(), "kept": self.kept(x, mask, y, result)}
        return {**out, "score": -out["gained"]}

    def kept(self, x: Tensor, mask: Tensor, y: Tensor, result: Tensor) -> float:
        """PSNR in dB of what is not to change."""
        raise NotImplementedError

    def sheet(self):
        return grid(self.last)


class ShadowStage(GainStage):
    """The shadow of the object in the mask. It starts from the relight head, which already knows shadows.

    The shadow weighs 16 times and the rest of the picture twice as much: what is no shadow must not move. A lifted
    shadow only ever gets lighter, so negative gains are cut; the hole itself is filled by others.
    """

    name, task = "shadow", "remove"
    changed_weight, rest_weight = 16.0, 2.0

    def begin(self, store):
        if not store.load_part(self.part, self.head):
            store.load_part("relight_head", self.head)

    def log_gain(self, x, mask):
        return super().log_gain(x, mask).clamp_min(0)

    def counted(self, mask):
        return 1 - mask

    def kept(self, x, mask, y, result):
        rest = ((x - y).abs().amax(1) <= SHADOW).float() * (1 - mask)
        return region_psnr(result, y, rest).mean().item()


class RelightStage(GainStage):
    """Every shadow and cast of light. 35 % of the pairs are already good: naturally dark places are left alone."""

    name, task = "relight", "relight"
    identity = {"relight_identity": 0.35}
    changed_weight = 3.0

    def kept(self, x, mask, y, result):
        return psnr(self.apply(y, mask), y).mean().item()


def region_psnr(a: Tensor, b: Tensor, region: Tensor) -> Tensor:
    """Per-image PSNR in dB within a region [b, h, w] of 0 and 1."""
    error = ((a - b).square().mean(1) * region).sum((1, 2)) / region.sum((1, 2)).clamp_min(1)
    return -10 * torch.log10(error.clamp_min(1e-10))
