"""Named noise schedules z_t = α_t z_0 + σ_t n, with t in 0..1, and the few-step sampler on them."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import EditError

TWO_STEPS = (1.0, 0.5)


def flow(t: Tensor) -> tuple[Tensor, Tensor]:
    """The straight path of flow matching: α = 1 - t, σ = t. α_T = 0, so only x0-prediction can use it."""
    return 1 - t, t


def scaled_linear(t: Tensor, beta_start: float = 0.00085, beta_end: float = 0.012) -> tuple[Tensor, Tensor]:
    """Stable Diffusion's variance-preserving schedule of 1000 steps, α_T = 0.068 > 0 (latent diffusion, appendix)."""
    steps = torch.linspace(beta_start**0.5, beta_end**0.5, 1000, dtype=torch.float64, device="cpu") ** 2
    alpha_bar = torch.cumprod(1 - steps, 0)
    value = alpha_bar[(t.detach().cpu() * 999).round().long().clamp(0, 999)].to(t.device, torch.float32)
    return value.sqrt(), (1 - value).sqrt()


SCHEDULES: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    "flow": flow,
    "scaled_linear": scaled_linear,
}


def times(steps: int) -> tuple[float, ...]:
    """The times of an n-step sampler: 1 and, for two steps, 1/2 (what the distillation is trained on)."""
    if steps < 1:
        raise EditError(f"{steps} steps cannot be sampled; use 1 or more.")
    return tuple(1 - i / steps for i in range(steps))


def add_noise(schedule: str, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """z_t of clean latents [b, c, h, w] at times t [b]."""
    alpha, sigma = SCHEDULES[schedule](t)
    return alpha[:, None, None, None] * clean + sigma[:, None, None, None] * noise


def x0_from_epsilon(schedule: str, noisy: Tensor, epsilon: Tensor, t: Tensor) -> Tensor:
    """x0 = (z_t - σ ε) / α."""
    alpha, sigma = SCHEDULES[schedule](t)
    return (noisy - sigma[:, None, None, None] * epsilon) / alpha[:, None, None, None]


def sample(
    denoise: Callable[[Tensor, Tensor], Tensor],
    shape: tuple[int, ...],
    *,
    schedule: str,
    steps: int = 2,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
    callback: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Predicts x0, renoises it to the next time, and predicts again (consistency sampling, DMD2 section 4.4).

    denoise(z_t, t [b]) returns x0. Noise is drawn on the CPU from `generator`, so that it is the same everywhere;
    without a generator the noise is zero. Returns latents of `shape`.
    """
    schedule_times = times(steps)
    clean = torch.zeros(shape, device=device)
    for index, value in enumerate(schedule_times):
        t = torch.full((shape[0],), value, device=device)
        noise = torch.zeros(shape) if generator is None else torch.randn(shape, generator=generator)
        clean = denoise(add_noise(schedule, clean, noise.to(device), t), t)
        if callback is not None:
            callback(index + 1, steps)
    return clean
