"""What is measured beside the loss: how near samples of held-out edits are to what their text allows."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...models.kontext import schedule
from . import timesteps
from .examples import Example, batches, stacked

AT_ONCE = 32  # edits sampled together


@torch.no_grad()
def edit(stage, net: nn.Module, edits: Sequence[Example], steps: int, scale: float, *, guided: bool = False,
         seed: int = 0) -> list[Tensor]:  # fmt: skip
    """Samples every edit: latents [c, h, w] on the CPU, in the order of the edits.

    Euler's method over the schedule of Eq. 12, with μ as in training. scale: told where the network embeds it; with
    `guided` the guidance of two evaluations, by the stage's own.
    """
    generator, made = torch.Generator().manual_seed(seed), {}
    for chosen in batches(edits, AT_ONCE):
        target, states, pooled, references = (_to(x, stage) for x in stacked(chosen))
        z = torch.randn(target.shape, generator=generator).to(target)
        mu = timesteps.mu_of(tuple(target.shape[-2:]), stage.recipe.mu)
        told = torch.full((len(chosen),), scale, device=z.device)
        ask = stage.guided if guided else stage.ask
        times = schedule.sigmas(steps, mu, stage.recipe.sigma).tolist()
        for now, after in zip(times, times[1:]):
            time = torch.full_like(told, now)
            z = z + (after - now) * ask(net, z, time, told, states, pooled, references).float()
        made.update({id(example): latent for example, latent in zip(chosen, z.cpu())})
    return [made[id(example)] for example in edits]


def _to(given: Tensor | list[Tensor], stage):
    device = stage.empty_states.device
    return given.to(device) if isinstance(given, Tensor) else [x.to(device) for x in given]


def compared(made: Sequence[Tensor], edits: Sequence[Example]) -> dict[str, float]:
    """Of sampled latents: `error`, the root mean square distance to the nearest right result, and `followed`, the share
    of those whose nearest result, among the right ones, the wrong ones and the references, is a right one."""
    errors, followed = [], []
    for latent, example in zip(made, edits):
        right = _away(latent, example.target[None] if example.right is None else example.right)
        others = [r for r in example.references if r.shape == latent.shape]
        wrong = [_away(latent, torch.stack(others))] if others else []
        wrong += [] if example.wrong is None or not len(example.wrong) else [_away(latent, example.wrong)]
        errors.append(float(right.min()))
        followed.append(all(bool(right.min() < w.min()) for w in wrong))
    return {"error": sum(errors) / len(errors), "followed": sum(followed) / len(followed)}


def _away(latent: Tensor, results: Tensor) -> Tensor:
    """The root mean square distance to each of the results, [n]."""
    return (results.float() - latent).square().flatten(1).mean(1).sqrt()
