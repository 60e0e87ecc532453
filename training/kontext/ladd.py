"""Stage 3: latent adversarial diffusion distillation to few steps (Sauer et al. 2024, which §3 names).

The student makes x̂0 in one evaluation from data noised to a time at which the few-step sampling stands. A critic judges
x̂0, noised again, by the frozen teacher's features after each block; hinge loss, in latent space throughout.
"""

import math
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ...models.kontext import ids, schedule
from . import flux, timesteps
from .examples import Example, Examples
from .stages import KontextStage, Recipe, interpolated

WAVES = 32  # sines and cosines that tell a head the time


@dataclass(frozen=True)
class Few:
    """What the adversarial distillation leaves open."""

    steps: int = 4  # that the student samples in
    first: float = 0.5  # share of the batch that starts from pure noise; the rest from the later steps, evenly
    critic_mu: float = 1.0  # of the times at which x̂0 is judged
    critic_sigma: float = 1.0
    adversarial: float = 1.0
    distillation: float = 0.0  # weight of |x̂0 - the teacher's|²
    r1: float = 0.0  # weight of the gradient penalty on the heads' features of data
    width: int = 256  # of the heads
    rate: float = 10.0  # the critic's learning rate, as a multiple of the student's
    every: int = 4  # a head after every so many blocks, the last among them


