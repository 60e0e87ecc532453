"""What is measured beside the loss: how near the sampled right panels are to the edited pictures."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...models.kontext import ids, schedule
from ..kontext.examples import batches
from . import fill
from .examples import Example, stacked

AT_ONCE = 32  # diptychs sampled together


@torch.no_grad()
def edit(net: nn.Module, edits: Sequence[Example], scale: int, steps: int, guidance: float, seed: int = 0,
         device: torch.device | str = "cpu") -> list[Tensor]:  # fmt: skip
    """Samples every diptych: right panels [c, h, w] on the CPU, in the order of the edits.

    Euler's method over the schedule that ICEdit Schedule makes: shifted by the diptych's tokens. scale: pixels per
    side of a latent.
    """
    generator, made = torch.Generator().manual_seed(seed), {}
    for chosen in batches(edits, AT_ONCE):
        target, masked, states, pooled = (x.to(device) for x in stacked(chosen))
        z = torch.randn(target.shape, generator=generator).to(target)
        known, told = fill.condition(masked, scale), torch.full((len(chosen),), guidance, device=device)
        for now, after in _pairs(steps, tuple(target.shape[-2:])):
            time = torch.full_like(told, now)
            z = z + (after - now) * fill.velocity(net, z, known, time, states, pooled, told).float()
        right = z[..., z.shape[-1] // 2 :].cpu()
        made.update({id(example): latent for example, latent in zip(chosen, right)})
    return [made[id(example)] for example in edits]


def _pairs(steps: int, size: tuple[int, int]) -> list[tuple[float, float]]:
    rows, columns = ids.grid(size)
    times = schedule.bfl(steps, rows * columns).tolist()
    return list(zip(times, times[1:]))


def compared(made: Sequence[Tensor], edits: Sequence[Example]) -> dict[str, float]:
    """Of sampled right panels: `error`, the root mean square distance to the edited picture, and `followed`, the share
    of those that are nearer to it than to the picture as it was and to what any other instruction would give."""
    errors, followed = [], []
    for latent, example in zip(made, edits):
        left, right = example.target.float().chunk(2, -1)
        others = left[None] if example.wrong is None else torch.cat([left[None], example.wrong.float()])
        error = _away(latent, right[None])[0]
        errors.append(float(error))
        followed.append(bool(error < _away(latent, others).min()))
    return {"error": sum(errors) / len(errors), "followed": sum(followed) / len(followed)}


def _away(latent: Tensor, results: Tensor) -> Tensor:
    """The root mean square distance to each of the results, [n]."""
    return (results - latent).square().flatten(1).mean(1).sqrt()
