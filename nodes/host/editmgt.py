"""EditMGT as what ComfyUI's own nodes know: a MODEL, a CLIP and a VAE. The same objects work without ComfyUI."""

import copy
import weakref
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...models.editmgt.colours import Colours, mosaic
from ...models.editmgt.config import TEXT_TOKENS
from ...models.editmgt.options import TIMES, Text
from ...models.errors import EditError
from .devices import (
    Managed,
    in_comfyui,
    intermediate_device,
    load_device,
    managed,
    offload_device,
    operations,
)
from .folders import editmgt_folder

if TYPE_CHECKING:
    from ...models.editmgt.checkpoint import Parts
    from ...models.editmgt.transformer import EditMGT
    from ...models.editmgt.vq import VQ
    from ...models.editmgt.worn import Worn

TOKENS = "editmgt_tokens"  # the ids, beside a LATENT's codebook vectors
ATTENTION = "editmgt_attention"  # what a run read of it: [steps, b, n], and its grid
ATLAS = "editmgt_atlas"  # the Atlas that a run filled
WORN = "editkit_editmgt_loras"  # the LoRAs of a ModelPatcher, among its attachments
DTYPES = {"default": None, "fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Model(nn.Module):
    """What ComfyUI asks of a model: its network, latent format, type and memory.

    schedule, time: what it was trained with. worn: the LoRAs of the MODEL that `network` was given.
    """

    worn: "tuple[Worn, ...]" = ()

    def __init__(self, network: "EditMGT", codebook: Tensor, schedule: str, time: str, colours: Colours):
        super().__init__()
        self.diffusion_model, self.schedule, self.time = network, schedule, time
        self.register_buffer("codebook", codebook.float(), persistent=False)
        self.latent_format = _latent_format(codebook.shape[1], colours)
        self.model_config = SimpleNamespace(unet_config={}, latent_format=self.latent_format)
        self.model_sampling = SimpleNamespace(sigma_max=1.0, sigma_min=0.0)

    def get_dtype(self) -> torch.dtype:
        return next(self.diffusion_model.parameters()).dtype

    def memory_required(self, input_shape, cond_shapes=None) -> float:
        """Bytes for a step on [b, c, h, w] tokens with guidance: tokens of the blocks times what a block holds."""
        tokens = 2 * input_shape[0] * (2 * input_shape[-1] * input_shape[-2] // 4 + TEXT_TOKENS)
        return tokens * self.diffusion_model.config.width * 64.0

    def process_latent_in(self, latent: Tensor) -> Tensor:
        return latent

    def process_latent_out(self, latent: Tensor) -> Tensor:
        return latent

    def vectors(self, ids: Tensor) -> Tensor:
        """Codebook vectors [b, c, h, w] of ids; what is no code counts as 0."""
        known = torch.where((ids >= 0) & (ids < len(self.codebook)), ids, 0)
        return self.codebook.to(ids.device)[known].permute(0, 3, 1, 2).contiguous()

    def ids(self, vectors: Tensor) -> Tensor:
        """Ids [b, h, w] of codebook vectors."""
        flat = vectors.permute(0, 2, 3, 1).flatten(1, 2).float()
        codes = self.codebook.to(vectors.device)
        found = torch.stack([torch.cdist(one, codes).argmin(-1) for one in flat])
        return found.unflatten(1, vectors.shape[-2:])


def _latent_format(channels: int, colours: Colours):
    """Its colours are fitted when a preview asks for them, which is only where previews are on."""
    if in_comfyui():
        from comfy.latent_formats import LatentFormat as Base
    else:
        Base = SimpleNamespace

    class LatentFormat(Base):
        latent_channels, latent_dimensions = channels, 2
        latent_rgb_factors = property(lambda self: colours.fit()[0].tolist())
        latent_rgb_factors_bias = property(lambda self: colours.fit()[1].tolist())

    return LatentFormat()


def load(folder: str, dtype: str = "default"):
    """(MODEL, CLIP, VAE) of an EditMGT or Meissonic folder. EditError for a missing, incomplete or damaged one."""
    from ...models.editmgt import checkpoint  # the networks' code, only when one is loaded

    parts = checkpoint.find(editmgt_folder(folder))
    settings = checkpoint.settings(parts)
    vq = checkpoint.load_vq(parts)
    chosen = DTYPES[dtype] or _best_dtype()
    vae = Vae(managed(vq.eval(), parts.folder, whole=True))
    time = checkpoint.trained_time(parts.folder) or TIMES[0]
    network = checkpoint.load_transformer(parts, chosen, offload_device(), operations())
    model = Model(network, vq.codebook.detach().clone(), settings.masking_schedule, time, vae.colours).eval()
    return _as_model(managed(model, parts.folder)), Clip.load(parts, chosen), vae


def _best_dtype() -> torch.dtype:
    """bf16 where the device computes in it, else fp32: fp16 is too small for Gemma, and for some blocks."""
    device = load_device()
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.bfloat16
    return torch.float32


def _as_model(model: Managed):
    """A ModelPatcher in ComfyUI; otherwise the holder itself."""
    return model.patcher if model.patcher is not None else model


def module(model) -> Model:
    """The model of a MODEL, wherever it is. EditError for another system's."""
    found = model.model if hasattr(model, "model") else getattr(model, "module", None)
    if type(found).__name__ != "Model" or not hasattr(found, "codebook"):
        raise EditError(f"The MODEL is {type(found).__name__}; EditMGT needs the one of Load EditMGT.")
    return found


def network(model) -> Model:
    """The model of a MODEL, ready on the computing device, with the MODEL's LoRAs. EditError for another system's."""
    found = module(model)
    if isinstance(model, Managed):
        model.ready()
    else:
        import comfy.model_management

        comfy.model_management.load_models_gpu([model])
    worn = worn_by(model)
    if not worn:
        return found
    view = copy.copy(found)  # the same weights: clones of a MODEL share them and differ in what they wear
    view.worn, view.time = worn, next((one.time for one in reversed(worn) if one.time), found.time)
    return view


@dataclass(frozen=True)
class Dressed(Managed):
    """A MODEL of the in-process runner with LoRAs."""

    worn: "tuple[Worn, ...]" = ()


def worn_by(model) -> "tuple[Worn, ...]":
    """The LoRAs of a MODEL, the first one first."""
    if isinstance(model, Managed):
        return getattr(model, "worn", ())
    return getattr(model, "attachments", {}).get(WORN, ())


def wearing(model, worn: "Worn"):
    """A clone of a MODEL with one more LoRA; weights are shared, and the given one stays as it is."""
    stack = (*worn_by(model), worn)
    if isinstance(model, Managed):
        return Dressed(model.module, source=model.source, worn=stack)
    clone = model.clone()
    clone.attachments[WORN] = stack
    return clone


@dataclass
class Clip:
    """The instruction's encoders: Gemma's states and CLIP's pooled vector (base Meissonic: CLIP's of both)."""

    gemma: Managed | None
    clip: Managed
    gemma_tokenizer: object | None
    clip_tokenizer: object
    dtype: torch.dtype = torch.float32
    _known: dict = field(default_factory=dict)

    @classmethod
    def load(cls, parts: "Parts", dtype: torch.dtype) -> "Clip":
        from ...models.editmgt import checkpoint, prompts

        dtype = torch.float32 if dtype == torch.float16 else dtype  # fp16 is too small for Gemma
        gemma = tokenizer = None
        if parts.llm_encoder is not None:
            tokenizer = prompts.load_gemma(parts.llm_encoder)
            gemma = managed(checkpoint.load_gemma(parts, dtype, offload_device(), operations()), parts.folder)
        clip = managed(checkpoint.load_clip(parts, dtype, offload_device(), operations()), parts.folder)
        return cls(gemma, clip, tokenizer, prompts.load(parts.tokenizer), dtype)

    def encode(self, texts: list[str]) -> Text:
        """States [b, t, c] and pooled [b, p] of instructions, on the device of intermediate results."""
        rows = [self._one(text) for text in texts]
        return Text(torch.cat([r.states for r in rows]), torch.cat([r.pooled for r in rows]))

    def _one(self, text: str) -> Text:
        if text not in self._known:
            while len(self._known) >= 32:
                self._known.pop(next(iter(self._known)))
            self._known[text] = self._encode(text)
        return self._known[text]

    @torch.no_grad()
    def _encode(self, text: str) -> Text:
        from ...models.editmgt import prompts

        device = load_device()
        encoded = self.clip.ready()(prompts.clip_ids(self.clip_tokenizer, [text]).to(device), self.dtype)
        states = encoded.states
        if self.gemma is not None:
            states = self.gemma.ready()(prompts.gemma_ids(self.gemma_tokenizer, [text]).to(device), self.dtype)
        out = intermediate_device()
        return Text(states.float().to(out), encoded.pooled.float().to(out))

    def rows(self, instruction: str, keyword: str, occurrence: int = 1, released: bool = False) -> Tensor:
        """The rows of the text axis that a keyword of the instruction has. EditError where it is not in it.

        released: the rows that the released code took for it, by CLIP's tokenizer.
        """
        if self.gemma_tokenizer is None:
            raise EditError("Keywords need Gemma's tokenizer, which base Meissonic does not have.")
        from ...models.editmgt import prompts

        if released:
            return prompts.released_rows(self.clip_tokenizer, instruction, keyword)
        return prompts.keyword_rows(self.gemma_tokenizer, instruction, keyword, occurrence)

    # what ComfyUI's own Clip Text Encode calls
    def tokenize(self, text: str, **_) -> dict:
        return {"text": text}

    def encode_from_tokens_scheduled(self, tokens: dict, **_) -> list:
        encoded = self.encode([tokens["text"]])
        return [[encoded.states, {"pooled_output": encoded.pooled}]]

    def encode_from_tokens(self, tokens: dict, return_pooled=False, **_):
        encoded = self.encode([tokens["text"]])
        return (encoded.states, encoded.pooled) if return_pooled else encoded.states

    def clone(self) -> "Clip":
        return self


class Vae:
    """The VQ tokenizer as a VAE: pictures [b, h, w, 3] in 0..1 to codebook vectors [b, c, h/16, w/16] and back."""

    downscale_ratio = upscale_ratio = 16
    latent_dim, output_channels = 2, 3

    def __init__(self, vq: Managed):
        self.vq = vq
        self.latent_channels = vq.module.codebook.shape[1]
        self.colours = Colours(self.latent_channels, weakref.WeakMethod(self.show_codes))

    def show_codes(self) -> None:
        """Decodes 256 codes of the whole codebook, so that previews have colours before the first picture is seen.

        A sixteenth of what decoding a picture of 1024 px takes, and only where previews are on.
        """
        self.decode(mosaic(self.vq.module.codebook))

    @property
    def first_stage_model(self) -> "VQ":
        return self.vq.module

    def encode(self, pixels: Tensor, *_, **__) -> Tensor:
        """Sides are cut to whole tokens in the middle, as ComfyUI's VAEs do."""
        for axis in (1, 2):
            side = pixels.shape[axis]
            pixels = pixels.narrow(axis, side % 16 // 2, side // 16 * 16)
        return self._encoded(pixels[..., :3].movedim(-1, 1))[1]

    def tokens(self, image: Tensor, tile: int = 0) -> Tensor:
        """The ids [b, h/16, w/16] of pictures [b, 3, h, w]; tile: the side in pixels of tiles that are read alone."""
        return self._encoded(image, tile)[0]

    @torch.no_grad()
    def _encoded(self, image: Tensor, tile: int = 0) -> tuple[Tensor, Tensor]:
        """Ids and vectors of pictures [b, 3, h, w], one at a time."""
        from ...models.editmgt.tiles import encoded, tiles

        vq, layout = self.vq.ready(), tiles(tuple(n // 16 for n in image.shape[-2:]), tile // 16)
        ids = [encoded(lambda part: vq.encode(part.to(load_device())), one[None], layout) for one in image]
        vectors = torch.cat([vq.vectors(one) for one in ids]).to(intermediate_device())
        self.colours.add(vectors, image.to(vectors))
        return torch.cat(ids).to(intermediate_device()), vectors

    def decode(self, samples: Tensor, *_, tile: int = 0, **__) -> Tensor:
        """Pictures [b, 16h, 16w, 3] of vectors; tile: the side in pixels of tiles that are decoded one at a time."""
        return self.decode_tiled(samples, tile // 16, tile // 16)

    @torch.no_grad()
    def decode_tiled(
        self, samples: Tensor, tile_x: int = 64, tile_y: int = 64, overlap: int | None = None, **_
    ) -> Tensor:
        """The same by overlapping tiles, blended; their size and overlap are in tokens, 0 for no tiles."""
        from ...models.editmgt.tiles import decoded, tiles

        layout, vq = tiles(tuple(samples.shape[-2:]), (tile_y, tile_x), overlap), self.vq.ready()
        out = intermediate_device()
        pictures = torch.cat([
            decoded(lambda part: vq.picture(part.to(load_device())).to(out), one[None], layout) for one in samples
        ])  # fmt: skip
        self.colours.add(samples.to(pictures), pictures)
        return pictures.movedim(1, -1)

    # tiles would not see their surroundings, and choose other codes
    encode_tiled = encode

    def spacial_compression_encode(self) -> int:
        return 16

    spacial_compression_decode = spacial_compression_encode

    def temporal_compression_decode(self) -> None:
        return None

    def throw_exception_if_invalid(self) -> None:
        return None


def latent(model: Model, tokens: Tensor, **more) -> dict:
    """A LATENT of tokens [b, h, w]: their vectors, the ids beside them."""
    tokens = tokens.to(intermediate_device())
    return {"samples": model.vectors(tokens), TOKENS: tokens, **more}


def tokens_of(model: Model, samples: dict) -> Tensor:
    """The ids of a LATENT, from beside its vectors where they still belong to them. EditError for another VAE's."""
    vectors, kept = samples["samples"], samples.get(TOKENS)
    if vectors.ndim != 4 or vectors.shape[1] != model.codebook.shape[1]:
        raise EditError(
            f"The latent has the shape {list(vectors.shape)} and EditMGT's have {model.codebook.shape[1]} channels; "
            "encode the picture with the VAE of Load EditMGT."
        )
    if kept is not None and kept.shape == vectors[:, 0].shape and torch.equal(model.vectors(kept), vectors):
        return kept
    return model.ids(vectors)


def side_of(model: Model) -> int:
    """The trained square's side in pixels."""
    return 1024 if model.diffusion_model.config.downsample else 512
