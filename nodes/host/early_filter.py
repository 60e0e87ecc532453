"""Candidates of the early filter: M short runs of ComfyUI's sampling, each from the very noise of a run of its own."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...models.errors import EditError
from ...models.icedit.contact import bounded
from ...models.icedit.diptych import uncropped
from . import memo
from .devices import in_comfyui

Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Run:
    """One sampling as SamplerCustomAdvanced is given it: GUIDER, SAMPLER, SIGMAS, LATENT of one picture."""

    guider: object
    sampler: object
    sigmas: Tensor
    latent: dict

    def __post_init__(self):
        if not in_comfyui():
            raise EditError("ICEdit Early Filter samples through ComfyUI and needs it; run the workflow on a server.")
        count, steps = len(self.latent["samples"]), len(self.sigmas) - 1
        if count != 1:
            raise EditError(
                f"The latent holds {count} pictures, and the filter finds one seed for one picture; give them one "
                "after another."
            )
        if steps < 1:
            raise EditError("The early sigmas hold no step; give the schedule of a short run, such as 10 steps.")

    @property
    def steps(self) -> int:
        return len(self.sigmas) - 1

    def noise(self, seed: int) -> Tensor:
        """The noise that ComfyUI gives a run of its own with this seed."""
        return random_noise(seed).generate_noise(self.prepared())

    def prepared(self) -> dict:
        """The latent with the channels that the model takes, as SamplerCustomAdvanced makes it."""
        import comfy.sample

        fixed = comfy.sample.fix_empty_latent_channels(self.guider.model_patcher, self.latent["samples"])
        return {**self.latent, "samples": fixed}


@dataclass(frozen=True)
class Candidates:
    """What the runs gave: samples [M, …], and the clean latents predicted at their last step."""

    samples: Tensor
    clean: Tensor


def random_noise(seed: int):
    """ComfyUI's own NOISE of a seed."""
    from comfy_extras.nodes_custom_sampler import Noise_RandomNoise

    return Noise_RandomNoise(seed)


def candidates(run: Run, seeds: Sequence[int], at_once: int, report: Report) -> Candidates:
    """One short run for each seed, as many side by side as `at_once` (0: as fit) and the device's memory allow.

    What was sampled before from the same inputs is looked up: another judge or another pick samples nothing again.
    """
    objects = (run.guider, run.sampler, run.sigmas, run.latent["samples"], run.latent.get("noise_mask"))
    return memo.recall("early", objects, lambda: _sampled(run, seeds, at_once, report), tuple(seeds))


