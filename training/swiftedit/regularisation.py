"""The regularisation of stage 2 (Eq. 8): a frozen multi-step teacher keeps the inverted noise a noise.

    z_t = alpha_t·z + sigma_t·eps_hat,    gradient  w(t)·(eps_hat - eps_phi(z_t, t, c_y))·d eps_hat/d theta

The paper gives neither w(t) nor the range of t, nor whether the norm is a sum or a mean; RANGE and WEIGHTINGS are what
score distillation usually takes, and the mean makes lambda = 1 mean the same at every size.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ...models.swiftedit.generators import alphas_cumprod

RANGE = (20, 980)  # of 1000, both included
WEIGHTINGS = ("dreamfusion", "one")


def weight(timesteps: Tensor, weighting: str = WEIGHTINGS[0]) -> Tensor:
    """w(t) of [b] timesteps: sigma_t^2, as in DreamFusion, or 1."""
    if weighting == "one":
        return torch.ones(timesteps.shape, device=timesteps.device)
    return 1 - alphas_cumprod().to(timesteps.device)[timesteps]


def noised(latent: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """z_t of latents and noises [b, 4, h, w] at [b] timesteps."""
    alpha, sigma = _alpha_sigma(timesteps)
    return alpha * latent + sigma * noise


def as_noise(output: Tensor, z_t: Tensor, timesteps: Tensor, prediction: str) -> Tensor:
    """A teacher's output as the noise that it sees in z_t; v = alpha·eps - sigma·z is turned into eps."""
    if prediction == "epsilon":
        return output
    alpha, sigma = _alpha_sigma(timesteps)
    return alpha * output + sigma * z_t


@torch.no_grad()
def teacher_noise(
    teacher: Callable[[Tensor, Tensor, Tensor], Tensor],
    latent: Tensor,
    noise: Tensor,
    timesteps: Tensor,
    context: Tensor,
    prediction: str = "epsilon",
) -> Tensor:
    """eps_phi(z_t, t, c_y) without guidance. Nothing here is differentiated: neither the teacher nor z_t."""
    z_t = noised(latent, noise, timesteps)
    return as_noise(teacher(z_t, timesteps, context).float(), z_t, timesteps, prediction)


def regularisation(noise: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """A loss whose gradient by eps_hat is that of Eq. 8 over the number of its elements.

    noise: eps_hat [b, 4, h, w]. target: eps_phi, held constant. weights: w(t) [b].
    """
    return (0.5 * weights[:, None, None, None] * (noise - target.detach()).square()).mean()


def _alpha_sigma(timesteps: Tensor) -> tuple[Tensor, Tensor]:
    kept = alphas_cumprod().to(timesteps.device)[timesteps][:, None, None, None]
    return kept.sqrt(), (1 - kept).sqrt()
