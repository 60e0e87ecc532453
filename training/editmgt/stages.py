"""The three phases (Sec. 3.3): text-image pairs with a new text encoder, edits, and the best of the edits."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...models.editmgt.adapters import Adapters
from ...models.editmgt.layers import Modulation, Step
from ...models.editmgt.options import Options as Sampling
from ...models.editmgt.transformer import EditMGT
from ..loop import Stage
from . import masking, measuring
from .examples import Encoders, Example, Examples, Texts

PHASES = ("phase1", "phase2", "phase3")
MEASURED = 8  # held-out examples at once


@dataclass(frozen=True)
class Recipe:
    """What the paper leaves open."""

    dropout: float = 0.1  # share of the instructions replaced by `dropped`, for guidance to have something to leave
    dropped: str = ""
    schedule: str = "cosine"  # of the masking rates
    time: str = "ratio"  # what the network is told of them
    follow: int = 0  # held-out edits that are sampled at each validation
    sampling: Sampling = Sampling()


class Phase(Stage):
    """Eq. 1 on pairs (source None) or edits; all weights, or a LoRA's."""

    first_validation = 0

    def __init__(
        self, name: str, net: EditMGT, encoders: Encoders, examples: Examples, recipe: Recipe, size: int,
        adapters: Adapters | None = None,
    ):  # fmt: skip
        super().__init__()
        self.name, self.net, self.adapters, self.recipe, self.size = name, net, adapters, recipe, size
        self.encoders, self.examples, self.texts = encoders, examples, Texts(encoders)
        net.requires_grad_(adapters is None)
        self.micro = (size * encoders.scale, size * encoders.scale, 0, 0, 6)  # as in sampling

    @cached_property
    def held(self) -> list[Example]:
        """What is held out; encoded when it is first measured, on the device where the encoders then are."""
        return self.examples.held(self.size)

    def parts(self) -> dict[str, nn.Module]:
        if self.adapters is not None:
            return {f"{self.name}_lora": self.adapters}
        return {f"{self.name}_transformer": self.net}

    def optimizer(self, parameters, lr, weight_decay):
        """Sec. C.1."""
        return torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=weight_decay)

    def enable_checkpointing(self) -> None:
        """Trades time for memory: every block is worked out again on the way back."""
        for block in [*self.net.transformer_blocks, *self.net.single_transformer_blocks]:
            block.forward = _checkpointed(block.forward)

    def batch(self, rng: np.random.Generator, count: int, size: int) -> tuple[Tensor, ...]:
        chosen = [self.examples.draw(rng, size) for _ in range(count)]
        told = [self.told(rng, example.text) for example in chosen]
        rate = masking.rates(rng, count, self.recipe.schedule)
        return self._tensors(chosen, told, rate, masking.masks(rng, rate, (size, size)))

    def told(self, rng: np.random.Generator, text: str) -> str:
        """The instruction, or what stands for none. It is chosen before anything is encoded or remembered."""
        return self.recipe.dropped if rng.random() < self.recipe.dropout else text

    def _tensors(self, chosen: list, told: list[str], rate: Tensor, masked: Tensor) -> tuple[Tensor, ...]:
        text = self.texts(told)
        sources = [torch.stack([e.source for e in chosen])] if chosen[0].source is not None else []
        return (torch.stack([e.target for e in chosen]), masked, rate, text.states, text.pooled, *sources)

    def forward(self, role: str, *batch: Tensor) -> dict[str, Tensor]:
        return self.losses(*batch)

    def losses(
        self, target: Tensor, masked: Tensor, rate: Tensor, states: Tensor, pooled: Tensor, source: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Eq. 1 for ids [b, h, w] with m [b, h, w], the masking rates [b], the encoded text, and the source's ids."""
        told, net = masking.told(rate, self.recipe.time, self.recipe.schedule).to(target.device), self.net
        ids = torch.where(masked, net.config.mask_token, target)
        prompt = net.prompt(states, pooled, source, self.micro, told)
        step = net.plan(prompt, told[None], net.grid(ids))
        self._fill(step, source is not None)
        features = net.features(ids, prompt, step).permute(0, 2, 3, 1)
        logits = net.mlm_layer.logits(features[masked])
        right = (logits.argmax(-1) == target[masked]).float().mean()
        return {"loss": masking.loss(logits, target[masked]), "right": right.detach()}

    def _fill(self, step: Step, reference: bool) -> None:
        """AdaLN's vectors of all blocks, before a checkpointed block would make them a part of itself."""
        for name, module in self.net.named_modules():
            if isinstance(module, Modulation):
                step.vectors.image(module, 0)
                if reference and not name.endswith("norm1_context"):
                    step.vectors.of_reference(module)

    def validate(self) -> dict[str, float]:
        """Eq. 1 on what is held out, at rates and masks that are always the same; and whether edits follow."""
        total: dict[str, float] = {}
        for first in range(0, len(self.held), MEASURED):
            chosen = self.held[first : first + MEASURED]
            for name, value in self.losses(*self._held_batch(chosen, first)).items():
                total[name] = total.get(name, 0.0) + float(value) * len(chosen) / len(self.held)
        return {**total, **self.follow(), "score": total["loss"]}

    def _held_batch(self, chosen: list, first: int) -> tuple[Tensor, ...]:
        rng = np.random.default_rng([1, first])
        # a stride that shares no factor with the count, so that every batch sees high and low rates
        count = len(self.held)
        rates = masking.spread_rates(count, self.recipe.schedule)
        rate = rates[(torch.arange(first, first + len(chosen)) * _stride(count)) % count]
        device = self.net.embed.embeddings.weight.device
        masked = masking.masks(rng, rate, (self.size, self.size))
        return tuple(t.to(device) for t in self._tensors(chosen, [e.text for e in chosen], rate, masked))

    def follow(self) -> dict[str, float]:
        """What `measuring.followed` says of the first held-out edits, as many as the recipe wants."""
        edits = [e for e in self.held if e.source is not None][: self.recipe.follow]
        if not edits:
            return {}
        options = replace(self.recipe.sampling, time=self.recipe.time, schedule=self.recipe.schedule)
        made = measuring.edit(
            self.net, self.texts, edits, options, negative=self.recipe.dropped, micro=self.micro
        )
        return measuring.followed(made, edits)


def _stride(count: int) -> int:
    return next(s for s in range(max(count * 5 // 8, 1), count + 2) if np.gcd(s, count) == 1)


def _checkpointed(forward):
    def run(*inputs):
        return checkpoint(forward, *inputs, use_reentrant=False)

    return run
