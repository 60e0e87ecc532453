"""The training loop that every stage shares: accelerate, EMA, resuming, wall-clock budget, logs and sample sheets.

What a step draws depends on the seed, the step and the process alone, so a resumed run repeats what an uninterrupted
one would have done. With `decay` it does so only when both have the same `steps`, and no `minutes` end them.
"""

import json
import math
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from . import sharding
from .store import Store


@dataclass
class Options:
    """What a run may spend and how it learns; times in minutes of wall clock of this run."""

    minutes: float = 10.0
    steps: int | None = None  # stop at this optimiser step whatever the clock says
    batch: int = 16
    accumulate: int = 1  # batches whose gradients are averaged before a step
    size: int = 128
    lr: float = 5e-4
    warmup: int = 100
    decay: float = 0.0  # share of the budget, at its end, over which the rate falls to a twentieth
    weight_decay: float = 0.01
    clip: float = 1.0  # largest norm of the gradient; math.inf for no limit
    ema: float = 0.998
    precision: str = "auto"  # "auto" | "bf16" | "fp32"
    save_every: float = 5.0
    validate_every: float = 5.0
    seed: int = 0
    keep_best: bool = False  # save weights only when the validation measure improved (early stopping)


class Stage(nn.Module):
    """One recipe: what is trained, on what, with which loss. The loop does the rest.

    `parts` maps the names under which EMA weights are saved to trainable modules; `forward(role, *batch)` returns
    the losses of a role with the total under "loss". `roles` holds an optimiser's learning-rate factor and period each.
    """

    name = "stage"
    roles: dict[str, tuple[float, int]] = {"main": (1.0, 1)}
    better = "lower"  # of validate()["score"]
    first_validation = (
        20  # the step whose validation later ones are compared with; 0: before anything is learnt
    )

    def parts(self) -> dict[str, nn.Module]:
        raise NotImplementedError

    def role_parameters(self, role: str) -> list[nn.Parameter]:
        return [p for module in self.parts().values() for p in module.parameters() if p.requires_grad]

    def optimizer(
        self, parameters: list[nn.Parameter], lr: float, weight_decay: float
    ) -> torch.optim.Optimizer:
        return torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.99), weight_decay=weight_decay)

    def batch(self, rng: np.random.Generator, count: int, size: int) -> tuple[Tensor, ...]:
        raise NotImplementedError

    def validate(self) -> dict[str, float]:
        return {}

    def to_keep(self) -> dict[str, dict[str, Tensor]]:
        """What keep_best saves of each part after validate(), while the averages are live."""
        return {name: module.state_dict() for name, module in self.parts().items()}

    def sheet(self) -> np.ndarray | None:
        """A picture [h, w, 3] uint8 of samples, or None."""
        return None


class Ema:
    """Exponential moving averages of modules' weights, with the warm-up of (1 + n) / (10 + n)."""

    def __init__(self, modules: dict[str, nn.Module], decay: float):
        self.modules, self.decay, self.updates = modules, decay, 0
        self.shadow = {
            n: {k: v.detach().clone() for k, v in m.state_dict().items()} for n, m in modules.items()
        }

    @torch.no_grad()
    def update(self) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, module in self.modules.items():
            for key, value in module.state_dict().items():
                kept = self.shadow[name][key]
                if value.is_floating_point():
                    kept.lerp_(value.to(kept.dtype), 1 - decay)
                else:
                    kept.copy_(value)

    def swap(self) -> None:
        """Exchanges the live weights with the averages; call again to change back."""
        for name, module in self.modules.items():
            live = {k: v.detach().clone() for k, v in module.state_dict().items()}
            module.load_state_dict(self.shadow[name])
            self.shadow[name] = live


def learning_rate(step: int, used: float, options: Options) -> float:
    """Warm-up, constant, then a linear decay over the last share of the budget. used: 0..1. Returns a factor."""
    factor = min(1.0, (step + 1) / max(options.warmup, 1))
    if options.decay and used > 1 - options.decay:
        factor *= max(0.05, (1 - used) / options.decay)
    return factor


