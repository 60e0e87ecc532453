"""What `python . bench mobile` times: the parts of an edit in torch and in LiteRT, on the same arrays, interleaved."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..models.mobile import convert, packages, quantise, runtime, samples
from ..models.mobile.manifest import Manifest
from . import timing

TORCH = "torch"
GEMM_SIDE = 1024
EDIT = ("encoder", "denoiser", "decoder")  # the parts of a whole edit; the denoiser takes two steps
SETTLE = 0.03  # seconds in which the worker threads of the job before go to sleep

Jobs = dict[tuple[str, str], Callable]  # (variant, component) -> a call of it


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose manifest and hashes were checked."""

    folder: Path
    manifest: Manifest

    @property
    def quantisation(self) -> str:
        return self.manifest.data["quantisation"]

    @property
    def size(self) -> int:
        """The canvas that is measured: that of the default signature."""
        return self.manifest.data["canvas"]["sizes"][0]


def torch_jobs(model, cases: list[samples.Case]) -> Jobs:
    """Every file's network as torch runs it eagerly: arrays [1, c, h, w] in, arrays out."""
    case = _two_steps(cases)
    made = case.expected
    image, mask, guess = map(_array, (case.image, case.mask, case.guess))
    features, base, latent = map(_array, (made["features"], made.get("guess_latent"), made["latent_1"]))
    noise = [_array(n) for n in case.noise]

    def denoiser():
        value, conditions = torch.zeros(latent.shape), (_tensor(features), _tensor(base))
        for (t, alpha, sigma), fresh in zip(case.rows, noise, strict=True):
            noisy = alpha * value + sigma * _tensor(fresh)
            value = model.denoise(noisy, torch.tensor([t]), *conditions)
        return value.numpy()

    jobs = {
        (TORCH, "encoder"): lambda: [
            x if x is None else x.numpy()
            for x in model.conditions(_tensor(image), _tensor(mask), case.tau, _tensor(guess))
        ],
        (TORCH, "denoiser"): denoiser,
        (TORCH, "decoder"): lambda: model.autoencoder.decode(_tensor(latent)).numpy(),
    }
    return jobs | {(TORCH, c.gain[0]): _head_job(model, c) for c in cases if c.gain is not None}


def _head_job(model, case: samples.Case) -> Callable:
    name, image, mask = case.gain
    image, signal = _array(image), _array(mask * case.tau)
    head = getattr(model, f"{name}_head")
    return lambda: head(_tensor(image), _tensor(signal)).numpy()


def litert_jobs(bundle: Bundle, cases: list[samples.Case], threads: int) -> Jobs:
    """Every file of a bundle through its signature, as the pack itself calls it: arrays [1, h, w, c] in and out."""
    networks = runtime.BundleModel(bundle.folder, bundle.manifest, threads=threads).networks
    calls: dict[str, list[dict]] = {}
    heads = {c.gain[0]: c for c in cases if c.gain is not None}
    for name, inputs in samples.inputs_of(_two_steps(cases)):
        calls.setdefault(name, []).append(inputs)
    for name, case in heads.items():
        calls[name] = [inputs for found, inputs in samples.inputs_of(case) if found == name]
    return {
        (bundle.quantisation, name): _network_job(
            networks[name], bundle.manifest.file(name)["signatures"][0]["key"], inputs
        )
        for name, inputs in calls.items()
    }


def _network_job(network: runtime.Network, signature: str, calls: list[dict]) -> Callable:
    def job():
        for inputs in calls:
            made = network(signature, **{name: torch.from_numpy(x) for name, x in inputs.items()})
        return {name: x.numpy() for name, x in made.items()}

    return job


def _two_steps(cases: list[samples.Case]) -> samples.Case:
    return next(case for case in cases if len(case.noise) == 2)


def _array(value: torch.Tensor | None) -> np.ndarray | None:
    return None if value is None else np.ascontiguousarray(value.numpy(), np.float32)


def _tensor(value: np.ndarray | None) -> torch.Tensor | None:
    return None if value is None else torch.from_numpy(value)


def gemm_files(folder: Path, side: int) -> dict[str, Path]:
    """Writes a fully connected layer of side x side on `side` rows, in fp32 and in dynamic int8."""
    paths = {kind: folder / f"gemm_{kind}.tflite" for kind in ("fp32", "int8")}
    layer = torch.nn.Linear(side, side, bias=False).requires_grad_(False).eval()
    converter = packages.exporter()
    with convert.quiet():
        converter.convert(layer, sample_kwargs={"input": torch.zeros(side, side)}).export(str(paths["fp32"]))
    quantise.quantise(paths["fp32"], paths["int8"], "int8")
    return paths


def gemm_jobs(paths: dict[str, Path], side: int, threads: int) -> Jobs:
    """Matrix products, the yardstick of what the machine can do: torch's, and XNNPACK's without copies."""
    jobs: Jobs = {(TORCH, "gemm"): timing.gemm_jobs(side)["gemm"]}
    for kind, path in paths.items():
        interpreter = runtime.open_interpreter(path, threads)
        interpreter.allocate_tensors()
        values = np.random.default_rng(0).standard_normal((side, side)).astype(np.float32)
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values)
        jobs[kind, "gemm"] = interpreter.invoke
    return jobs


def order(names: list, turn: int) -> list:
    """The jobs' order in a round: rotated by one each time, and backwards every other time."""
    turned = names[turn % len(names) :] + names[: turn % len(names)]
    return turned[::-1] if turn % 2 else turned


def interleaved(
    jobs: Jobs, rounds: int, after_round: Callable, pause: float = 0.0
) -> dict[tuple, list[float]]:
    """Seconds of every job in every round, all jobs in every round, and each once before that, untimed.

    After a bundle's parts their sum is added as (variant, "edit"). pause: seconds before each job.
    """
    from tqdm import tqdm

    seconds: dict[tuple, list[float]] = {name: [] for name in jobs}
    with tqdm(total=len(jobs) * (rounds + 1), desc="mobile", unit="run", dynamic_ncols=True) as bar:
        for turn in range(-1, rounds):
            for name in order(list(jobs), max(turn, 0)):
                time.sleep(pause)
                taken = timing.timed(jobs[name])
                if turn >= 0:
                    seconds[name].append(taken)
                bar.update()
            after_round()
    return seconds | edits(seconds)


def edits(seconds: dict[tuple, list[float]]) -> dict[tuple, list[float]]:
    """Seconds of a whole edit in every round: encoder, two denoiser steps, decoder."""
    variants = [variant for variant, component in seconds if component == EDIT[0]]
    return {
        (v, "edit"): [sum(parts) for parts in zip(*(seconds[v, c] for c in EDIT), strict=True)]
        for v in variants
    }
