"""Rectified flow on whole diptychs, as the released code trains: a LoRA, a mixture, and the small world's own base."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from ...models.errors import EditError
from .. import sharding
from ..kontext import timesteps
from ..kontext.examples import batches
from ..loop import Stage
from . import adapters, fill, measuring
from .examples import Example, Examples, stacked

STAGES = ("base", "lora", "mixture")
PRODIGY, ADAMW = "prodigy", "adamw"
MEASURED = 16  # held-out examples at once


@dataclass(frozen=True)
class Recipe:
    """The released recipe. balance: weight of the load-balance loss, which it has not."""

    dropout: float = 0.1  # share of the texts replaced by " "
    guidance: float = 1.0  # told in training
    optimizer: str = PRODIGY
    balance: float = 0.0
    sample: int = 0  # held-out edits that are sampled at each validation
    sample_steps: int = 28
    sample_guidance: float = 50.0


class Diptychs(Stage):
    """|v_θ(z_t, t, y, masked) - (ε - x)|² over both panels, with z_t = (1 - t)·x + t·ε and t = sigmoid(N(0, 1)),
    whatever the size. choice: the LoRA or mixture on the network; None trains all weights."""

    first_validation = 0

    def __init__(
        self, name: str, net: nn.Module, examples: Examples, recipe: Recipe, choice: adapters.Choice | None = None
    ):
        super().__init__()
        self.name, self.net, self.examples, self.recipe, self.choice = name, net, examples, recipe, choice
        for key, value in zip(("empty_states", "empty_pooled"), examples.empty):
            self.register_buffer(key, value.float()[None], persistent=False)

    def parts(self) -> dict[str, nn.Module]:
        return {self.name: self.net if self.choice is None else adapters.view(self.net)}

    def optimizer(self, parameters, lr, weight_decay):
        if self.recipe.optimizer == ADAMW:
            return torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=weight_decay)
        from accelerate import Accelerator

        if sharding.is_sharded(Accelerator()):  # it shares the run's state
            raise EditError("Prodigy cannot go on with weights that FSDP2 has spread; say --optimizer adamw.")
        return prodigy()(parameters, lr=lr, weight_decay=weight_decay, use_bias_correction=True, safeguard_warmup=True)

    def enable_checkpointing(self) -> None:
        """Trades time for memory: every block is worked out again on the way back."""
        self.net.enable_gradient_checkpointing()

    @cached_property
    def held(self) -> list[list[Example]]:
        """What is held out, in batches of one shape."""
        return batches(self.examples.held(), MEASURED)

    def batch(self, rng: np.random.Generator, count: int, size: int) -> tuple[Tensor, ...]:
        chosen = self.examples.draw(rng, count)
        time = torch.sigmoid(torch.from_numpy(rng.standard_normal(len(chosen)))).float()
        dropped = torch.from_numpy(rng.random(len(chosen)) < self.recipe.dropout)
        return self._tensors(chosen, time, dropped)

    def _tensors(self, chosen: Sequence[Example], time: Tensor, dropped: Tensor) -> tuple[Tensor, ...]:
        """target, masked, t, whether the text is dropped, states, pooled."""
        target, masked, states, pooled = stacked(chosen)
        return target, masked, time, dropped, states, pooled

    def forward(self, role: str, *batch: Tensor) -> dict[str, Tensor]:
        return self.losses(*batch)

    def losses(self, target, masked, time, dropped, states, pooled) -> dict[str, Tensor]:
        """The loss on a batch as `_tensors` gives it, also of the right panel alone; noise is torch's own."""
        states = torch.where(dropped[:, None, None], self.empty_states, states)
        pooled = torch.where(dropped[:, None], self.empty_pooled, pooled)
        noise, t = torch.randn_like(target), time[:, None, None, None]
        noisy, known = (1 - t) * target + t * noise, fill.condition(masked, self.examples.scale)
        told = torch.full_like(time, self.recipe.guidance)
        found = fill.velocity(self.net, noisy, known, time, states, pooled, told)
        away = (found.float() - (noise - target)).square()
        out = {"loss": away.mean(), "right": away[..., away.shape[-1] // 2 :].mean()}
        return out if not self.recipe.balance else self._balanced(out)

    def _balanced(self, out: dict[str, Tensor]) -> dict[str, Tensor]:
        balance = adapters.imbalance(self.net)
        return out | {"loss": out["loss"] + self.recipe.balance * balance, "flow": out["loss"], "balance": balance}

    def validate(self) -> dict[str, float]:
        """The loss on what is held out, at times and noise that are always the same, and what sampling gives."""
        out = self.held_loss()
        if self.choice is not None and self.choice.experts:
            out["experts"] = adapters.used(self.net)
        return {**out, **self.sampled(), "score": out["loss"]}

    def held_loss(self) -> dict[str, float]:
        totals: dict[str, list[float]] = {}
        for number, chosen in enumerate(self.held):
            with torch.random.fork_rng():
                torch.manual_seed(number)
                losses = self.losses(*self._held_tensors(chosen))
            for name, loss in (("loss", losses.get("flow", losses["loss"])), ("right", losses["right"])):
                totals.setdefault(name, []).extend([float(loss)] * len(chosen))
        return {name: sum(values) / len(values) for name, values in totals.items()}

    def _held_tensors(self, chosen: list[Example]) -> tuple[Tensor, ...]:
        """A batch of held-out examples, at times spread over the distribution: of each batch the same."""
        time = timesteps.spread(len(chosen), 0.0, 1.0).float()
        given = self._tensors(chosen, time, torch.zeros(len(chosen), dtype=torch.bool))
        return tuple(t.to(self.empty_states.device) for t in given)

    def sampled(self) -> dict[str, float]:
        """What `measuring` says of the first held-out edits, as many as the recipe wants."""
        edits, r = self.examples.held()[: self.recipe.sample], self.recipe
        if not edits:
            return {}
        made = measuring.edit(
            self.net, edits, self.examples.scale, r.sample_steps, r.sample_guidance, device=self.empty_states.device
        )
        return measuring.compared(made, edits)


def prodigy():
    """Prodigy of its own library. EditError where that is not installed."""
    try:
        from prodigyopt import Prodigy
    except ImportError:
        raise EditError(
            "Prodigy is in prodigyopt, which is not installed; say `pip install prodigyopt`, or --optimizer adamw."
        ) from None
    return Prodigy
