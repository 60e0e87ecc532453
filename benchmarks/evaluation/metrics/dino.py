"""DINO (Caron et al. 2021): the cosine of two pictures by ViT-S/16, and the structure distance by ViT-B/8's keys."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ....models.errors import EditError
from . import transformer
from .views import prepared

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RESIZED, CROP = 256, 224  # MagicBrush's evaluation
SIDE, LONGEST = 224, 480  # PIE-Bench's evaluation: the shorter side, and the most of the longer one


class Dino:
    """ViT-S/16: the class token after the last norm is a picture's embedding, as torch.hub's dino_vits16 gives it."""

    def __init__(self, known: transformer.Known, models: Path | None):
        self.model, folder = transformer.load(known, models, add_pooling_layer=False)
        self.identity = transformer.identity(folder)

    def images(self, one: Image.Image, other: Image.Image) -> float:
        """The cosine of two pictures."""
        return float(F.cosine_similarity(self._image(one), self._image(other), dim=0))

    def _image(self, picture: Image.Image) -> Tensor:
        side = self.model.config.image_size
        resized = round(side * RESIZED / CROP)
        pixels = torch.from_numpy(prepared(picture, resized, side, MEAN, DEVIATION))[None]
        with torch.inference_mode():
            return self.model(pixel_values=pixels.to(self.model.device)).last_hidden_state[0, 0].float().cpu()


class Structure:
    """ViT-B/8: how far the self-similarity of the last layer's keys is from that of another picture (Tumanyan 2022)."""

    def __init__(self, known: transformer.Known, models: Path | None):
        self.model, folder = transformer.load(known, models, add_pooling_layer=False)
        self.identity = transformer.identity(folder)

    def distance(self, one: np.ndarray, other: np.ndarray) -> float:
        """The mean squared difference of the two self-similarities, of pictures [h, w, 3] of one size."""
        return float(F.mse_loss(self._similarity(one), self._similarity(other)))

    def _similarity(self, image: np.ndarray) -> Tensor:
        """Cosines of all pairs of tokens by their keys, heads joined: [t, t]."""
        held: list[Tensor] = []
        hook = _keys(self.model).register_forward_hook(lambda module, given, made: held.append(made))
        try:
            with torch.inference_mode():
                self.model(pixel_values=self._seen(image).to(self.model.device), interpolate_pos_encoding=True)
        finally:
            hook.remove()
        keys = held[0][0].float()
        lengths = keys.norm(dim=-1, keepdim=True)
        return ((keys @ keys.T) / (lengths @ lengths.T).clamp_min(1e-8)).cpu()

    def _seen(self, image: np.ndarray) -> Tensor:
        """As the official evaluation gives a picture to the network: levels of 0 to 255, normalised as if 0..1."""
        pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None] * 255
        size = _resized(*image.shape[:2])
        pixels = F.interpolate(pixels, size, mode="bilinear", align_corners=False, antialias=True)
        mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, DEVIATION))
        return (pixels - mean) / deviation


def _resized(height: int, width: int) -> tuple[int, int]:
    """The shorter side at SIDE, unless the longer one would pass LONGEST; as torchvision's Resize counts."""
    shorter, longer = min(height, width), max(height, width)
    new_shorter, new_longer = SIDE, int(SIDE * longer / shorter)
    if new_longer > LONGEST:
        new_shorter, new_longer = int(LONGEST * new_shorter / new_longer), LONGEST
    return (new_shorter, new_longer) if height <= width else (new_longer, new_shorter)


def _keys(model) -> torch.nn.Module:
    """The key projection of the last layer, under whatever name this version of transformers has for it."""
    named = [module for name, module in model.named_modules() if name.rsplit(".", 1)[-1] in ("key", "k_proj")]
    if not named:
        raise EditError("This version of transformers keeps the keys of ViT elsewhere; use one from 4.40 on.")
    return named[-1]
