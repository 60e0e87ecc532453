"""The torch model on a bundle's fixed canvas: what a phone or a browser computes, without their rounding."""

from dataclasses import replace
from types import SimpleNamespace

import torch
from torch import Tensor

from editkit.models.mobile.canvas import mirrored


class Mirrored:
    """A BlazeEdit whose networks see every working picture mirrored up to side x side, as those of a bundle do."""

    def __init__(self, model, side: int):
        sizes = {name: min(getattr(model.config, name), side) for name in ("fill_size", "map_size", "sticker_size")}
        self.model, self.side, self.config = model, side, replace(model.config, **sizes)
        codec = model.autoencoder
        self.autoencoder = SimpleNamespace(
            mean=codec.mean, decode=codec.decode, encode=lambda image: codec.encode(self.whole(image))
        )
        self.shadow_head, self.relight_head = (self.head(h) for h in (model.shadow_head, model.relight_head))

    def whole(self, x: Tensor) -> Tensor:
        return mirrored(x, self.side, self.side)

    def head(self, net):
        size = self.config.gain_size
        return lambda image, signal: net(mirrored(image, size, size), mirrored(signal, size, size))[
            ..., : image.shape[-2], : image.shape[-1]
        ]

    @torch.no_grad()
    def conditions(self, image: Tensor, mask: Tensor, tau: float, guess: Tensor):
        return self.model.features(self.whole(image), self.whole(mask), tau), self.autoencoder.encode(guess)

    def denoise(self, *inputs) -> Tensor:
        return self.model.denoise(*inputs)

    def canvas(self, height: int, width: int) -> tuple[int, int]:
        return self.side, self.side
