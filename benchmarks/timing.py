"""Interleaved timing, floating-point operations and the machine's own peak."""

import statistics
import time
from collections.abc import Callable

import torch

GEMM_SIDE = 2048


def interleaved(jobs: dict[str, Callable], repeats: int, label: str = "speed") -> dict[str, list[float]]:
    """Seconds of each job in each round; a round goes through all jobs, so that a noisy moment hits them alike.

    Every job runs once before, untimed. The rounds alternate in direction.
    """
    from tqdm import tqdm

    seconds = {name: [] for name in jobs}
    order = list(jobs)
    with tqdm(total=len(jobs) * (repeats + 1), desc=label, unit="run", dynamic_ncols=True) as bar:
        for turn in range(repeats + 1):
            for name in order if turn % 2 else order[::-1]:
                bar.set_postfix_str(name, refresh=True)
                taken = timed(jobs[name])
                if turn:
                    seconds[name].append(taken)
                bar.update()
    return seconds


def timed(job: Callable) -> float:
    """Seconds of one call, without gradients."""
    with torch.inference_mode():
        start = time.perf_counter()
        job()
        return time.perf_counter() - start


def median_ratio(a: list[float], b: list[float]) -> float:
    """The median over the rounds of a's seconds over b's."""
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def gemm_jobs(side: int = GEMM_SIDE) -> dict[str, Callable]:
    """A square matrix product in fp32, the yardstick of what the machine can do."""
    a, b = torch.randn(side, side), torch.randn(side, side)
    out = torch.empty(side, side)
    return {"gemm": lambda: torch.mm(a, b, out=out)}


def gemm_peak(seconds: list[float], side: int = GEMM_SIDE) -> float:
    """FLOP/s of the fastest round."""
    return 2 * side**3 / min(seconds)


def operations(job: Callable) -> int:
    """Floating-point operations of a call, 2 per multiply-add, of convolutions, products and attention."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    plain = sdpa_kernel(SDPBackend.MATH)  # the fused kernel of the CPU is not counted
    with torch.no_grad(), plain, FlopCounterMode(display=False) as counter:
        job()
    return counter.get_total_flops()


def blazeedit_jobs(model, size: int) -> dict[str, Callable]:
    """Every part of a BlazeEdit at size x size pixels, batch 1, as callables."""
    config, side = model.config, size // 8
    image, mask = torch.rand(1, 3, size, size), (torch.rand(1, size, size) > 0.5).float()
    latent, t = torch.randn(1, config.latent_channels, side, side), torch.ones(1)
    features = torch.randn(1, config.condition_channels, side, side)
    guess = torch.randn_like(latent) if config.guess else None
    jobs = {
        "encoder": lambda: model.autoencoder.encode(image),
        "f_theta": lambda: model.features(image, mask, 0.4),
        "denoiser step": lambda: model.denoise(latent, t, features, guess),
        "decoder": lambda: model.autoencoder.decode(latent),
    }
    if model.shadow_head is not None:
        edge = config.gain_size
        thumbnail, signal = torch.rand(1, 3, edge, edge), torch.rand(1, edge, edge)
        jobs["gain head"] = lambda: model.shadow_head(thumbnail, signal)
    return jobs


def two_steps(model, size: int) -> Callable:
    """A whole edit of the networks: f_θ, two denoiser steps, decoder, and the guess's encoder if there is one."""
    from ..models.blazeedit import schedule

    image, mask = torch.rand(1, 3, size, size), (torch.rand(1, size, size) > 0.5).float()
    shape = (1, model.config.latent_channels, size // 8, size // 8)

    def edit():
        features = model.features(image, mask, 0.4)
        guess = model.autoencoder.encode(image) if model.config.guess else None
        latent = schedule.sample(
            lambda noisy, t: model.denoise(noisy, t, features, guess), shape,
            schedule=model.config.schedule, steps=2, generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        return model.autoencoder.decode(latent)

    return edit
