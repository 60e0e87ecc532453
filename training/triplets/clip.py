"""CLIP's two checks of an edit (A.1), and an aesthetic score by a head on CLIP's picture vector."""

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ...models.errors import EditError
from .language import pretrained

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor


@dataclass
class Clip:
    """CLIP of a transformers folder; loaded when it is first asked."""

    folder: Path
    _held: tuple | None = None
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self):
        if not (self.folder / "config.json").is_file():
            raise EditError(f"{self.folder} holds no config.json; name a folder of CLIP in transformers' format.")

    def compare(self, source: "Image.Image", target: "Image.Image", caption: str | None) -> tuple[float | None, float]:
        """Cosines, −1 to 1: the result with its caption (None without one), and with the source."""
        vectors = self.vectors([source, target])
        text = None if caption is None else float(vectors[1] @ self.words(caption))
        return text, float(vectors[0] @ vectors[1])

    def vectors(self, pictures: list["Image.Image"]) -> "Tensor":
        """[n, d] unit vectors, fp32, of pictures in RGB."""
        return self._made("vision_model", "visual_projection", images=pictures)

    def words(self, text: str) -> "Tensor":
        """[d], the unit vector of a text, cut to what CLIP reads."""
        return self._made("text_model", "text_projection", text=[text], padding=True, truncation=True)[0]

    def _made(self, tower: str, projection: str, **given) -> "Tensor":
        import torch

        with self._turn, torch.inference_mode():
            if self._held is None:
                self._held = pretrained(self.folder, "CLIPModel", "AutoProcessor")
            model, processor = self._held
            inputs = processor(**given, return_tensors="pt").to(model.device)
            if "pixel_values" in inputs:
                inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
            pooled = getattr(model, tower)(**inputs).pooler_output
            made = getattr(model, projection)(pooled).float().cpu()
        return torch.nn.functional.normalize(made, dim=-1)


@dataclass
class Aesthetics:
    """LAION's aesthetic predictors: linear layers, one after the other, on CLIP's unit vector. head: a .safetensors
    with their weights and biases (the linear one has a single pair, the "improved" one five)."""

    clip: Clip
    head: Path
    layers: list = field(default_factory=list)

    def __post_init__(self):
        """EditError for a file that holds no such layers."""
        from safetensors.torch import load_file

        try:
            found = load_file(self.head)
        except Exception as error:  # safetensors raises its own kind, which has no common base
            raise EditError(f"--aesthetic-head {self.head} is not readable as safetensors ({error}).") from None
        names = sorted((n for n in found if n.endswith("weight") and found[n].ndim == 2), key=_order)
        self.layers = [(found[n].float(), found[n.removesuffix("weight") + "bias"].float()) for n in names
                       if n.removesuffix("weight") + "bias" in found]  # fmt: skip
        widths = [weight.shape for weight, _ in self.layers]
        chained = all(after[1] == before[0] for before, after in zip(widths, widths[1:]))
        if not widths or widths[-1][0] != 1 or not chained:
            raise EditError(f"--aesthetic-head {self.head} holds no linear layers that end in one score.")

    def score(self, picture: "Image.Image") -> float:
        """About 1 to 10. EditError for a head that belongs to another CLIP."""
        made = self.clip.vectors([picture])[0]
        if made.shape[0] != self.layers[0][0].shape[1]:
            raise EditError(
                f"--aesthetic-head {self.head} takes vectors of {self.layers[0][0].shape[1]} numbers and "
                f"{self.clip.folder} gives {made.shape[0]}; name the CLIP that it was made for with --aesthetic-clip "
                "(LAION's: ViT-L/14)."
            )
        for weight, bias in self.layers:
            made = weight @ made + bias
        return float(made)


def _order(name: str) -> list:
    """Layers by their numbers: layers.10 after layers.2."""
    return [int(part) if part.isdecimal() else -1 for part in name.split(".")]
