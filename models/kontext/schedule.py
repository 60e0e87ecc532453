"""The timestep schedule of FLUX.1 (Kontext), Eq. 12: shifted by μ, spread by σ, chosen by resolution."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import EditError

BASE_TOKENS, MAX_TOKENS = 256, 4096  # 256x256 and 1024x1024 pixels, where the two shifts hold
BASE_SHIFT, MAX_SHIFT = 0.5, 1.15
TOKEN_SIDE = 16  # pixels: the autoencoder's 8 times the transformer's 2
RESOLUTION_FREE = 1.15  # μ of ComfyUI's default, whatever the size


def shifted(time: Tensor | Sequence[float] | float, mu: float, sigma: float = 1.0) -> Tensor:
    """Eq. 12: t' = e^μ / (e^μ + (1/t - 1)^σ), for times from 0 to 1 of any shape, computed in fp64.

    Returns fp32 of the same shape; 0 stays 0 and 1 stays 1. EditError for times outside 0..1, a μ that is not
    finite or a σ that is not positive.
    """
    time = torch.as_tensor(time, dtype=torch.float64)
    if not bool(((time >= 0) & (time <= 1)).all()):
        raise EditError("Times of a schedule lie between 0 and 1.")
    if not math.isfinite(mu) or abs(mu) > 100:
        raise EditError(f"The shift μ is {mu}; give a number between -100 and 100, such as 1.15.")
    if not (math.isfinite(sigma) and sigma > 0):
        raise EditError(f"The spread σ is {sigma}; give a number above 0; the released models use 1.")
    alpha = math.exp(mu)
    return (alpha / (alpha + (1 / time - 1) ** sigma)).float()  # t = 0: 1/0 is infinite, and t' is 0


def unshifted(time: Tensor | Sequence[float] | float, mu: float, sigma: float = 1.0) -> Tensor:
    """The t of which Eq. 12 makes a given t'. Shapes and errors as `shifted`, which it undoes."""
    shifted(time, mu, sigma)  # the same refusals
    shifted_time = torch.as_tensor(time, dtype=torch.float64)
    ratio = math.exp(mu) * (1 / shifted_time - 1)
    return (1 / (1 + ratio ** (1 / sigma))).float()


def log_snr(time: Tensor, mu: float = 0.0, sigma: float = 1.0) -> Tensor:
    """Eq. 9: λ_t^{μ,σ} = σ·λ_t^{0,1} - 2μ with λ_t^{0,1} = 2·log((1 - t)/t) of Eq. 8, for 0 < t < 1."""
    return sigma * 2 * torch.log((1 - time) / time) - 2 * mu


def mu_of_alpha(alpha: float) -> float:
    """μ = log α (below Eq. 10): the shift parameter of earlier work. EditError unless α is positive."""
    if not (math.isfinite(alpha) and alpha > 0):
        raise EditError(f"The shift α is {alpha}; give a number above 0, such as 3.")
    return math.log(alpha)


def mu_of_tokens(tokens: float, base_shift: float = BASE_SHIFT, max_shift: float = MAX_SHIFT) -> float:
    """μ on the line through (256 tokens, base_shift) and (4096 tokens, max_shift), as the released code has it.

    tokens: of the target alone, references not counted. EditError unless there is at least one.
    """
    if not tokens >= 1:
        raise EditError(f"A schedule for {tokens} tokens was asked for; the target has at least 1.")
    slope = (max_shift - base_shift) / (MAX_TOKENS - BASE_TOKENS)
    return base_shift + slope * (tokens - BASE_TOKENS)


def tokens_of_size(width: int, height: int) -> int:
    """The tokens of a picture of so many pixels: one for 16x16, a side that is no multiple rounded up."""
    return -(-width // TOKEN_SIDE) * -(-height // TOKEN_SIDE)


def linear(steps: int, start: float = 1.0) -> Tensor:
    """steps + 1 equidistant times from `start` to 0 in fp64, before any shift."""
    if steps < 1:
        raise EditError(f"A schedule of {steps} steps was asked for; it takes at least 1.")
    if not 0 < start <= 1:
        raise EditError(f"The schedule starts at time {start}; give more than 0 and at most 1.")
    return torch.linspace(start, 0.0, steps + 1, dtype=torch.float64)


def sigmas(steps: int, mu: float | None, sigma: float = 1.0, start: float = 1.0) -> Tensor:
    """Noise levels [steps + 1] from high to 0: equidistant times from `start`, shifted by Eq. 12.

    mu: None leaves them linear. start: below 1 for an edit that begins from a noised picture; a time before the shift.
    """
    times = linear(steps, start)
    return times.float() if mu is None else shifted(times, mu, sigma)


def bfl(
    steps: int, tokens: int, base_shift: float = BASE_SHIFT, max_shift: float = MAX_SHIFT, shift: bool = True
) -> Tensor:
    """`get_schedule` of the released code: [steps + 1] times from 1 to 0, μ by the target's tokens, σ = 1."""
    return sigmas(steps, mu_of_tokens(tokens, base_shift, max_shift) if shift else None)


def diffusers(steps: int, tokens: int) -> Tensor:
    """What diffusers' pipeline takes: the noise levels [steps] of `bfl` without the last, which it adds itself."""
    return bfl(steps, tokens)[:-1]
