"""CLIP's cosines: of two pictures (CLIP-I), of a picture and a caption (CLIP-T, CLIP-Out, CLIP whole and edited)."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from . import missing, transformer
from .views import prepared

MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
KEPT = 8  # pictures whose embedding is kept: a sample's own, looked at by several metrics


class Clip:
    """One CLIP, by its folder. Captions longer than it takes are cut at their end."""

    def __init__(self, known: transformer.Known, models: Path | None):
        from transformers import AutoTokenizer

        self.model, folder = transformer.load(known, models)
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(folder, **transformer.FROM_FOLDER)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise missing.damaged(f"The tokenizer in {folder}", str(error).splitlines()[0]) from None
        self.identity, self._seen = transformer.identity(folder), {}

    def image(self, picture: Image.Image) -> Tensor:
        """The unit vector [d] of a picture."""
        key = (id(picture), picture.size)
        if key not in self._seen or self._seen[key][0] is not picture:
            self._seen[key] = picture, self._image(picture)
            while len(self._seen) > KEPT:
                self._seen.pop(next(iter(self._seen)))
        return self._seen[key][1]

    def _image(self, picture: Image.Image) -> Tensor:
        side = self.model.config.vision_config.image_size
        pixels = torch.from_numpy(prepared(picture, side, side, MEAN, DEVIATION))[None]
        with torch.inference_mode():
            return _unit(self.model.get_image_features(pixel_values=pixels.to(self.model.device)))

    def text(self, caption: str) -> Tensor:
        """The unit vector [d] of a caption."""
        longest = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer([caption], truncation=True, max_length=longest, return_tensors="pt")
        given = {name: tokens[name].to(self.model.device) for name in ("input_ids", "attention_mask")}
        with torch.inference_mode():
            return _unit(self.model.get_text_features(**given))

    def images(self, one: Image.Image, other: Image.Image) -> float:
        """The cosine of two pictures."""
        return float(self.image(one) @ self.image(other))

    def caption(self, picture: Image.Image, caption: str) -> float:
        """The cosine of a picture and a caption."""
        return float(self.image(picture) @ self.text(caption))

    def score(self, picture: Image.Image, caption: str) -> float:
        """CLIP score: the cosine times 100, at least 0 (Hessel et al. 2021, as torchmetrics has it)."""
        return max(100 * self.caption(picture, caption), 0.0)


def edited(image: np.ndarray, region: np.ndarray) -> Image.Image:
    """The picture with all but the region black, as PIE-Bench's score of the edited part sees it."""
    return Image.fromarray(np.round(image * region[..., None] * 255).astype(np.uint8))


def _unit(features) -> Tensor:
    """transformers 5 gives the features inside an output, earlier ones as a tensor."""
    features = features if isinstance(features, Tensor) else features.pooler_output
    return F.normalize(features[0].float(), dim=-1).cpu()
