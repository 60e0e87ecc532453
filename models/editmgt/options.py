"""What a run is told: an encoded instruction, and how to sample. Light to import: nodes name its choices."""

from dataclasses import dataclass

from torch import Tensor

from ..errors import EditError
from . import schedule

BIASES = ("everything", "picture")
TIMES = ("step", "ratio")


@dataclass(frozen=True)
class Text:
    """An encoded instruction: the language model's states [b, t, joint] and CLIP's pooled vector [b, p]."""

    states: Tensor
    pooled: Tensor


@dataclass(frozen=True)
class Options:
    """How a run samples. The defaults are what the released weights were used with, in the paper's 16 steps.

    gamma, bias: the reference's strength, and between what it acts: the reference and everything else (released code)
    or the picture (Eq. 2). time: what a step is told, its number (released) or the share of masked tokens (as in
    training). threshold: λ of the region hold, 0 for none; hold: "official" or "strict". blocks, rows: what the
    localisation reads; none, no localisation. exact_draws: the released code's random numbers. alias_mask: puts [MASK]
    into the reference inside a user's mask, as the released code does by mistake. reference_every, guidance_until:
    approximations: how often the reference's keys are worked out again, and for which share of the steps guidance runs.
    """

    steps: int = 16
    guidance: float = 6.0
    gamma: float = 1.1
    bias: str = "everything"
    temperature: tuple[float, float] | float = (2.0, 0.0)
    schedule: str = "cosine"
    time: str = "step"
    threshold: float = 0.0
    hold: str = "official"
    blocks: tuple[int, ...] = ()
    rows: Tensor | None = None
    exact_draws: bool = False
    alias_mask: bool = False
    reference_every: int = 1
    guidance_until: float = 1.0

    def __post_init__(self):
        for what, value, known in (
            ("bias", self.bias, BIASES), ("time", self.time, TIMES), ("schedule", self.schedule, schedule.SCHEDULES),
            ("hold", self.hold, schedule.HOLDS),
        ):  # fmt: skip
            if value not in known:
                raise EditError(f"The {what} {value!r} is unknown; choose one of {', '.join(known)}.")
        if self.steps < 1 or self.reference_every < 1:
            raise EditError(f"{self.steps} steps, the reference every {self.reference_every}: use 1 or more of each.")
