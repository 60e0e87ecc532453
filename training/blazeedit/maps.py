"""Stages `gain` (shadows of removed objects, relighting) and `tone`: the heads whose result is delivered as a map."""

import numpy as np
import torch
from torch import Tensor

from ...models.blazeedit.config import BlazeEditConfig
from ...models.blazeedit.delivery import apply_colour_map
from ...models.blazeedit.first_guess import TONE_LIMIT, first_guess
from ...models.blazeedit.guess import luminance_stretch
from ...models.blazeedit.heads import GainHead, ToneHead
from ...models.blazeedit.tasks import TASKS
from ...models.image import linear_to_srgb, srgb_to_linear
from .codec import psnr
from .loop import Stage
from .sheets import grid
from .sources import Sources
from .store import Store

REMOVAL_SHARE = 0.6
SHADOW = 0.03  # a pixel that an edit changes by more belongs to the shadow (study, section 7.4)


def charbonnier(error: Tensor, epsilon: float = 1e-3) -> Tensor:
    """A smooth L1: sqrt(e² + ε²)."""
    return (error.square() + epsilon**2).sqrt()


class GainStage(Stage):
    """One gain-map network for both tasks, told apart by τ.

    For removal the shadow region weighs 16 times and the rest of the picture 3 times as much: a balanced L1 turns
    timid with training, and what is no shadow must not move. A removed shadow only ever gets lighter, so negative
    gains are cut. 35 % of the relight pairs are already good pictures: naturally dark places are left alone.
    """

    name = "gain"

    def __init__(
        self, config: BlazeEditConfig, sources: Sources, store: Store, *, shadow_weight=16.0, mse=15.0
    ):
        super().__init__()
        self.triplets = sources.triplets(relight_identity=0.35)
        self.shadow_weight, self.mse = shadow_weight, mse
        self.gain_head = GainHead(config.gain_head)
        store.load_part("gain_head", self.gain_head)
        held = sources.held_triplets()
        rng = np.random.default_rng(5)
        self.held = {task: held.batch(task, 40, rng, config.gain_size) for task in ("remove", "relight")}

    def parts(self):
        return {"gain_head": self.gain_head}

    def batch(self, rng, count, size):
        half = round(REMOVAL_SHARE * count)
        parts = [
            self.triplets.batch(t, n, rng, size) for t, n in (("remove", half), ("relight", count - half))
        ]
        tau = torch.tensor([TASKS["remove"].tau] * half + [TASKS["relight"].tau] * (count - half))
        return (*(torch.cat(pair) for pair in zip(*parts, strict=True)), tau)

    def apply(self, x: Tensor, mask: Tensor, tau: Tensor) -> Tensor:
        log_gain = self.gain_head(x, mask * tau[:, None, None]).float()
        removal = (tau == TASKS["remove"].tau)[:, None, None, None]
        log_gain = torch.where(removal, log_gain.clamp_min(0), log_gain)
        return linear_to_srgb((srgb_to_linear(x) * log_gain.exp()).clamp(0, 1))

    def forward(self, role: str, x: Tensor, mask: Tensor, y: Tensor, tau: Tensor) -> dict[str, Tensor]:
        error = self.apply(x, mask, tau) - y
        removal = (tau == TASKS["remove"].tau).float()[:, None, None]
        counted = 1 - removal * mask  # the hole itself is filled by others
        shadow = ((x - y).abs().amax(1) > SHADOW).float()
        inside = self.shadow_weight * removal + 3 * (1 - removal)
        weight = (counted * (shadow * inside + (1 - shadow) * (1 + 2 * removal)))[:, None]
        loss = (weight * (charbonnier(error) + self.mse * error.square())).mean()
        return {"loss": loss}

    def validate(self):
        device = next(self.gain_head.parameters()).device
        out, self.last = {}, []
        for task, (x, mask, y) in self.held.items():
            tau = torch.full((len(x),), TASKS[task].tau, device=device)
            result = self.apply(x.to(device), mask.to(device), tau).float().cpu()
            region = (
                ((x - y).abs().amax(1) > SHADOW) * (1 - mask) if task == "remove" else torch.ones_like(mask)
            )
            has = region.sum((1, 2)) > 40
            out[task] = (region_psnr(result, y, region) - region_psnr(x, y, region))[has].mean().item()
            self.last += [
                x[:8],
                torch.where(mask[:8, None] * (task == "remove") > 0, y[:8], result[:8]),
                y[:8],
            ]
        good = self.held["relight"][2].to(device)
        kept = self.apply(
            good, torch.ones_like(good[:, 0]), torch.full((len(good),), TASKS["relight"].tau, device=device)
        )
        out["kept"] = psnr(kept, good).mean().item()
        return {**out, "score": -(out["remove"] + out["relight"])}

    def sheet(self):
        return grid(self.last)


def region_psnr(a: Tensor, b: Tensor, region: Tensor) -> Tensor:
    """Per-image PSNR in dB within a region [b, h, w] of 0 and 1."""
    error = ((a - b).square().mean(1) * region).sum((1, 2)) / region.sum((1, 2)).clamp_min(1)
    return -10 * torch.log10(error.clamp_min(1e-10))


def tone_out(head: ToneHead, x: Tensor, *, scale: float = 1.0, dropout: float = 0.0) -> Tensor:
    """The thumbnail as the tone head would deliver it: x + w (stretch - x), then the residual quadratic map."""
    stretched = luminance_stretch(x, TONE_LIMIT)
    blend, residual = head(x, stretched, dropout)
    base = x + scale * blend.float()[:, :, None, None] * (stretched - x)
    return base + apply_colour_map(base, scale * residual.float())


class ToneStage(Stage):
    """The tone head on 64-px thumbnails. Photographs are memorised in minutes: the best on held-back ones is kept."""

    name = "tone"

    def __init__(self, config: BlazeEditConfig, sources: Sources, store: Store):
        super().__init__()
        self.triplets = sources.triplets(tone_identity=0.30)
        self.tone_head = ToneHead(config.tone_channels)
        store.load_part("tone_head", self.tone_head)
        rng = np.random.default_rng(6)
        self.held = sources.held_triplets().batch("tone", 200, rng, 64)

    def parts(self):
        return {"tone_head": self.tone_head}

    def batch(self, rng, count, size):
        x, _, y = self.triplets.batch("tone", count, rng, 64)
        return x, y

    def forward(self, role: str, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        error = tone_out(self.tone_head, x, dropout=0.3) - y
        return {"loss": charbonnier(error).mean() + 4 * error.square().mean()}

    def validate(self):
        x, _, y = (t.to(next(self.tone_head.parameters()).device) for t in self.held)
        self.last = [x[:8].cpu(), tone_out(self.tone_head, x, scale=0.85)[:8].cpu(), y[:8].cpu()]
        value = psnr(tone_out(self.tone_head, x, scale=0.85).clamp(0, 1), y)
        kept = psnr(tone_out(self.tone_head, y, scale=0.85).clamp(0, 1), y)
        base = psnr(first_guess("tone", x, torch.ones_like(x[:, 0])).clamp(0, 1), y)
        out = {
            "psnr": value.mean().item(),
            "over_guess": (value - base).mean().item(),
            "kept": kept.mean().item(),
        }
        return {**out, "score": -out["psnr"] - 0.2 * min(out["kept"], 28.0)}

    def sheet(self):
        return grid(self.last)
