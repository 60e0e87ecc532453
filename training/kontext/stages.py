"""Stage 1, rectified flow (Eq. 3) on edits and text to image; stage 2, guidance distilled into the embedded scale."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from ..loop import Stage
from . import adapters, flux, measuring, timesteps
from .examples import KINDS, Example, Examples, batches, stacked

STAGES = ("flow", "guidance", "ladd")
MEASURED = 8  # held-out examples at once


@dataclass(frozen=True)
class Recipe:
    """What the paper leaves open."""

    text_to_image: float = 0.25  # share of the batches that have no references
    dropout: float = 0.1  # share of the texts replaced by the empty prompt, for guidance to have something to leave
    mu: float | None = None  # of p(t); None: by the target's resolution
    sigma: float = 1.0
    placement: str = "index"
    scale: float = 1.0  # told of the guidance where a fixed one is
    scales: tuple[float, float] = (1.0, 5.0)  # stage 2: drawn evenly from here
    sample: int = 0  # held-out edits that are sampled at each validation
    sample_steps: int = 28
    sample_scale: float = 1.0


class KontextStage(Stage):
    """What the stages share: batches of one shape, measuring on what is held out, and sampling."""

    first_validation = 0

    def __init__(
        self, name: str, net: nn.Module, examples: Examples, recipe: Recipe, lora: adapters.Choice | None = None
    ):
        super().__init__()
        self.name, self.net, self.examples, self.recipe, self.lora = name, net, examples, recipe, lora
        for key, value in zip(("empty_states", "empty_pooled"), examples.empty):
            self.register_buffer(key, value.float()[None], persistent=False)

    def parts(self) -> dict[str, nn.Module]:
        if self.lora is not None:
            return {f"{self.name}_lora": adapters.view(self.net)}
        return {f"{self.name}_transformer": self.net}

    def optimizer(self, parameters, lr, weight_decay):
        return torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=weight_decay)

    def enable_checkpointing(self) -> None:
        """Trades time for memory: every block is worked out again on the way back."""
        self.net.enable_gradient_checkpointing()

    @cached_property
    def held(self) -> list[list[Example]]:
        """What is held out and of a kind that is trained on, in batches of one shape."""
        wanted = [e for e in self.examples.held() if self._share("pair" if not e.references else "edit") > 0]
        return batches(wanted, MEASURED)

    def _share(self, kind: str) -> float:
        """Of the batches, those of a kind."""
        if len(self.examples.kinds) == 1:
            return float(kind in self.examples.kinds)
        return self.recipe.text_to_image if kind == KINDS[1] else 1 - self.recipe.text_to_image

    def batch(self, rng: np.random.Generator, count: int, size: int) -> tuple[Tensor, ...]:
        kind = KINDS[int(rng.random() < self._share(KINDS[1]))]
        chosen = self.examples.draw(rng, kind, count)
        return self._tensors(chosen, self.times(rng, count, chosen[0]), self.told(rng, count), rng)

    def times(self, rng: np.random.Generator, count: int, example: Example) -> Tensor:
        """t ~ p(t; μ, σ), [count]."""
        mu = timesteps.mu_of(tuple(example.target.shape[-2:]), self.recipe.mu)
        return timesteps.draw(rng, count, mu, self.recipe.sigma)

    def told(self, rng: np.random.Generator, count: int) -> Tensor:
        """The guidance scale of each, [count]."""
        return torch.full((count,), self.recipe.scale)

    def _tensors(
        self, chosen: Sequence[Example], time: Tensor, scale: Tensor, rng: np.random.Generator | None
    ) -> tuple[Tensor, ...]:
        """target, t, guidance scale, whether the text is dropped, states, pooled, references … of a batch."""
        target, states, pooled, references = stacked(chosen)
        dropped = np.zeros(len(chosen)) if rng is None else rng.random(len(chosen)) < self.recipe.dropout
        return target, time, scale, torch.from_numpy(dropped).bool(), states, pooled, *references

    def forward(self, role: str, *batch: Tensor) -> dict[str, Tensor]:
        return self.losses(*batch)

    def losses(self, target, time, scale, dropped, states, pooled, *references) -> dict[str, Tensor]:
        """The stage's loss on a batch as `_tensors` gives it; noise is torch's own."""
        raise NotImplementedError

    def ask(self, net: nn.Module, noisy, time, scale, states, pooled, references) -> Tensor:
        """The velocity of any of the stage's networks."""
        return flux.velocity(net, noisy, time, states, pooled, references, scale, self.recipe.placement)

    def without_text(self, states: Tensor, pooled: Tensor, dropped: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The empty prompt in place of the texts that are dropped; of all, without saying which."""
        dropped = torch.ones(len(states), dtype=torch.bool, device=states.device) if dropped is None else dropped
        return (
            torch.where(dropped[:, None, None], self.empty_states, states),
            torch.where(dropped[:, None], self.empty_pooled, pooled),
        )

    def validate(self) -> dict[str, float]:
        """The loss on what is held out, at times and noise that are always the same, and what sampling gives."""
        out = self.held_loss()
        return {**out, **self.sampled(), "score": out["loss"]}

    def held_loss(self) -> dict[str, float]:
        totals: dict[str, list[float]] = {}
        for number, chosen in enumerate(self.held):
            with torch.random.fork_rng():
                torch.manual_seed(number)
                loss = float(self.losses(*self._held_tensors(chosen, number))["loss"])
            for name in ("loss", "loss_edit" if chosen[0].references else "loss_pair"):
                totals.setdefault(name, []).extend([loss] * len(chosen))
        return {name: sum(values) / len(values) for name, values in totals.items()}

    def _held_tensors(self, chosen: list[Example], number: int) -> tuple[Tensor, ...]:
        """A batch of held-out examples, at times spread over p(t): of each batch the same."""
        mu = timesteps.mu_of(tuple(chosen[0].target.shape[-2:]), self.recipe.mu)
        time = timesteps.spread(len(chosen), mu, self.recipe.sigma)
        given = self._tensors(chosen, time, self.told(np.random.default_rng(number), len(chosen)), None)
        return tuple(t.to(self.empty_states.device) for t in given)

    def sampled(self) -> dict[str, float]:
        """What `measuring` says of the first held-out edits, as many as the recipe wants."""
        edits = [e for e in self.examples.held() if e.references][: self.recipe.sample]
        if not edits:
            return {}
        made = measuring.edit(self, self.net, edits, self.recipe.sample_steps, self.recipe.sample_scale)
        return measuring.compared(made, edits)


class Flow(KontextStage):
    """Eq. 3: |v_θ(z_t, t, y, c) - (ε - x)|²; all weights, or a LoRA's."""

    def losses(self, target, time, scale, dropped, states, pooled, *references):
        states, pooled = self.without_text(states, pooled, dropped)
        noise = torch.randn_like(target)
        noisy = interpolated(target, noise, time)
        found = self.ask(self.net, noisy, time, scale, states, pooled, references)
        return {"loss": (found.float() - (noise - target)).square().mean()}


class Guidance(KontextStage):
    """The teacher's guided velocity from one evaluation that is told the scale (Meng et al., stage one).

    The loss is |v_θ(z_t, t, y, c; g) - (v_u + g·(v_c - v_u))|², with g drawn evenly and v_u the teacher's on the empty
    prompt with the same references.
    """

    def __init__(self, net: nn.Module, teacher: nn.Module, examples: Examples, recipe: Recipe):
        super().__init__("guidance", net, examples, recipe)
        self.teacher = teacher.requires_grad_(False)

    def told(self, rng, count):
        low, high = self.recipe.scales
        return torch.from_numpy(rng.uniform(low, high, count)).float()

    def losses(self, target, time, scale, dropped, states, pooled, *references):
        noisy = interpolated(target, torch.randn_like(target), time)
        wanted = self.guided(self.teacher, noisy, time, scale, states, pooled, references)
        found = self.ask(self.net, noisy, time, scale, states, pooled, references)
        return {"loss": (found.float() - wanted).square().mean()}

    @torch.no_grad()
    def guided(self, net: nn.Module, noisy, time, scale, states, pooled, references) -> Tensor:
        """Classifier-free guidance by two evaluations of a network, in fp32."""
        one = torch.full_like(scale, self.recipe.scale)
        with_text = self.ask(net, noisy, time, one, states, pooled, references).float()
        without = self.ask(net, noisy, time, one, *self.without_text(states, pooled), references).float()
        return without + scale[:, None, None, None] * (with_text - without)


def interpolated(target: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """z_t = (1 - t)·x + t·ε of Eq. 3, with t [b]."""
    t = time[:, None, None, None]
    return (1 - t) * target + t * noise
