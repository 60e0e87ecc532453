"""The networks of a SwiftEdit training, from local folders, and what they compute. Nothing is ever downloaded."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...models.errors import EditError
from ...models.swiftedit import checkpoint, processor
from ...models.swiftedit.branch import TOKENS, ImageProjection
from ...models.swiftedit.generators import LATENT_SCALE, OneStep
from .folders import Folders, read_json

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class Frozen(nn.Module):
    """All that is not trained: text encoder, VAE, generator, and where they are needed image encoder and teacher."""

    def __init__(self, folders: Folders):
        super().__init__()
        from diffusers import AutoencoderKL
        from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

        self.tokenizer = load(CLIPTokenizer, folders.tokenizer)
        self.text = load(CLIPTextModel, folders.text)
        self.vae = load(AutoencoderKL, folders.vae)
        self.generator = load_unet(folders.generator)
        self.vision = load(CLIPVisionModelWithProjection, folders.vision) if folders.vision else None
        self.teacher = load_unet(folders.teacher) if folders.teacher else None
        self.prediction = folders.prediction
        self.view = image_view(folders.vision) if folders.vision else {}
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True):
        return super().train(False)

    @property
    def shrinks(self) -> int:
        """Pixels per latent cell, along a side."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    def tokens(self, captions: list[str]) -> Tensor:
        """Token ids [b, n], padded to the text encoder's length."""
        length = min(self.tokenizer.model_max_length, self.text.config.max_position_embeddings)
        options = {"padding": "max_length", "max_length": length, "truncation": True, "return_tensors": "pt"}
        return self.tokenizer(captions, **options).input_ids

    @torch.no_grad()
    def context(self, ids: Tensor) -> Tensor:
        """c_y: token ids [b, n] to text embeddings [b, n, c]."""
        return self.text(ids)[0]

    @torch.no_grad()
    def embedding(self, image: Tensor) -> Tensor:
        """c_x before its projection: CLIP's embedding [b, e] of pictures [b, 3, h, w] in 0..1."""
        return self.vision(clip_pixels(image, **self.view)).image_embeds

    @torch.no_grad()
    def encode(self, image: Tensor) -> Tensor:
        """E(x): pictures [b, 3, h, w] in 0..1 to latents [b, 4, h/8, w/8] in the networks' scale, the mode."""
        return self.vae.encode(2 * image - 1).latent_dist.mode().float() * LATENT_SCALE

    def decode(self, latent: Tensor) -> Tensor:
        """D(z): latents in the networks' scale to pictures [b, 3, h, w] around 0..1, not clamped."""
        return self.vae.decode(latent / LATENT_SCALE).sample.float() / 2 + 0.5


class ImagePrompt(nn.Module):
    """The trained part of G^IP: the image projection, and to_{k,v}_ip where the generator's attention uses them."""

    def __init__(self, generator: nn.Module, embedding: int):
        super().__init__()
        made = processor.install(generator)
        self.context = generator.config.cross_attention_dim
        self.projection = ImageProjection(embedding, self.context)
        self.layers = nn.ModuleList(made.values())
        self.requires_grad_(True)

    def tokens(self, embedding: Tensor) -> Tensor:
        """CLIP's embedding [b, e] to image tokens [b, 4, c]."""
        return self.projection(embedding)

    def no_tokens(self, count: int, like: Tensor) -> Tensor:
        """Tokens that say nothing, for calls within `off`."""
        return like.new_zeros(count, TOKENS, self.context)

    @contextmanager
    def off(self) -> Iterator[None]:
        """Within the block the generator is the plain G again: its image terms count nothing."""
        before = [layer.scale for layer in self.layers]
        try:
            for layer in self.layers:
                layer.scale = 0.0
            yield
        finally:
            for layer, scale in zip(self.layers, before, strict=True):
                layer.scale = scale


def generate(
    network: nn.Module,
    family: OneStep,
    start: Tensor,
    context: Tensor,
    branch: ImagePrompt | None = None,
    embedding: Tensor | None = None,
) -> Tensor:
    """One call of G^IP, or of G without an embedding: x_T [b, 4, h, w] and c_y [b, n, c] to a latent (Eqs. 4, 5)."""
    plain = nullcontext()
    if branch is not None:
        given = embedding is not None
        tokens = branch.tokens(embedding) if given else branch.no_tokens(len(context), context)
        context = torch.cat([context, tokens.to(context.dtype)], 1)
        plain = nullcontext() if given else branch.off()
    with plain:
        return family.latent(start, call(network, start, family.timestep, context))


def call(network: nn.Module, sample: Tensor, timestep: int | Tensor, context: Tensor) -> Tensor:
    """What a diffusers UNet predicts for a sample [b, 4, h, w], in fp32 whatever it computes in."""
    return network(sample, timestep, context).sample.float()


def inversion_of(generator: nn.Module) -> nn.Module:
    """F_theta before training: the generator's architecture and weights (Sec. 4.1). To be made before ImagePrompt."""
    return copy.deepcopy(generator).requires_grad_(True)


def clip_pixels(image: Tensor, size: int = 224, mean=CLIP_MEAN, std=CLIP_STD) -> Tensor:
    """What CLIP's image encoder sees: the shorter side at `size` (bicubic), the middle square, normalised.

    image: [b, 3, h, w] in 0..1. Returns [b, 3, size, size].
    """
    scale = size / min(image.shape[-2:])
    shape = [max(size, int(side * scale)) for side in image.shape[-2:]]
    image = F.interpolate(image.float().clamp(0, 1), shape, mode="bicubic", antialias=True).clamp(0, 1)
    top, left = ((side - size) // 2 for side in shape)
    middle = image[..., top : top + size, left : left + size]
    mean, std = (torch.tensor(x, device=image.device)[:, None, None] for x in (mean, std))
    return (middle - mean) / std


def image_view(folder: Path) -> dict:
    """`clip_pixels`' options from the image encoder's config and, where there is one, its preprocessor's."""
    view = {"size": read_json(folder / "config.json").get("image_size", 224)}
    if (folder / "preprocessor_config.json").is_file():
        config = read_json(folder / "preprocessor_config.json")
        view |= {k: tuple(config[f"image_{k}"]) for k in ("mean", "std") if f"image_{k}" in config}
    return view


def load(kind: type, folder: Path):
    """A network of diffusers or transformers in fp32, or a tokenizer. EditError when it is damaged or another one."""
    options = {"local_files_only": True}
    if issubclass(kind, nn.Module):
        options["output_loading_info"] = True
    try:
        loaded = kind.from_pretrained(str(folder), **options)
    except Exception as error:  # each library has exceptions of its own for a damaged folder
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:160]
        raise EditError(
            f"{folder} cannot be read as a {kind.__name__} ({reason}); download it again."
        ) from None
    if not issubclass(kind, nn.Module):
        return loaded
    network, info = loaded
    if info["missing_keys"]:  # which the libraries would leave at random
        raise EditError(
            f"The weights in {folder} lack {min(info['missing_keys'])}; it is not a whole {kind.__name__}."
        )
    return network.float()


def load_unet(folder: Path) -> nn.Module:
    """A diffusers UNet in fp32 from any of the forms that releases have. EditError for weights that do not fit."""
    from diffusers import UNet2DConditionModel

    config, state = checkpoint.read_unet(folder)
    unet = UNet2DConditionModel.from_config(config)
    try:
        unet.load_state_dict(state)
    except RuntimeError:
        raise EditError(
            f"The weights in {folder} are not those of its config.json; download it again."
        ) from None
    return unet
