"""Degradations that tone correction and relighting learn to undo, one distribution for NumPy and for batches.

`tone_batch` and `relight_batch` work on tensors [b, 3, h, w] of any device; `tone` and `relight` are the same
code for one NumPy picture. Random numbers are drawn on the CPU, so that a seed means the same picture everywhere.
"""

import numpy as np
import torch
from torch.nn import functional as F

STOPS = (0.35, 1.45)  # exposure error in stops, under- and overexposure equally often
WARMTH, GAMMA = 0.10, 0.16  # standard deviations of the log channel gains and of the log gamma
SHADOWS = 3  # at most, per picture
STRENGTH, TINT = (0.35, 0.80), (0.75, 1.0)  # of a shadow, and how much of it each channel gets
PENUMBRA = (0.02, 0.35)  # half-width in half sides, log-uniform, varying over the picture
LEVELS = 255 * 8 + 1  # entries of the tables: exact for 8-bit pictures


def tone(y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Wrong exposure, white balance and gamma: float32 [h, w, 3] in 0..1 -> the same."""
    return _one(tone_batch, y, rng)


def relight(y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Coloured shadows with soft borders over the picture: float32 [h, w, 3] in 0..1 -> the same."""
    return _one(relight_batch, y, rng)


def _one(batched, y, rng):
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    planes = torch.from_numpy(np.ascontiguousarray(y, np.float32).transpose(2, 0, 1))[None]
    return np.ascontiguousarray(batched(planes, generator)[0].permute(1, 2, 0).numpy())


def tone_batch(y: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """x of the tone task for y [b, 3, h, w]: (linear · exposure · white balance) ^ gamma, clipped to 0..1."""
    b = y.shape[0]
    u, n = torch.rand(b, 2, generator=generator), torch.randn(b, 4, generator=generator)
    stops = (STOPS[0] + (STOPS[1] - STOPS[0]) * u[:, :1]) * torch.where(u[:, 1:] < 0.5, -1.0, 1.0)
    warmth = n[:, :3].clamp(-2, 2) * WARMTH
    log_gain = stops * 0.6931 + warmth - warmth.mean(1, keepdim=True)  # [b, 3]
    gamma = (n[:, 3:].clamp(-2, 2) * GAMMA).exp()
    log_light = _linear_table().clamp_min(1e-6).log()
    light = ((log_light + log_gain[..., None]) * gamma[..., None]).exp()  # [b, 3, levels]
    return _look_up(_to_srgb(light), y)


def relight_batch(y: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """x of the relight task for y [b, 3, h, w]: linear light times 1 - shade · strength · tint."""
    b, _, h, w = y.shape
    shade = shade_field(b, -(-h // 2), -(-w // 2), generator)[:, None]
    u = torch.rand(b, 4, generator=generator)
    strength = STRENGTH[0] + (STRENGTH[1] - STRENGTH[0]) * u[:, :1]
    tint = TINT[0] + (TINT[1] - TINT[0]) * u[:, 1:]
    depth = (strength * tint).to(y.device)[..., None, None]
    shade = F.interpolate(shade.to(y.device), (h, w), mode="bilinear", align_corners=False)
    tables = _linear_table().to(y.device), _srgb_of_root().to(y.device)
    few = 4 if y.device.type == "cpu" else b  # a few pictures at a time stay in the cache: three times faster
    parts = zip(y.split(few), shade.split(few), depth.split(few), strict=True)
    return torch.cat([_lit(part, 1 - dark * deep, tables) for part, dark, deep in parts])


def _lit(y, light, tables):
    linear = _table(tables[0], y * (LEVELS - 1))
    return _table(tables[1], (linear * light).sqrt() * (LEVELS - 1))


def shade_field(b: int, h: int, w: int, generator: torch.Generator) -> torch.Tensor:
    """Darkness 0..1, [b, h, w]: one to three edges, discs or bars with a penumbra that varies in space."""
    rows, columns = torch.linspace(-1, 1, h)[:, None], torch.linspace(-1, 1, w)[None]
    lit = torch.ones(b, h, w)
    for index in range(SHADOWS):
        u = torch.rand(b, 16, generator=generator)[..., None, None]
        distance = _signed_distance(u, rows, columns)
        ramp = (u[:, 8] - 0.5) * rows + (u[:, 9] - 0.5) * columns
        low, high = np.log(PENUMBRA[0]), np.log(PENUMBRA[1])
        width = (low + (high - low) * u[:, 10] + 2.2 * ramp).exp()
        present = (u[:, 11] < (1.0, 0.5, 0.25)[index]).float()
        lit = lit * (1 - present * torch.sigmoid(1.8 * distance / width))
    return 1 - lit


def _signed_distance(u, rows, columns):
    """Positive inside the shadow, in half sides: an edge (45 %), an ellipse (30 %) or bars (25 %), gently bent."""
    angle = u[:, 0] * 2 * np.pi
    bend = (
        0.25
        * u[:, 1]
        * torch.sin((2 + 4 * u[:, 2]) * (rows * angle.sin() - columns * angle.cos()) + 6.3 * u[:, 3])
    )
    along = rows * angle.cos() + columns * angle.sin() + bend  # [b, h, w]
    across = columns * angle.cos() - rows * angle.sin()
    middle = 1.3 * (u[:, 4] - 0.5)
    edge = along - middle
    radius, aspect = 0.3 + 0.5 * u[:, 5], 0.5 + u[:, 6]
    ellipse = (
        radius
        - ((along - middle).square() * aspect + (across - 1.3 * (u[:, 7] - 0.5)).square() / aspect).sqrt()
    )
    period = 0.35 + 0.8 * u[:, 5]
    bars = (((along / period + u[:, 4]) % 1 - 0.5).abs() - 0.25) * period
    return torch.where(u[:, 12] < 0.45, edge, torch.where(u[:, 12] < 0.75, ellipse, bars))


def _linear_table():
    """Linear light of the sRGB values k / (LEVELS - 1)."""
    srgb = torch.linspace(0, 1, LEVELS)
    return torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _srgb_of_root():
    """The sRGB value of linear light (k / (LEVELS - 1))²: the root spreads the dark end over the table."""
    return _to_srgb(torch.linspace(0, 1, LEVELS).square())


def _to_srgb(linear):
    linear = linear.clamp(0, 1)
    power = 1.055 * (linear.clamp_min(1e-6).log() / 2.4).exp() - 0.055
    return torch.where(linear <= 0.0031308, linear * 12.92, power)


def _table(table, position):
    index = (position + 0.5).to(torch.int32)
    return torch.index_select(table, 0, index.reshape(-1)).view(position.shape)


def _look_up(curves, y):
    """Applies curves [b, 3, LEVELS] to y [b, 3, h, w]; far faster than powers of every pixel."""
    b, c = y.shape[:2]
    offset = (torch.arange(b * c, dtype=torch.int32, device=y.device) * LEVELS).view(b, c, 1, 1)
    index = (y * (LEVELS - 1) + 0.5).to(torch.int32) + offset
    return torch.index_select(curves.to(y.device).reshape(-1), 0, index.reshape(-1)).view(y.shape)
