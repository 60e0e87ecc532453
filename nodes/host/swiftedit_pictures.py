"""Pictures on their way into and out of SwiftEdit's latents."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...models.errors import EditError
from ...models.image import from_host
from ...models.swiftedit.aram import latent_mask
from ...models.swiftedit.picture import CELL, Fitted, fit
from . import memo

TINT = (1.0, 0.25, 0.2)


@dataclass(frozen=True)
class Scene:
    """A latent [b, 4, h, w] in the VAE's scale, and the picture that it was encoded from, if there was one."""

    latent: Tensor
    fitted: Fitted | None = None
    picture: Tensor | None = None

    def mask_out(self, mask: Tensor, smooth: bool = False) -> Tensor:
        """A mask of the latent's size at the picture's size."""
        if self.fitted is not None:
            return self.fitted.mask_out(mask, smooth)
        return torch.nn.functional.interpolate(mask[:, None], scale_factor=CELL, mode="nearest")[:, 0]

    def cells_of(self, mask: Tensor) -> Tensor:
        """A mask of the picture's size at the latent's: [b, h, w]."""
        mask = mask if self.fitted is None else self.fitted.mask_in(mask)
        return latent_mask(mask, tuple(self.latent.shape[-2:]))

    def shown(self) -> Tensor:
        """The picture [b, 3, h, w], or grey of its size for a latent."""
        if self.picture is not None:
            return self.picture
        height, width = self.latent.shape[-2:]
        return torch.full((len(self.latent), 3, height * CELL, width * CELL), 0.5)

    def decoded(self, vae, latent: Tensor) -> Tensor:
        """A latent of this scene as a picture [b, 3, h, w] of the original size."""
        made = vae.decode(latent).movedim(-1, 1).float().clamp(0, 1)
        return made if self.fitted is None else self.fitted.restored(made)


def encoded(image: Tensor | None, vae: Any, latent: dict | None, side: int) -> Scene:
    """An IMAGE scaled and encoded, or a LATENT as it is. The same photograph is encoded once.

    EditError when neither or both are given, when the VAE is missing, and for a latent of another family.
    """
    if (image is None) == (latent is None):
        raise EditError("SwiftEdit needs one picture: wire an image and the VAE, or a latent.")
    if latent is not None:
        samples = latent["samples"]
        _check(samples, "The latent")
        return Scene(samples)
    if vae is None:
        raise EditError("An image needs the VAE to be encoded; wire it, or a latent in place of both.")
    return memo.recall("scene", (image, vae), lambda: _encode(image, vae, side), (side,))


def _encode(image: Tensor, vae: Any, side: int) -> Scene:
    rgb, _ = from_host(image)
    fitted = fit(rgb, side)
    latent = vae.encode(fitted.pixels.movedim(1, -1).clamp(0, 1))
    _check(latent, "What the VAE makes")
    return Scene(latent, fitted, rgb)


def _check(latent: Tensor, what: str) -> None:
    if latent.ndim != 4 or latent.shape[1] != 4:
        raise EditError(f"{what} has the shape {tuple(latent.shape)}; SwiftEdit takes Stable Diffusion's [b, 4, h, w].")
    if not bool(torch.isfinite(latent).all()):
        raise EditError(f"{what} holds NaN or infinite values.")


def overlay(picture: Tensor, mask: Tensor) -> Tensor:
    """Pictures [b, 3, h, w] with masks [b, h, w] in red on them; one of either serves all of the other."""
    tint = torch.tensor(TINT)[None, :, None, None].to(picture)
    weight = 0.6 * mask[:, None].to(picture)
    return picture * (1 - weight) + tint * weight
