"""What a run is told: an encoded instruction, and how to sample. Light to import: nodes name its choices."""

from dataclasses import dataclass, replace

from torch import Tensor

from ..errors import EditError
from . import schedule

BIASES = ("everything", "picture")
TIMES = ("step", "ratio")
ROUNDINGS = ("none", "bf16", "fp16")


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
    into the reference inside a user's mask, as the released code does by mistake. time_rounding: the precision that
    the time is multiplied in, again by mistake. reference_every, guidance_until: approximations: how often the
    reference's keys are worked out again, and for which share of the steps guidance runs. tile: tokens along a side of
    the tiles that a larger canvas is edited in; 0 takes it at once.
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
    time_rounding: str = "none"
    tile: int = 0

    def __post_init__(self):
        for what, value, known in (
            ("bias", self.bias, BIASES), ("time", self.time, TIMES), ("schedule", self.schedule, schedule.SCHEDULES),
            ("hold", self.hold, schedule.HOLDS), ("time_rounding", self.time_rounding, ROUNDINGS),
        ):  # fmt: skip
            if value not in known:
                raise EditError(f"The {what} {value!r} is unknown; choose one of {', '.join(known)}.")
        if self.steps < 1 or self.reference_every < 1:
            raise EditError(f"{self.steps} steps, the reference every {self.reference_every}: use 1 or more of each.")
        if not 0 <= self.guidance_until <= 1:
            raise EditError(f"Guidance until {self.guidance_until} of the steps; use a share from 0 to 1.")


@dataclass(frozen=True)
class Compat:
    """The released code's mistakes, each to be had again; the defaults have none of them.

    leaked_gamma: the strength of an earlier run, which stayed in the released transformer: a later run with strength 1
    did not set its own. clip_positions: a keyword's rows are looked up in CLIP's prompt (`prompts.released_rows`). The
    others are those of `Options`.
    """

    alias_mask: bool = False
    leaked_gamma: float = 1.0
    clip_positions: bool = False
    time_rounding: str = "none"
    exact_draws: bool = False

    def applied(self, options: Options) -> Options:
        """The options with the mistakes in them."""
        gamma = self.leaked_gamma if options.gamma == 1 else options.gamma
        return replace(
            options, gamma=gamma, alias_mask=self.alias_mask, time_rounding=self.time_rounding,
            exact_draws=self.exact_draws,
        )  # fmt: skip


@dataclass(frozen=True)
class Speed:
    """Approximations; the defaults are none. See `Options`."""

    reference_every: int = 1
    guidance_until: float = 1.0

    def applied(self, options: Options) -> Options:
        """The options with the approximations in them."""
        return replace(options, reference_every=self.reference_every, guidance_until=self.guidance_until)
