"""The two stages of SwiftEdit's training (Sec. 4.1)."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from ...models.errors import EditError
from ...models.swiftedit.generators import INVERSION_TIMESTEP, OneStep
from ..loop import Stage
from ..store import Store
from ..tables import split
from . import data
from .networks import Frozen, ImagePrompt, call, generate, inversion_of
from .perceptual import perceptual
from .regularisation import RANGE, WEIGHTINGS, regularisation, teacher_noise, weight

INVERSION, BRANCH = "inversion", "branch"  # parts are saved as stage1_inversion and so on


@dataclass(frozen=True)
class Recipe:
    """Which terms count (Tables 2 and 3), and what the paper leaves open."""

    reconstruction: bool = True  # stage 1, Eq. 6
    regression: bool = True
    perceptual: bool = True  # stage 2
    regularised: bool = True
    image_branch: bool = True
    weight: float = 1.0  # lambda of the stage
    pure_noise: bool = False  # G^IP starts from eps_hat alone (Eq. 4), not from the release's mixture with z
    timesteps: tuple[int, int] = RANGE
    weighting: str = WEIGHTINGS[0]


class SwiftEditStage(Stage):
    """What both stages share: F_theta, the image branch, the frozen networks, Adam as the paper has it."""

    first_validation = 0

    def __init__(self, frozen: Frozen, family: OneStep, recipe: Recipe, size: int):
        super().__init__()
        self.family, self.recipe = family, recipe
        self.inversion = inversion_of(frozen.generator)
        self.branch = None
        if recipe.image_branch:
            self.branch = ImagePrompt(frozen.generator, frozen.vision.config.projection_dim)
        self.frozen = frozen  # after the branch: a parameter that both hold is named by the first
        self.check_size(size)

    def check_size(self, size: int) -> None:
        """EditError unless the networks can halve a picture of that side as often as they do."""
        whole = self.frozen.shrinks * 2 ** (len(self.inversion.config.block_out_channels) - 1)
        if size < whole or size % whole:
            raise EditError(f"--size {size} is not a multiple of {whole}, which these networks need.")

    def parts(self) -> dict[str, nn.Module]:
        found = {f"{self.name}_{INVERSION}": self.inversion}
        return found | ({f"{self.name}_{BRANCH}": self.branch} if self.branch_learns() else {})

    def branch_learns(self) -> bool:
        return self.branch is not None

    def optimizer(self, parameters, lr, weight_decay):
        return torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay)

    def enable_checkpointing(self) -> None:
        """Trades time for memory in every network that gradients pass."""
        for network in (self.inversion, self.frozen.generator, self.frozen.vae):
            network.enable_gradient_checkpointing()

    def invert(self, latent: Tensor, context: Tensor) -> Tensor:
        """eps_hat = F(z, c_y) (Eq. 4), [b, 4, h, w]."""
        return call(self.inversion, latent, INVERSION_TIMESTEP, context)

    def reconstruct(self, latent: Tensor, noise: Tensor, context: Tensor, image: Tensor) -> Tensor:
        """z_hat = G^IP(x_T, c_y, c_x) of an inverted latent; image: the picture [b, 3, h, w] that c_x is taken of."""
        start = noise if self.recipe.pure_noise else self.family.mixed(latent, noise)
        embedding = self.frozen.embedding(image) if self.branch is not None else None
        return generate(self.frozen.generator, self.family, start, context, self.branch, embedding)

    def measured(self, rows: Iterator[tuple[int, dict[str, Tensor]]]) -> dict[str, float]:
        """Means over the held-out set of what each of its batches gave; the score is the loss."""
        sums, total = {}, 0
        for count, measures in rows:
            total += count
            for name, value in measures.items():
                sums[name] = sums.get(name, 0.0) + count * float(value)
        means = {name: value / total for name, value in sums.items()}
        return {**means, "score": means["loss"]}


class Stage1(SwiftEditStage):
    """Pictures that the generator made, whose noise is known (Eqs. 5 to 7). Trains F, the projection, to_{k,v}_ip."""

    name = "stage1"

    def __init__(self, frozen: Frozen, family: OneStep, recipe: Recipe, size: int, captions: list[str]):
        super().__init__(frozen, family, recipe, size)
        if not (recipe.reconstruction or recipe.regression):
            raise EditError(
                "Without reconstruction and regression stage 1 has nothing to learn; keep one of them."
            )
        self.captions, held = split(captions)
        self.held_ids = frozen.tokens(held)
        self.held_noise = self._noise(np.random.default_rng(1), len(held), size)

    def _noise(self, rng: np.random.Generator, count: int, size: int) -> Tensor:
        side = size // self.frozen.shrinks
        return torch.from_numpy(rng.standard_normal((count, 4, side, side), np.float32))

    def batch(self, rng, count, size):
        noise = self._noise(rng, count, size)
        chosen = rng.integers(len(self.captions), size=count)
        return noise, self.frozen.tokens([self.captions[i] for i in chosen])

    def forward(self, role: str, noise: Tensor, ids: Tensor) -> dict[str, Tensor]:
        return self.losses(noise, ids, self.recipe.reconstruction)

    def losses(self, noise: Tensor, ids: Tensor, reconstructs: bool = True) -> dict[str, Tensor]:
        """Eqs. 6 and 7 with means for the norms. noise: eps [b, 4, h, w]. ids: captions' tokens [b, n]."""
        recipe, context = self.recipe, self.frozen.context(ids)
        with torch.no_grad():
            latent = generate(self.frozen.generator, self.family, noise, context, self.branch)
            image = self.frozen.decode(latent) if reconstructs and self.branch is not None else None
        inverted = self.invert(latent, context)
        out = {"regression": (noise - inverted).square().mean()}
        if reconstructs:
            made = self.reconstruct(latent, inverted, context, image)
            out["reconstruction"] = (latent - made).square().mean()
        total = recipe.weight * out["regression"] if recipe.regression else 0.0
        return {"loss": total + (out["reconstruction"] if recipe.reconstruction else 0.0), **out}

    def validate(self):
        """The loss, and the root mean square errors of the inverted noise and of the latent that it gives."""
        device = next(self.inversion.parameters()).device
        pairs = zip(self.held_noise.to(device).split(4), self.held_ids.to(device).split(4), strict=True)
        means = self.measured((len(noise), self.losses(noise, ids)) for noise, ids in pairs)
        return {
            "loss": means["loss"], "inversion_error": means["regression"] ** 0.5,
            "reconstruction_error": means["reconstruction"] ** 0.5, "score": means["score"],
        }  # fmt: skip