class Head(nn.Module):
    """Logits [b, h, w] from a block's tokens: two convolutions, conditioned on text and time by projection."""

    def __init__(self, features: int, condition: int, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(features)
        self.enter = nn.Conv2d(features, width, 1)
        self.mix = nn.Conv2d(width, width, 3, padding=1)
        self.condition = nn.Sequential(nn.Linear(condition, width), nn.SiLU(), nn.Linear(width, width))
        self.leave = nn.Conv2d(width, 1, 1)

    def forward(self, tokens: Tensor, condition: Tensor, rows: int) -> Tensor:
        """tokens: [b, rows·columns, features], condition: [b, c]."""
        x = rearrange(self.norm(tokens), "b (h w) c -> b c h w", h=rows)
        x = F.leaky_relu(self.enter(x), 0.2)
        x = x + F.leaky_relu(self.mix(x), 0.2)
        projected = torch.einsum("b c h w, b c -> b h w", x, self.condition(condition)) / math.sqrt(x.shape[1])
        return self.leave(x)[:, 0] + projected


class Critic(nn.Module):
    """A head for each of the teacher's chosen blocks."""

    def __init__(self, net: nn.Module, few: Few):
        super().__init__()
        blocks = len(net.transformer_blocks) + len(net.single_transformer_blocks)
        self.chosen = tuple(i for i in range(blocks) if (blocks - 1 - i) % few.every == 0)
        condition = net.config.pooled_projection_dim + 2 * WAVES
        self.heads = nn.ModuleList(Head(net.inner_dim, condition, few.width) for _ in self.chosen)

    def forward(self, features: Sequence[Tensor], pooled: Tensor, time: Tensor, rows: int) -> list[Tensor]:
        """Logits [b, h, w] of each head."""
        condition = torch.cat([pooled, waves(time)], dim=-1)
        return [head(x.float(), condition, rows) for head, x in zip(self.heads, features)]


def waves(time: Tensor) -> Tensor:
    """Times [b] as sines and cosines [b, 2·WAVES] of periods from 1/100 to 10."""
    rates = 2 * math.pi * torch.logspace(2, -1, WAVES, device=time.device)
    angles = time[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class Ladd(KontextStage):
    """The student is what is trained and shipped; teacher and features are the frozen start."""

    def __init__(self, net: nn.Module, teacher: nn.Module, examples: Examples, recipe: Recipe, few: Few, seed: int = 0):
        super().__init__("ladd", net, examples, recipe)
        self.few, self.teacher = few, teacher.requires_grad_(False)
        self.roles = {"generator": (1.0, 1), "critic": (few.rate, 1)}
        torch.manual_seed(seed)
        self.critic = Critic(net, few)

    def role_parameters(self, role):
        return list((self.net if role == "generator" else self.critic).parameters())

    def optimizer(self, parameters, lr, weight_decay):
        return torch.optim.AdamW(parameters, lr=lr, betas=(0.0, 0.99), eps=1e-8, weight_decay=weight_decay)

    def starts(self, size: tuple[int, int]) -> Tensor:
        """The times from which the few steps of sampling start, the first being 1."""
        mu = timesteps.mu_of(size, self.recipe.mu)
        return schedule.sigmas(self.few.steps, mu, self.recipe.sigma)[:-1]

    def times(self, rng: np.random.Generator, count: int, example: Example) -> Tensor:
        starts = self.starts(tuple(example.target.shape[-2:]))
        share = np.full(len(starts), (1 - self.few.first) / max(len(starts) - 1, 1))
        share[0] = self.few.first if len(starts) > 1 else 1.0
        return starts[torch.from_numpy(rng.choice(len(starts), count, p=share))]

    def forward(self, role, *batch):
        target, time, scale, dropped, states, pooled, *references = batch
        text = self.without_text(states, pooled, dropped)
        if role == "critic":
            with torch.no_grad():
                made = self.made(target, time, scale, text, references)
            return self.critic_loss(made, target, text, references)
        made = self.made(target, time, scale, text, references)
        return self.generator_loss(made, scale, text, references)

    def losses(self, target, time, scale, dropped, states, pooled, *references):
        """What can be compared: |x̂0 - x|² of what is held out, at the times of the few steps."""
        made = self.made(target, time, scale, (states, pooled), references)
        return {"loss": (made - target).square().mean()}

    def _held_tensors(self, chosen, number):
        target, _, *rest = super()._held_tensors(chosen, number)
        starts = self.starts(tuple(target.shape[-2:])).to(target)
        return target, starts[torch.arange(len(chosen), device=target.device) % len(starts)], *rest

    def made(self, target, time, scale, text, references) -> Tensor:
        """x̂0 = z_t - t·v of the student, from data noised to t."""
        noisy = interpolated(target, torch.randn_like(target), time)
        found = self.ask(self.net, noisy, time, scale, *text, references).float()
        return noisy - time[:, None, None, None] * found

    def judged(self, latent: Tensor, text, references, penalised: bool = False) -> tuple[list[Tensor], Tensor]:
        """Logits of x̂0 or data, noised to times from the critic's p(t), and the gradient penalty."""
        few = self.few
        mu = few.critic_mu + few.critic_sigma * torch.randn(len(latent), device=latent.device)
        time = torch.sigmoid(mu)
        noisy = interpolated(latent, torch.randn_like(latent), time)
        features = self.features(noisy, time, text, references)
        if penalised:
            features = [x.detach().float().requires_grad_() for x in features]
        logits = self.critic(features, text[1], time, ids.grid(tuple(latent.shape[-2:]))[0])
        return logits, self.penalty(logits, features) if penalised else latent.new_zeros(())

    def features(self, noisy, time, text, references) -> list[Tensor]:
        """The target's tokens after the teacher's chosen blocks."""
        count, found = flux.tokens_of(tuple(noisy.shape[-2:])), []
        with _watched(self.teacher, self.critic.chosen, found):
            one = torch.full_like(time, self.recipe.scale)
            self.ask(self.teacher, noisy, time, one, *text, references)
        words = text[0].shape[1]
        return [(x[1] if isinstance(x, tuple) else x[:, words:])[:, :count] for x in found]

    @staticmethod
    def penalty(logits: list[Tensor], features: list[Tensor]) -> Tensor:
        """R1: the squared gradient of the logits of data by the features."""
        (*gradients,) = torch.autograd.grad([x.sum() for x in logits], features, create_graph=True)
        return sum(g.square().sum((1, 2)).mean() for g in gradients) / len(gradients)

    def critic_loss(self, made, target, text, references) -> dict[str, Tensor]:
        """Hinge: logits of data above 1, of the student's below -1."""
        real, penalty = self.judged(target, text, references, penalised=self.few.r1 > 0)
        fake, _ = self.judged(made, text, references)
        hinge = _mean([F.relu(1 - x) for x in real]) + _mean([F.relu(1 + x) for x in fake])
        return {"loss": hinge + self.few.r1 * penalty, "real": _mean(real).detach(), "fake": _mean(fake).detach()}

    def generator_loss(self, made, scale, text, references) -> dict[str, Tensor]:
        adversarial = -_mean(self.judged(made, text, references)[0])
        loss = self.few.adversarial * adversarial
        if not self.few.distillation:
            return {"loss": loss, "adversarial": adversarial.detach()}
        apart = (made - self.taught(made, scale, text, references)).square().mean()
        found = {"adversarial": adversarial.detach(), "distillation": apart.detach()}
        return {"loss": loss + self.few.distillation * apart, **found}

    @torch.no_grad()
    def taught(self, made, scale, text, references) -> Tensor:
        """The teacher's x̂0 of the student's, noised again (adversarial diffusion distillation's other term)."""
        mu = timesteps.mu_of(tuple(made.shape[-2:]), self.recipe.mu)
        time = torch.sigmoid(mu + self.recipe.sigma * torch.randn(len(made), device=made.device))
        noisy = interpolated(made, torch.randn_like(made), time)
        return noisy - time[:, None, None, None] * self.ask(self.teacher, noisy, time, scale, *text, references).float()


@contextmanager
def _watched(net: nn.Module, chosen: Sequence[int], found: list):
    """Collects what the chosen blocks give, in their order."""
    blocks = [*net.transformer_blocks, *net.single_transformer_blocks]
    handles = [blocks[i].register_forward_hook(lambda module, given, out: found.append(out)) for i in chosen]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _mean(logits: list[Tensor]) -> Tensor:
    return torch.stack([x.mean() for x in logits]).mean()
