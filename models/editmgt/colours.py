"""Colours of codes without the decoder, for previews: RGB ≈ factors·code + bias.

The fit is least squares over tokens whose pixels are known. Every picture that is encoded or decoded brings thousands
of them, so it costs a product of small matrices, no run of a network.
"""

from weakref import WeakMethod

import torch
from torch import Tensor
from torch.nn import functional as F

RIDGE = 1e-3  # of the codes' mean variance: directions that no picture has shown count for little


class Colours:
    """Gathers (code, colour) of tokens, and fits one to the other.

    channels: of a code. sample: a weak method, called if a fit is asked for before anything was gathered; it shall
    `add`.
    """

    def __init__(self, channels: int, sample: WeakMethod | None = None):
        self.sample, self.count = sample, 0
        self._sum = torch.zeros(channels + 3, dtype=torch.float64)
        self._products = torch.zeros(channels, channels + 3, dtype=torch.float64)
        self._fitted: tuple[Tensor, Tensor] | None = None

    def add(self, codes: Tensor, image: Tensor) -> None:
        """Codes [b, c, h, w] and the picture that they stand for, [b, 3, H, W] in 0..1, of any multiple of the size."""
        colour = F.interpolate(image.float(), codes.shape[-2:], mode="area")
        both = torch.cat([codes.to(colour), colour], 1).movedim(1, -1).flatten(0, 2).cpu().double()
        both = both[both.isfinite().all(1)]
        self.count, self._fitted = self.count + len(both), None
        self._sum = self._sum + both.sum(0)  # new ones: these may be of inference mode, which bars writing to them
        self._products = self._products + both[:, : len(self._products)].T @ both

    def fit(self) -> tuple[Tensor, Tensor]:
        """Factors [c, 3] and bias [3] that give colours in -1..1, as ComfyUI's previews take them."""
        sample = self.sample() if self.sample is not None else None
        if not self.count and sample is not None:
            sample()
        if self._fitted is None:
            self._fitted = self._solved()
        return self._fitted

    def _solved(self) -> tuple[Tensor, Tensor]:
        channels, mean = len(self._products), self._sum / max(self.count, 1)
        spread = self._products / max(self.count, 1) - mean[:channels, None] * mean
        within, across = spread[:, :channels], spread[:, channels:]
        ridge = RIDGE * within.diagonal().mean().clamp_min(1e-12)
        factors = torch.linalg.solve(within + ridge * torch.eye(channels, dtype=torch.float64), across)
        bias = mean[channels:] - mean[:channels] @ factors
        return (2 * factors).float(), (2 * bias - 1).float()

    def preview(self, codes: Tensor) -> Tensor:
        """Codes [b, c, h, w] as a small picture [b, 3, h, w] in 0..1."""
        factors, bias = (x.to(codes) for x in self.fit())
        colour = torch.einsum("bchw,cr->brhw", codes, factors) + bias[:, None, None]
        return ((colour + 1) / 2).clamp(0, 1)


def mosaic(codebook: Tensor, side: int = 16) -> Tensor:
    """Codes [1, c, side, side] drawn from all over a codebook [n, c], always the same."""
    drawn = torch.randperm(len(codebook), generator=torch.Generator().manual_seed(0))[: side * side]
    drawn = drawn.repeat(-(-side * side // len(drawn)))[: side * side]
    return codebook[drawn.to(codebook.device)].T.reshape(1, -1, side, side).contiguous()