class Stage2(SwiftEditStage):
    """Real pictures: DISTS and the regularisation of Eq. 8. Trains F alone, from stage 1's weights.

    Without stage 1 (Table 2) nothing else would have trained the image branch, so it then learns here too.
    """

    name = "stage2"

    def __init__(
        self,
        frozen: Frozen,
        family: OneStep,
        recipe: Recipe,
        size: int,
        photos: list[data.Photo],
        *,
        store: Store,
        skip_stage1: bool = False,
        dists: nn.Module | None = None,
    ):
        super().__init__(frozen, family, recipe, size)
        if not (recipe.perceptual or recipe.regularised):
            raise EditError(
                "Without perceptual loss and regularisation stage 2 has nothing to learn; keep one of them."
            )
        self.dists, self.skip_stage1 = dists, skip_stage1
        self._start(store)
        self.photos, held = split(photos)
        self.held_images = torch.stack([data.read_pixels(photo.path, size) for photo in held])
        self.held_ids = frozen.tokens([photo.caption for photo in held])
        self.held_timesteps = torch.linspace(*map(float, recipe.timesteps), len(held)).long()

    def _start(self, store: Store) -> None:
        if self.skip_stage1:
            return
        if not store.load_part(f"stage1_{INVERSION}", self.inversion):
            raise EditError(f"{store.root} holds no stage 1; train stage1 first, or say --skip-stage1.")
        if self.branch is not None:
            store.load_part(f"stage1_{BRANCH}", self.branch)
            self.branch.requires_grad_(False)

    def branch_learns(self) -> bool:
        return self.branch is not None and self.skip_stage1

    def batch(self, rng, count, size):
        chosen = [self.photos[i] for i in rng.integers(len(self.photos), size=count)]
        first, last = self.recipe.timesteps
        timesteps = torch.from_numpy(rng.integers(first, last + 1, size=count))
        images = torch.stack([data.read_pixels(photo.path, size, rng) for photo in chosen])
        return images, self.frozen.tokens([photo.caption for photo in chosen]), timesteps

    def forward(self, role: str, image: Tensor, ids: Tensor, timesteps: Tensor) -> dict[str, Tensor]:
        return self.losses(image, ids, timesteps)

    def losses(
        self, image: Tensor, ids: Tensor, timesteps: Tensor, measures: bool = False
    ) -> dict[str, Tensor]:
        """The terms of stage 2 for pictures [b, 3, h, w] in 0..1, captions' tokens [b, n] and the teacher's t [b].

        measures: also the PSNR of the reconstruction in dB, and how large the inverted noise is.
        """
        latent, context = self.frozen.encode(image), self.frozen.context(ids)
        inverted, out = self.invert(latent, context), {}
        if self.recipe.perceptual or measures:
            made = self.frozen.decode(self.reconstruct(latent, inverted, context, image))
        if self.recipe.perceptual:
            out["perceptual"] = perceptual(self.dists, image, made)
        if self.recipe.regularised:
            out["regularisation"] = self.regularisation(latent, inverted, context, timesteps)
        out["loss"] = out.get("perceptual", 0.0) + self.recipe.weight * out.get("regularisation", 0.0)
        return out | ({"psnr": psnr(made, image), "noise_size": inverted.std()} if measures else {})

    def regularisation(self, latent: Tensor, inverted: Tensor, context: Tensor, timesteps: Tensor) -> Tensor:
        """Eq. 8 as a loss."""
        teacher = partial(call, self.frozen.teacher)
        target = teacher_noise(teacher, latent, inverted, timesteps, context, self.frozen.prediction)
        return regularisation(inverted, target, weight(timesteps, self.recipe.weighting))

    def validate(self):
        """The losses, the reconstruction's PSNR in dB (Table 2), and the size of the inverted noise (1 is right)."""
        device = next(self.inversion.parameters()).device
        held = (t.to(device).split(4) for t in (self.held_images, self.held_ids, self.held_timesteps))
        return self.measured(
            (len(row[0]), self.losses(*row, measures=True)) for row in zip(*held, strict=True)
        )


def psnr(made: Tensor, image: Tensor) -> Tensor:
    """The mean PSNR in dB of pictures [b, 3, h, w] in 0..1, `made` clamped."""
    error = (made.clamp(0, 1) - image).square().mean((1, 2, 3)).clamp_min(1e-10)
    return -10 * torch.log10(error).mean()
