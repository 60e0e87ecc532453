"""The numbers of every BlazeEdit configuration; `CONFIGS` names the two that the project knows.

`blazeedit-195m` is the paper's size: 189 M denoiser (Table 1) and 6 M light decoder (section 3.1).
`blazeedit-small` is the same classes with smaller numbers, and ships with trained weights.
"""

from dataclasses import asdict, dataclass, field

from ..errors import EditError


@dataclass(frozen=True)
class CodecConfig:
    """A convolutional encoder or decoder between pixels and f8 latents; channels run from fine to coarse."""

    channels: tuple[int, ...]
    blocks: int
    patch: int = 1  # pixels per side that a pixel-unshuffle stem folds into channels
    norm: bool = True  # group norm; without it the result does not depend on the size of the picture
    linear_path: bool = False  # adds a PCA-initialised linear projection of 8x8 patches

    @property
    def factor(self) -> int:
        return self.patch * 2 ** (len(self.channels) - 1)


@dataclass(frozen=True)
class UViTConfig:
    """A U-ViT: ResNet blocks on all levels but the coarsest, self-attention there (simple diffusion)."""

    channels: tuple[int, int, int]
    blocks: tuple[int, int, int]
    time_channels: int = 0  # 0: no time embedding (map heads)
    head_channels: int = 64
    mlp_ratio: int = 4
    patch: int = 1


@dataclass(frozen=True)
class BlazeEditConfig:
    """The whole system. `guess` adds the latent of a classical first guess, to which x0 is a residual."""

    name: str
    latent_channels: int
    encoder: CodecConfig
    decoder: CodecConfig
    light_decoder: CodecConfig
    condition: CodecConfig
    condition_channels: int
    denoiser: UViTConfig
    prediction: str  # "epsilon" (Eqs. 1 and 2) | "x0"
    schedule: str  # a name in schedule.SCHEDULES
    guess: bool = False
    gain_head: UViTConfig | None = None  # of the shadow head and of the relight head
    gain_size: int = 96  # pixels of the longer side that the gain heads look at
    # longest side of the canvas on which the networks work: of holes (what the training crops taught), of whole
    # pictures, and of stickers
    fill_size: int = 192
    map_size: int = 256
    sticker_size: int = 512
    extra_tasks: dict[str, float] = field(default_factory=dict)  # name -> τ, registered by finetuning

    def to_dict(self) -> dict:
        return asdict(self)


def from_dict(data: dict) -> BlazeEditConfig:
    """Rebuilds a configuration from `to_dict`. EditError when a key is missing or unknown."""
    try:
        parts = dict(data)
        for key in ("encoder", "decoder", "light_decoder", "condition"):
            parts[key] = CodecConfig(**{**parts[key], "channels": tuple(parts[key]["channels"])})
        for key in ("denoiser", "gain_head"):
            if parts.get(key) is not None:
                sizes = {k: tuple(parts[key][k]) for k in ("channels", "blocks")}
                parts[key] = UViTConfig(**{**parts[key], **sizes})
        return BlazeEditConfig(**parts)
    except (KeyError, TypeError) as error:
        raise EditError(
            f"This is not a BlazeEdit configuration ({error}); use a config.json saved by EditKit."
        ) from None


CONFIGS = {
    "blazeedit-195m": BlazeEditConfig(
        name="blazeedit-195m",
        latent_channels=8,
        encoder=CodecConfig((64, 128, 256, 256), 1),
        decoder=CodecConfig((64, 128, 256, 512), 2),
        light_decoder=CodecConfig((32, 96, 176, 256), 3),
        condition=CodecConfig((64, 128, 256, 256), 1),
        condition_channels=256,
        denoiser=UViTConfig((256, 512, 1024), (2, 2, 10), time_channels=960),
        prediction="epsilon",
        schedule="scaled_linear",
        fill_size=512,  # the paper's input, for every task
        map_size=512,
    ),
    "blazeedit-small": BlazeEditConfig(
        name="blazeedit-small",
        latent_channels=32,
        encoder=CodecConfig((64, 128), 2, patch=4, norm=False, linear_path=True),
        decoder=CodecConfig((96, 160), 3, patch=4, norm=False, linear_path=True),
        light_decoder=CodecConfig((64, 96), 2, patch=4, norm=False, linear_path=True),
        condition=CodecConfig((64, 96), 1, patch=4, norm=False),
        condition_channels=64,
        denoiser=UViTConfig((96, 160, 256), (1, 1, 5), time_channels=256),
        prediction="x0",
        schedule="flow",
        guess=True,
        gain_head=UViTConfig((48, 96, 160), (1, 1, 3), head_channels=32, patch=2),
    ),
}


def config(name: str) -> BlazeEditConfig:
    """Returns a named configuration. EditError for an unknown name, naming those that exist."""
    if name not in CONFIGS:
        raise EditError(f"There is no configuration {name!r}; choose one of {', '.join(CONFIGS)}.")
    return CONFIGS[name]
