"""Training-free editing on a text-to-image FLUX (appendix B.2): the reference inverted, its attention values kept.

Inversion runs from the picture (t = 0) to noise (t = 1). The values of a step up from a to b are kept under the noise
level at which the step down from b to a asks for them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import EditError

EULER, RF_SOLVER = "euler", "rf-solver"
SOLVERS = (RF_SOLVER, EULER)
DEVICE, CPU = "device", "cpu"
STORES = (CPU, DEVICE)
NEAR = 1e-4  # noise levels of one step, as far as rounding goes
Velocity = Callable[[Tensor, float, float], Tensor]  # (x, t, the values' level) -> dx/dt


@dataclass(eq=False)
class Values:
    """Attention values of the reference's tokens: noise level -> one [b, heads, n, d] per layer, in the layers' order.

    store: device (where they were made) or cpu (pinned where there is a GPU).
    """

    store: str = CPU
    levels: dict[float, list[Tensor]] = field(default_factory=dict)

    def keep(self, level: float, value: Tensor) -> None:
        self.levels.setdefault(level, []).append(self._stored(value))

    def _stored(self, value: Tensor) -> Tensor:
        if self.store == DEVICE:
            return value.clone()
        pinned = value.device.type == "cuda" and torch.cuda.is_available()
        kept = torch.empty(value.shape, dtype=value.dtype, pin_memory=pinned)
        return kept.copy_(value)

    def at(self, level: float) -> list[Tensor] | None:
        """The layers' values at a noise level, or None where nothing was kept."""
        near = min(self.levels, key=lambda known: abs(known - level), default=None)
        return None if near is None or abs(near - level) > NEAR else self.levels[near]

    @property
    def bytes(self) -> int:
        return sum(v.numel() * v.element_size() for layers in self.levels.values() for v in layers)


@dataclass(eq=False)
class Inversion:
    """A reference as noise, with what its inversion left: enough to reconstruct it beside something else.

    noise: [b, c, h, w] in the network's scale at t = 1; sigmas: the noise levels [n + 1] from 1 to 0.
    """

    noise: Tensor
    sigmas: Tensor
    solver: str
    values: Values


def checked(sigmas: Tensor) -> list[float]:
    """Noise levels as numbers. EditError unless they fall from 1 to 0."""
    levels = [float(s) for s in sigmas]
    falls = all(a > b for a, b in zip(levels, levels[1:], strict=False))
    if len(levels) < 2 or not falls or abs(levels[0] - 1) > NEAR or levels[-1] != 0:
        raise EditError("The inversion needs the noise levels of a whole schedule, falling from 1 to 0.")
    return levels


def evaluations(sigmas: list[float], solver: str) -> list[float]:
    """The noise levels at which a sampling down the schedule asks the network."""
    pairs = list(zip(sigmas, sigmas[1:], strict=False))
    middle = solver == RF_SOLVER
    return [level for high, low in pairs for level in ([high, (high + low) / 2] if middle else [high])]


def step(velocity: Velocity, x: Tensor, start: float, end: float, solver: str) -> Tensor:
    """One step of dx/dt = v from `start` to `end`, up or down.

    velocity(x, t, level): at time t; level: the name under which values of this call are kept or looked up, which is
    the higher end for a call at either end. rf-solver: the second-order Taylor step of RF-Solver
    (arXiv 2411.04746), its derivative from a half step: x + Δ·v + Δ²/2 · (v' - v)/(Δ/2), which is x + Δ·v'.
    """
    change, first = end - start, velocity(x, start, max(start, end))
    if solver == EULER:
        return x + change * first
    half = start + change / 2
    return x + change * velocity(x + change / 2 * first, half, half)


def invert(velocity: Velocity, latent: Tensor, sigmas: Tensor, solver: str, told: Callable[[int, int], None]) -> Tensor:
    """A latent [b, c, h, w] at t = 0 as noise at t = 1, up the schedule `sigmas`. velocity: as in `step`."""
    levels, x = checked(sigmas)[::-1], latent
    for done, (low, high) in enumerate(zip(levels, levels[1:], strict=False), 1):
        x = step(velocity, x, low, high, solver)
        told(done, len(levels) - 1)
    return x


def needed(layers: int, width: int, tokens: int, calls: int, item: int, batch: int = 1) -> int:
    """Bytes of all values: `calls` evaluations of `layers` layers, `tokens` of `width` numbers each."""
    return calls * layers * width * tokens * item * batch


def shown(count: int) -> str:
    """Bytes in words."""
    return f"{count / 2**30:.2f} GiB" if count >= 2**28 else f"{count / 2**20:.1f} MiB"


def injected(value: Tensor, kept: Tensor, text: int, left: Tensor) -> Tensor:
    """Values [b, heads, text + n, d] with the reference's [b', heads, len(left), d] in the left panel's places.

    EditError for references of another size or number.
    """
    if kept.shape[2] != len(left) or value.shape[0] % kept.shape[0] or kept.shape[1:2] != value.shape[1:2]:
        raise EditError(
            f"The inversion holds {kept.shape[0]} references of {kept.shape[2]} tokens and the diptych's left panel "
            f"has {len(left)}; sample the latent of the same ICEdit Training-free."
        )
    out = value.clone()
    many = value.shape[0] // kept.shape[0]
    out[:, :, text + left] = kept.to(value).repeat(many, 1, 1, 1)
    return out
