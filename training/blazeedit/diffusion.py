"""Stages `pretrain` (Eq. 1) and `finetune` (Eq. 2): the condition encoder f_θ and the denoiser, on frozen latents."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...models.blazeedit.config import BlazeEditConfig
from ...models.blazeedit.first_guess import first_guess
from ...models.blazeedit.guess import luminance_stretch
from ...models.blazeedit.model import BlazeEdit
from ...models.blazeedit.schedule import add_noise, sample
from ...models.blazeedit.tasks import task
from ..loop import Stage
from ..store import Store
from .codec import psnr
from .data.holes import zoo_mask
from .folders import FolderTriplets
from .maps import charbonnier, region_psnr
from .sheets import grid
from .sources import Sources, crops

# the global tasks learn from far fewer pixels' worth of loss than a hole's, and relighting is the hardest of them
SHARES = {"remove": 0.16, "outpaint": 0.14, "tone": 0.24, "relight": 0.38, "sticker": 0.08}
HOLE_WEIGHT, REST_WEIGHT = 3.7, 0.7  # x0-prediction: the hole is what reaches the user, the rest is pasted
BOLD = 8.0  # weight of the squared error where the whole picture is edited
WHOLE_WEIGHT = 0.4  # of such a task's loss, which would drown that of the holes
VISIBLE = 0.03  # a pixel that an edit changes by more counts as changed
HOLE_SHARE = (0.08, 0.28)  # of the crop around a hole: at inference it is about a quarter
MIXED_GUESS = 0.3  # share of tone and relight pairs with the other's first guess: τ alone must tell the task
# share of tone and relight pairs with another task's τ: that task finds nothing to do, y = x
WRONG_TAU = 0.4


class DiffusionStage(Stage):
    """What pretraining, finetuning and distillation share: frozen codec, trained f_θ and denoiser."""

    held_count, held_size = 24, 128

    def __init__(self, config: BlazeEditConfig, sources: Sources, store: Store):
        super().__init__()
        self.sources = sources
        light = store.has("light")  # both decoders share the encoder, which is all that the loss needs
        if (
            not config.guess
        ):  # the paper's model is some twenty times dearer per picture, and sees larger ones
            self.held_count, self.held_size = 6, 256
        self.model = BlazeEdit(config, light=light)
        self.model.shadow_head = self.model.relight_head = None
        store.load_part("light" if light else "autoencoder", self.model.autoencoder)
        self.model.autoencoder.requires_grad_(False)
        for part in ("condition", "denoiser"):
            store.load_part(part, getattr(self.model, part))

    def parts(self):
        return {"condition": self.model.condition, "denoiser": self.model.denoiser}

    def encode(self, image: Tensor) -> Tensor:
        with torch.no_grad():
            return self.model.autoencoder.encode(image).float()

    def guess_latent(self, guess: Tensor) -> Tensor | None:
        return self.encode(guess) if self.model.config.guess else None

    def random_times(self, count: int, device: torch.device) -> Tensor:
        """x0: half at t = 1, where sampling starts, half in 0.2..0.95; ε: uniform (Eqs. 1 and 2)."""
        t = torch.rand(count, device=device)
        if self.model.config.prediction == "epsilon":
            return t
        return torch.where(torch.rand_like(t) < 0.5, torch.ones_like(t), 0.2 + 0.75 * t)

    def loss(self, x: Tensor, mask: Tensor, y: Tensor, tau: Tensor, guess: Tensor) -> Tensor:
        """Eq. 1 / Eq. 2 for ε; for x0 an L1 in unwhitened latent units, heavier in the hole."""
        clean, base = self.encode(y), self.guess_latent(guess)
        t = self.random_times(len(x), x.device)
        noise = torch.randn_like(clean)
        noisy = add_noise(self.model.config.schedule, clean, noise, t)
        out = self.model.predict(noisy, t, self.model.features(x, mask, tau), base).float()
        if self.model.config.prediction == "epsilon":
            return (out - noise).square().mean()
        return x0_loss(out - clean, mask, self.model.autoencoder.std, changed=(x - y).abs().amax(1) > VISIBLE)

    def rollout(
        self, x: Tensor, mask: Tensor, tau: Tensor, guess: Tensor, *, steps: int, seed: int = 0
    ) -> Tensor:
        """Samples latents as the pipeline does."""
        features, base = self.model.features(x, mask, tau), self.guess_latent(guess)
        shape = (len(x), self.model.config.latent_channels, x.shape[-2] // 8, x.shape[-1] // 8)
        return sample(
            lambda z, t: self.model.denoise(z, t, features, base).float(), shape,
            schedule=self.model.config.schedule, steps=steps, device=x.device,
            generator=torch.Generator().manual_seed(seed),
        )  # fmt: skip


def x0_loss(error: Tensor, mask: Tensor, std: Tensor, changed: Tensor | None = None) -> Tensor:
    """Charbonnier of the error in unwhitened latents, the hole weighing 3.7 and the rest 0.7, plus a square term.

    error: [b, c, h, w] in whitened latents, mask and changed: [b, 8h, 8w]. An all-white mask weighs three times
    as much where the edit changes something, and its square term is large: a plain L1 turns timid where the network
    doubts whether a dark place is a shadow.
    """
    size, unwhitened = error.shape[-2:], error * std[None, :, None, None]
    cells = F.adaptive_avg_pool2d(mask[:, None], size)
    partial = (cells.mean((2, 3), keepdim=True) < 0.999).float()
    whole = (
        torch.ones_like(cells)
        if changed is None
        else 1 + 2 * F.adaptive_avg_pool2d(changed[:, None].float(), size)
    )
    weight = (1 - partial) * WHOLE_WEIGHT * whole + partial * (
        REST_WEIGHT + (HOLE_WEIGHT - REST_WEIGHT) * cells
    )
    bold = (1 - partial) * BOLD * unwhitened.square() + partial * 0.1 * error.square()
    return (weight * (charbonnier(unwhitened) + bold)).mean()


class PretrainStage(DiffusionStage):
    """Masked reconstruction with the whole mask zoo: x is hidden from f_θ inside the mask (Eq. 1)."""

    name = "pretrain"

    def __init__(self, config, sources, store):
        super().__init__(config, sources, store)
        rng = np.random.default_rng(7)
        self.held = self.make(rng, self.held_count, self.held_size, sources.held)

    def make(self, rng, count, size, bank):
        y = torch.from_numpy(crops(bank, rng, count, size))
        mask = torch.from_numpy(
            np.stack([zoo_mask(rng, size, self.sources.cutouts) for _ in range(count)])
        ).float()
        x = y * (1 - mask[:, None]) + 0.5 * mask[:, None]
        return x, mask, y, torch.ones(count), first_guess("outpaint", x, mask)

    def batch(self, rng, count, size):
        return self.make(rng, count, size, self.sources.photos)

    def forward(self, role, *batch):
        return {"loss": self.loss(*batch)}

    def validate(self):
        device = self.model.autoencoder.mean.device
        x, mask, y, tau, guess = (t.to(device) for t in self.held)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            held_loss = torch.stack([self.loss(x, mask, y, tau, guess) for _ in range(2)]).mean().item()
        out = self.model.autoencoder.decode(self.rollout(x, mask, tau, guess, steps=1)).float().clamp(0, 1)
        gain = (region_psnr(out, y, mask) - region_psnr(guess, y, mask)).mean().item()
        self.last = [t[:8].cpu() for t in (x, guess, out, y)]
        return {"loss": held_loss, "over_guess": gain, "score": held_loss}

    def sheet(self):
        return grid(self.last)


class FinetuneStage(DiffusionStage):
    """All tasks at once, each batch a fixed mix of them, on the full x (Eq. 2)."""

    name = "finetune"

    def __init__(self, config, sources, store, *, shares=None):
        super().__init__(config, sources, store)
        self.shares = shares or SHARES
        self.triplets = sources.triplets(tone_identity=0.25, relight_identity=0.25, removal_share=HOLE_SHARE)
        self.hold(sources.held_triplets(removal_share=HOLE_SHARE))

    def hold(self, source, count: int | None = None) -> None:
        """Draws the validation batches once."""
        self.taus = {name: task(name, self.model.config.extra_tasks).tau for name in self.shares}
        rng = np.random.default_rng(8)
        count, size = count or self.held_count, self.held_size
        self.held = {name: self.task_batch(name, rng, count, size, source, mixed=0.0) for name in self.shares}

    def task_batch(self, name, rng, count, size, source, mixed=MIXED_GUESS):
        x, mask, y = source.batch(name, count, rng, size)
        if name == "remove":  # most shadows are gone before the fill: the gain map comes first
            clean = torch.from_numpy(rng.random(count) < 0.7)[:, None, None, None]
            x = torch.where(clean, y * (1 - mask[:, None]) + x * mask[:, None], x)
        guess = first_guess(name, x, mask)
        if name in ("tone", "relight") and mixed:
            swapped = torch.from_numpy(rng.random(count) < mixed)[:, None, None, None]
            guess = torch.where(swapped, x if name == "tone" else luminance_stretch(x), guess)
            return self.with_wrong_taus(name, rng, x, mask, y, guess)
        return x, mask, y, torch.full((count,), self.taus[name]), guess

    def with_wrong_taus(self, name, rng, x, mask, y, guess):
        """Some of the pairs with another task's τ, and their own x as the target."""
        others = [tau for other, tau in self.taus.items() if other != name] or [self.taus[name]]
        wrong = torch.from_numpy(rng.random(len(x)) < WRONG_TAU)
        drawn = torch.from_numpy(rng.choice(others, len(x)).astype(np.float32))
        tau = torch.where(wrong, drawn, torch.full_like(drawn, self.taus[name]))
        return x, mask, torch.where(wrong[:, None, None, None], x, y), tau, guess

    def batch(self, rng, count, size):
        names = list(self.shares)
        counts = rng.multinomial(count, [self.shares[n] for n in names])
        parts = [
            self.task_batch(n, rng, int(k), size, self.triplets)
            for n, k in zip(names, counts, strict=True)
            if k
        ]
        return tuple(torch.cat(column) for column in zip(*parts, strict=True))

    def forward(self, role, *batch):
        return {"loss": self.loss(*batch)}

    def validate(self):
        device = self.model.autoencoder.mean.device
        out, self.last, total = {}, [], 0.0
        for name, held in self.held.items():
            x, mask, y, tau, guess = (t.to(device) for t in held)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                total += self.loss(x, mask, y, tau, guess).item() / len(self.held)
            result = (
                self.model.autoencoder.decode(self.rollout(x, mask, tau, guess, steps=1)).float().clamp(0, 1)
            )
            out[name] = (region_psnr(result, y, mask) - region_psnr(guess, y, mask)).mean().item()
            self.last += [t[:8].cpu() for t in (x, guess, result, y)]
        return {**out, **self.swaps(device), "loss": total, "score": total}

    def swaps(self, device) -> dict[str, float]:
        """How much the right τ gains over the best wrong one, in dB; only τ changes."""
        out = {}
        for name in set(self.held) & {"tone", "relight"}:
            x, mask, y, tau, guess = (t[:16].to(device) for t in self.held[name])
            scores = {
                other: psnr(self.model.autoencoder.decode(
                    self.rollout(x, mask, torch.full_like(tau, value), guess, steps=1)).clamp(0, 1), y).mean().item()
                for other, value in self.taus.items()
            }  # fmt: skip
            out[f"swap_{name}"] = scores[name] - max(v for k, v in scores.items() if k != name)
        return out

    def sheet(self):
        return grid(self.last)


class UserFinetuneStage(FinetuneStage):
    """Finetuning on a user's own triplets, from a model folder; may register a sixth task."""

    name = "finetune_user"

    def __init__(self, model: BlazeEdit, triplets: FolderTriplets, store: Store):
        Stage.__init__(self)
        self.model = model
        self.model.requires_grad_(False)
        for part in (model.condition, model.denoiser):
            part.requires_grad_(True)
        self.triplets, held = triplets.split()
        self.shares = {name: 1 / len(triplets.tasks) for name in triplets.tasks}
        self.hold(held, count=8)
