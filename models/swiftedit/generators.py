"""One-step generators: what each predicts, at which timestep, and what its input is mixed from."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import EditError

INVERSION_TIMESTEP = 500  # F sees the clean latent at this timestep (the released code; the paper gives none)
TRAIN_TIMESTEPS = 1000
LATENT_SCALE = 0.18215  # Stable Diffusion's VAE: latents of the networks = latents of the VAE times this


def alphas_cumprod() -> Tensor:
    """Stable Diffusion's schedule, "scaled linear" from 0.00085 to 0.012: [1000] float32."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, TRAIN_TIMESTEPS, dtype=torch.float32) ** 2
    return torch.cumprod(1 - betas, 0)


def alpha_sigma(timestep: int) -> tuple[float, float]:
    """(alpha_t, sigma_t) of Stable Diffusion's schedule. EditError for a timestep outside 0..999."""
    if not 0 <= timestep < TRAIN_TIMESTEPS:
        raise EditError(f"The timestep {timestep} is outside 0..{TRAIN_TIMESTEPS - 1}.")
    kept = alphas_cumprod()[timestep]
    return float(kept**0.5), float((1 - kept) ** 0.5)


@dataclass(frozen=True)
class OneStep:
    """A generator G that turns x_T into a picture's latent in one call.

    prediction: "epsilon", z = (x - sigma·out) / alpha; or "velocity" of a rectified flow, z = x + out.
    timestep: what the network is told. alpha, sigma: x_T = alpha·z + sigma·eps, as the released code mixes its input.
    """

    name: str
    prediction: str
    timestep: int
    alpha: float
    sigma: float
    context: int  # width of its text embeddings: 1024 for the SD2.1 family, 768 for SD1.5's

    def mixed(self, latent: Tensor, noise: Tensor) -> Tensor:
        """x_T of a latent and its inverted noise, each [b, 4, h, w] in the networks' scale."""
        return self.alpha * latent + self.sigma * noise

    def latent(self, x: Tensor, output: Tensor) -> Tensor:
        """The picture's latent from x_T and what the network predicted, each [b, 4, h, w]."""
        if self.prediction == "velocity":
            return x + output
        return (x - self.sigma * output) / self.alpha


def _epsilon(name: str, context: int) -> OneStep:
    return OneStep(name, "epsilon", TRAIN_TIMESTEPS - 1, *alpha_sigma(TRAIN_TIMESTEPS - 1), context)


GENERATORS = {
    "swiftbrush_v2": _epsilon("swiftbrush_v2", 1024),
    "swiftbrush_v1": _epsilon("swiftbrush_v1", 1024),
    "sd_turbo": _epsilon("sd_turbo", 1024),
    "dmd2": _epsilon("dmd2", 768),
    # a rectified flow starts from pure noise: nothing of z is in x_T
    "instaflow": OneStep("instaflow", "velocity", TRAIN_TIMESTEPS, 0.0, 1.0, 768),
}
DEFAULT = "swiftbrush_v2"


def generator(name: str) -> OneStep:
    """The generator of that name. EditError naming the known ones."""
    if name not in GENERATORS:
        raise EditError(f"The generator {name!r} is unknown; choose one of {', '.join(GENERATORS)}.")
    return GENERATORS[name]
