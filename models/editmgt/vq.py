"""The VQ tokenizer: pictures to ids of a codebook and back, on diffusers' VQModel.

Vectors are rows of the codebook, laid out as a latent [b, c, h, w]; ids and vectors say the same.
"""

import torch
from torch import Tensor, nn

from ..errors import EditError


def build(data: dict):
    """diffusers' VQModel of a config.json, without weights (on the meta device). EditError for a wrong config."""
    from diffusers import VQModel

    try:
        with torch.device("meta"):
            return VQModel.from_config({k: v for k, v in data.items() if not k.startswith("_")})
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise EditError(f"The VQ tokenizer's config.json is not a VQModel's ({error}).") from None


class VQ(nn.Module):
    """A VQModel with the release's conventions: pictures are [b, 3, h, w] in 0..1, ids [b, h/16, w/16] int64."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    @property
    def codebook(self) -> Tensor:
        """All codes [n, c]."""
        return self.model.quantize.embedding.weight

    @property
    def scale(self) -> int:
        """Pixels per token and side."""
        return 2 ** (len(self.model.config.block_out_channels) - 1)

    def latents(self, image: Tensor) -> Tensor:
        """What the encoder says of a picture [b, 3, h, w] before it is made codes: [b, c, h/16, w/16], in float32.

        EditError for sides that are not multiples of a token.
        """
        height, width = image.shape[-2:]
        if height % self.scale or width % self.scale or not height or not width:
            raise EditError(
                f"A picture of {width}x{height} does not divide into tokens of {self.scale} pixels; pad it first."
            )
        self._encode_in_float32()
        with torch.autocast(image.device.type, enabled=False):
            return self.model.quant_conv(self.model.encoder(image.float()))

    def encode(self, image: Tensor) -> Tensor:
        """The ids of a picture [b, 3, h, w]; always in float32, as less would choose other codes."""
        return self._nearest(self.latents(image))

    def vectors(self, ids: Tensor) -> Tensor:
        """The codes [b, c, h, w] of ids [b, h, w]. An id that is no code ([MASK]) counts as 0."""
        known = (ids >= 0) & (ids < len(self.codebook))
        # in the usual layout: convolutions of the other one round differently, which 16 layers make visible
        return self.codebook[torch.where(known, ids, 0)].permute(0, 3, 1, 2).contiguous()

    def ids(self, vectors: Tensor) -> Tensor:
        """The ids [b, h, w] of codes [b, c, h, w], exactly. EditError for another number of channels."""
        if vectors.ndim != 4 or vectors.shape[1] != self.codebook.shape[1]:
            raise EditError(
                f"The latent has the shape {list(vectors.shape)}, and EditMGT's have {self.codebook.shape[1]} "
                "channels; encode the picture with EditMGT's own VAE."
            )
        ids = self._nearest(vectors)
        unlike = (self.vectors(ids) != vectors.to(self.codebook)).any(1)
        if unlike.any():
            # by differences, which is slow: the product cannot tell codes apart that are very near to each other
            flat = vectors.permute(0, 2, 3, 1)[unlike].float()
            distances = torch.cdist(flat, self.codebook.float(), compute_mode="donot_use_mm_for_euclid_dist")
            ids[unlike] = distances.argmin(-1)
        return ids

    def raw(self, vectors: Tensor) -> Tensor:
        """The decoder's picture of codes [b, c, h, w], not clipped: [b, 3, 16h, 16w]."""
        conv, spatial = self.model.post_quant_conv, self.model.config.norm_type == "spatial"
        vectors = vectors.to(conv.weight)
        return self.model.decoder(conv(vectors), vectors if spatial else None)

    def picture(self, vectors: Tensor) -> Tensor:
        """The picture of codes [b, c, h, w] in float32, clipped to 0..1."""
        return self.raw(vectors).float().clamp(0, 1)

    def decode(self, ids: Tensor) -> Tensor:
        """The picture of ids [b, h, w] in float32, clipped to 0..1."""
        return self.picture(self.vectors(ids))

    def _nearest(self, vectors: Tensor) -> Tensor:
        codes = self.codebook.float()
        flat = vectors.permute(0, 2, 3, 1).flatten(1, 2).float()
        # one picture at a time: the distances of 4096 tokens to 8192 codes are 134 MB
        found = [torch.cdist(one, codes).argmin(-1) for one in flat]
        return torch.stack(found).unflatten(1, vectors.shape[-2:])

    def _encode_in_float32(self) -> None:
        for part in (self.model.encoder, self.model.quant_conv, self.model.quantize):
            if next(part.parameters()).dtype != torch.float32:
                part.float()
