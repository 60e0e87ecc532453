"""Which expert each token got, kept while a diptych is sampled, and shown afterwards as a picture."""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import EditError

RUNS = 4  # samplings that are remembered
TOKEN = 16  # pixels
PALETTE = (
    (0.0, 0.447, 0.698), (0.902, 0.624, 0.0), (0.0, 0.62, 0.451), (0.8, 0.475, 0.655),
    (0.337, 0.706, 0.914), (0.941, 0.894, 0.259), (0.835, 0.369, 0.0), (0.6, 0.6, 0.6),
)  # fmt: skip  # Okabe and Ito's, which the colour-blind tell apart


@dataclass(eq=False)
class Step:
    """One forward pass: its noise level, its tokens' grid (rows, columns), and layer -> best experts [b, n]."""

    sigma: float
    grid: tuple[int, int]
    layers: dict[str, Tensor] = field(default_factory=dict)

    def choices(self, layer: str) -> Tensor:
        """The experts [b, rows, columns] of the picture's tokens; in single blocks the text's stand before them."""
        rows, columns = self.grid
        return self.layers[layer][:, -rows * columns :].unflatten(1, self.grid)


@dataclass(eq=False)
class Run:
    """The passes of one sampling, in their order; count: how many experts there are to a layer."""

    count: dict[str, int]
    steps: list[Step] = field(default_factory=list)


class Recorder:
    """The last few samplings by their results, so that a map belongs to a latent and not to whatever ran last."""

    def __init__(self):
        self.runs: OrderedDict[str, Run] = OrderedDict()

    def keep(self, result: Tensor, run: Run) -> None:
        for step in run.steps:
            step.layers = {name: one.cpu() for name, one in step.layers.items()}
        self.runs[digest(result)] = run
        while len(self.runs) > RUNS:
            self.runs.popitem(last=False)

    def of(self, result: Tensor) -> Run:
        """The run that gave a latent. EditError when none of those remembered did."""
        run = self.runs.get(digest(result))
        if run is None or not run.steps:
            raise EditError(
                "This latent is none of the last that the MODEL of this ICEdit LoRA sampled; wire the sampler's own "
                "output (the first one of Sampler Custom Advanced), unchanged."
            )
        return run


def digest(latent: Tensor) -> str:
    """A latent's fingerprint, wherever it lies."""
    data = latent.detach().to("cpu", torch.float32).contiguous()
    return hashlib.sha256(data.numpy().tobytes() + str(tuple(data.shape)).encode()).hexdigest()


def layer_of(run: Run, number: int) -> str:
    """The name of a routed layer by its number: double blocks first, then single ones. EditError beyond the last."""
    names = list(run.steps[0].layers)
    if not 0 <= number < len(names):
        raise EditError(f"There is no routed layer {number}; this LoRA's are 0 to {len(names) - 1}.")
    return names[number]


def step_of(run: Run, number: int) -> Step:
    """A step by its number, or by one from the end where that is negative. EditError beyond the ends."""
    if not -len(run.steps) <= number < len(run.steps):
        raise EditError(f"There is no step {number}; {len(run.steps)} were sampled, 0 to {len(run.steps) - 1}.")
    return run.steps[number]


def shares(choices: Tensor, count: int) -> list[float]:
    """The part of the tokens that each expert got."""
    return (torch.bincount(choices.flatten().long(), minlength=count) / choices.numel()).tolist()


def picture(choices: Tensor, image: Tensor | None = None, opacity: float = 0.5) -> Tensor:
    """Choices [b, rows, columns] as colours [b, 3, 16·rows, 16·columns], over a picture [1 or b, 3, h, w] if given.

    The map then has the picture's size.
    """
    colours = torch.tensor(PALETTE)[choices.long() % len(PALETTE)].movedim(-1, 1)  # [b, 3, rows, columns]
    size = tuple(TOKEN * side for side in choices.shape[-2:]) if image is None else tuple(image.shape[-2:])
    tokens = torch.nn.functional.interpolate(colours, size=size, mode="nearest-exact")
    return tokens if image is None else torch.lerp(image.to(tokens).expand_as(tokens), tokens, opacity)


def film(run: Run, layer: str, image: Tensor | None = None, opacity: float = 0.5) -> Tensor:
    """The first row's map at every step [n, 3, h, w]."""
    below = None if image is None else image[:1]
    return torch.cat([picture(one.choices(layer)[:1], below, opacity) for one in run.steps if layer in one.layers])


def told(layer: str, step: Step, choices: Tensor, count: int) -> str:
    """One line: the layer, the noise level, and each expert's share."""
    parts = ", ".join(f"expert {i}: {100 * share:.1f} %" for i, share in enumerate(shares(choices, count)))
    return f"{layer} at noise level {step.sigma:.4f}: {parts}"