def choose_precision(name: str, device: torch.device) -> str:
    """ "bf16" where the hardware multiplies it natively, else "no" (accelerate's words)."""
    if name != "auto":
        return {"bf16": "bf16", "fp32": "no"}[name]
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "no"
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return "bf16" if device.type == "cpu" and native() else "no"


def run(stage: Stage, store: Store, options: Options) -> dict:
    """Trains until the minutes or steps are used up, resuming what `store` holds. Returns the last summary.

    Ctrl-C saves and stops. Every weight file is written whole; the newest state is never lost.
    """
    return _Run(stage, store, options).go()


class _Run:
    def __init__(self, stage: Stage, store: Store, options: Options):
        from accelerate import Accelerator, DistributedDataParallelKwargs, PartialState

        self.stage, self.store, self.options = stage, store, options
        self.accelerator = Accelerator(
            mixed_precision=choose_precision(options.precision, PartialState().device),
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        self.main = self.accelerator.is_main_process
        self.sharded = sharding.is_sharded(self.accelerator)  # then every process takes part in measuring and saving
        state = store.load_state(stage.name)
        if state is not None:
            stage.load_state_dict(state["stage"], strict=False)  # what is frozen comes from its own stage
        if not self.sharded:
            stage.to(self.accelerator.device)
        optimizers = [self._optimizer(role, factor) for role, (factor, _) in stage.roles.items()]
        self.wrapped, *optimizers = self.accelerator.prepare(stage, *optimizers)
        self.optimizers = dict(zip(stage.roles, optimizers))
        self.ema = Ema(stage.parts(), options.ema)
        self.step, self.best, self.last = 0, None, {}
        if state is not None:
            self._resume(state)

    def _optimizer(self, role: str, factor: float) -> torch.optim.Optimizer:
        o = self.options
        return self.stage.optimizer(self.stage.role_parameters(role), o.lr * factor, o.weight_decay)

    def _seeded(self) -> np.random.Generator:
        """This step's source of chance; torch's is seeded from it."""
        rng = np.random.default_rng([self.options.seed, self.step, self.accelerator.process_index])
        torch.manual_seed(int(rng.integers(2**31)))
        return rng

    def _resume(self, state: dict) -> None:
        """All but the weights, which were read before they were spread."""
        for role, optimizer in self.optimizers.items():
            optimizer.load_state_dict(sharding.optimizer_state(state["optimizers"][role], optimizer))
        for name, shadow in state["ema"].items():
            for key, value in shadow.items():
                kept = self.ema.shadow[name][key]
                kept.copy_(sharding.like(value, kept))
        self.step, self.best, self.ema.updates = state["step"], state["best"], state["step"]

    def go(self) -> dict:
        from tqdm import tqdm

        o, start = self.options, time.monotonic()
        saved = validated = start
        bar = tqdm(desc=self.stage.name, unit="step", initial=self.step, disable=not self.main, mininterval=2)
        try:
            if self.step == self.stage.first_validation == 0:
                self._validate()
            while True:
                used = (time.monotonic() - start) / (60 * o.minutes)
                if used >= 1 or (o.steps is not None and self.step >= o.steps):
                    break
                if o.steps is not None:
                    used = max(used, self.step / o.steps)
                losses = self._train_step(used)
                bar.update(1)
                if self.step % 20 == 0 or self.step <= 1:
                    self._log({"step": self.step, "seconds": round(time.monotonic() - start, 1), **losses})
                    bar.set_postfix({k: f"{v:.4f}" for k, v in losses.items()})
                if (
                    time.monotonic() - validated > 60 * o.validate_every
                    or self.step == self.stage.first_validation
                ):
                    self._validate()
                    validated = time.monotonic()
                if time.monotonic() - saved > 60 * o.save_every:
                    self._save()
                    saved = time.monotonic()
        except KeyboardInterrupt:
            bar.write("Stopped by Ctrl-C; saving.")
        bar.close()
        self._validate()
        self._save()
        return self.last

    def _train_step(self, used: float) -> dict[str, float]:
        o, out = self.options, {}
        factor = learning_rate(self.step, used, o)
        rng, device = self._seeded(), self.accelerator.device
        batches = [
            tuple(t.to(device) for t in self.stage.batch(rng, o.batch, o.size)) for _ in range(o.accumulate)
        ]
        for role, (scale, every) in self.stage.roles.items():
            if self.step % every:
                continue
            optimizer = self.optimizers[role]
            for group in optimizer.param_groups:
                group["lr"] = o.lr * scale * factor
            optimizer.zero_grad(set_to_none=True)
            losses = self._gradients(role, batches)
            norm = self.accelerator.clip_grad_norm_(self.stage.role_parameters(role), o.clip)
            if math.isfinite(float(norm)):
                optimizer.step()
            prefix = "" if role == "main" else f"{role}_"
            out.update({prefix + k: v for k, v in losses.items()})
        self.ema.update()
        self.step += 1
        return out

    def _gradients(self, role: str, batches: list[tuple[Tensor, ...]]) -> dict[str, float]:
        """Gathers the mean gradient of a step's batches; only the last one is exchanged between processes."""
        out: dict[str, float] = {}
        for index, batch in enumerate(batches):
            last = index == len(batches) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.wrapped):
                losses = self.wrapped(role, *batch)
                self.accelerator.backward(losses["loss"] / len(batches))
            for name, value in losses.items():
                out[name] = out.get(name, 0.0) + float(value.detach()) / len(batches)
        return out

    def _validate(self) -> None:
        if not (self.main or self.sharded):
            return
        self.ema.swap()
        was_training = self.stage.training
        self.stage.eval()
        with torch.no_grad(), self.accelerator.autocast():
            measures, picture = self._measured()
        self.stage.train(was_training)
        if measures:
            self._log({"step": self.step, **{f"validation_{k}": round(v, 4) for k, v in measures.items()}})
            self.last = {"step": self.step, **measures}
            self._keep_best(measures)
        self.ema.swap()
        if picture is not None and self.main:
            _save_picture(self.store.stage(self.stage.name) / f"sheet_{self.step:06d}.jpg", picture)

    def _measured(self) -> tuple[dict[str, float], np.ndarray | None]:
        """validate() and sheet(); where weights are spread, as the stage's forward, which alone gathers them."""
        both = lambda: (self.stage.validate(), self.stage.sheet())  # noqa: E731
        if not self.sharded:
            return both()
        forward, self.stage.forward = self.stage.forward, both
        try:
            return self.stage()
        finally:
            self.stage.forward = forward

    def _keep_best(self, measures: dict[str, float]) -> None:
        score = measures.get("score")
        if not self.options.keep_best or score is None:
            return
        sign = 1 if self.stage.better == "lower" else -1
        if self.best is None or sign * score < sign * self.best:
            self.best = score
            self._save_parts(self.stage.to_keep())

    def _save(self) -> None:
        if not (self.main or self.sharded):
            return
        state = {
            "stage": {k: p.detach() for k, p in self.stage.named_parameters() if p.requires_grad},
            "optimizers": {role: o.state_dict() for role, o in self.optimizers.items()},
            "ema": self.ema.shadow, "step": self.step, "best": self.best,
        }  # fmt: skip
        state = sharding.whole(state)
        if self.main:
            self.store.save_state(self.stage.name, state)
        if not self.options.keep_best:
            self._save_parts(state["ema"])

    def _save_parts(self, parts: dict[str, dict[str, Tensor]]) -> None:
        for name, part in parts.items():
            part = sharding.whole(part)
            if self.main:
                self.store.save_part(name, part)

    def _log(self, row: dict) -> None:
        if self.main:
            path = self.store.stage(self.stage.name) / "log.jsonl"
            with path.open("a", encoding="utf-8") as file:
                file.write(
                    json.dumps({k: round(v, 6) if isinstance(v, float) else v for k, v in row.items()}) + "\n"
                )


def _save_picture(path: Path, picture: np.ndarray) -> None:
    from PIL import Image

    Image.fromarray(picture).save(path, quality=88)