def _sampled(run: Run, seeds: Sequence[int], at_once: int, report: Report) -> Candidates:
    limit = _side_by_side(run, at_once or len(seeds), automatic=not at_once)
    parts: list[tuple[Tensor, Tensor]] = []
    start = 0
    while start < len(seeds):
        group = seeds[start : start + limit]
        tell = _progress(report, start, len(group), run.steps, len(seeds))
        try:
            parts.append(_sample(run, group, tell))
        except torch.cuda.OutOfMemoryError:
            if limit == 1:
                raise
            limit = max(1, len(group) // 2)
            _free_memory()
            continue
        start += len(group)
    samples, clean = (torch.cat(column) for column in zip(*parts, strict=True))
    return Candidates(samples, clean)


def _progress(report: Report, before: int, group: int, steps: int, count: int) -> Callable[[int], None]:
    return lambda step: report(before * steps + group * (step + 1), count * steps)


def _sample(run: Run, seeds: Sequence[int], tell: Callable[[int], None]) -> tuple[Tensor, Tensor]:
    """What SamplerCustomAdvanced does, with each row's own noise."""
    import comfy.model_management as management

    latent, last = run.prepared(), {}

    def callback(step, clean, x, total):
        last["clean"] = clean
        tell(step)

    noise = torch.cat([run.noise(seed) for seed in seeds])
    image = latent["samples"].repeat(len(seeds), *[1] * (latent["samples"].ndim - 1))
    made = run.guider.sample(
        noise, image, run.sampler, run.sigmas, denoise_mask=_one_mask(latent), callback=callback, disable_pbar=True,
        seed=seeds[0],
    )  # fmt: skip
    clean = made
    if "clean" in last:
        clean = run.guider.model_patcher.model.process_latent_out(last["clean"].cpu())
    where = management.intermediate_device()
    return made.to(where), clean.to(where)


def _one_mask(latent: dict) -> Tensor | None:
    """The first noise mask only, as in a run of one picture; ComfyUI would deal several out to the candidates."""
    mask = latent.get("noise_mask")
    if mask is None or latent["samples"].ndim != 4:
        return mask
    return mask.reshape(-1, 1, *mask.shape[-2:])[:1]


def _side_by_side(run: Run, wanted: int, automatic: bool) -> int:
    """How many candidates can be one batch without being other than one by one."""
    if not _equal_in_a_batch(run.guider, run.sampler):
        return 1
    return min(wanted, _fitting(run, wanted)) if automatic else wanted


def _equal_in_a_batch(guider, sampler) -> bool:
    """Whether a row of a batch is what it is alone: a sampler that draws noise, a guider of other packs, and several
    prompts that ComfyUI would deal out to the rows need runs of their own."""
    import comfy.samplers

    if not isinstance(guider, comfy.samplers.CFGGuider) or type(sampler) is not comfy.samplers.KSAMPLER:
        return False
    if sampler.inpaint_options.get("random") or "noise_sampler" in _parameters(sampler.sampler_function):
        return False
    values = [v for conds in guider.original_conds.values() for cond in conds for v in _leaves(cond)]
    return all(v.ndim < 2 or len(v) == 1 for v in values) and not any(
        "control" in cond for conds in guider.original_conds.values() for cond in conds
    )


def _parameters(function) -> set[str]:
    try:
        return set(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return {"noise_sampler"}  # unknown: taken for one that draws noise


def _leaves(value) -> list[Tensor]:
    """The tensors in a conditioning's values."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [leaf for one in value for leaf in _leaves(one)] if isinstance(value, list | tuple) else []


def _fitting(run: Run, wanted: int) -> int:
    """How many candidates ComfyUI's own estimate lets the device hold beside the whole model; 1 at least."""
    import comfy.model_management as management

    model, shape = run.guider.model_patcher, list(run.prepared()["samples"].shape)
    free = management.get_total_memory(model.load_device) - model.model_size() - management.extra_reserved_memory()
    fitting = 1
    while fitting < wanted and model.memory_required([fitting + 1, *shape[1:]]) <= free:
        fitting += 1
    return fitting


def _free_memory() -> None:
    import comfy.model_management

    comfy.model_management.soft_empty_cache(True)


def pictures(vae, found: Candidates, sigmas: Tensor, record=None) -> Tensor:
    """The candidates [M, 3, h, w] as a judge sees them: their samples, or what was predicted where the schedule stops
    early. record: of a diptych, whose right panel is taken back to the picture, made no
    larger than a judge can use."""
    latents = found.samples if float(sigmas[-1]) == 0 else found.clean
    made = _decoded(vae, latents)  # not remembered: six pictures are large, and decoding them is quick
    return made if record is None else uncropped(made, bounded(record))[0]


def _decoded(vae, latents: Tensor) -> Tensor:
    made = vae.decode(latents)
    made = made.reshape(-1, *made.shape[-3:])[..., :3]  # a video model gives single frames
    return made.movedim(-1, 1).float().clamp(0, 1)


def winner(run: Run, found: Candidates, seeds: Sequence[int], number: int | None) -> tuple:
    """(seed, NOISE, LATENT) of a candidate; of none: what keeps ComfyUI from running the nodes behind these."""
    if number is None:
        from comfy_execution.graph_utils import ExecutionBlocker

        return (ExecutionBlocker(None),) * 3
    latent = {**run.latent, "samples": found.samples[number : number + 1]}
    return seeds[number], random_noise(seeds[number]), latent
