"""`python . bench speed`: seconds, memory and fraction of the machine's peak, interleaved in one run.

Rows {"part", "what", "value", "unit", "kind", "limit", "at_most", "ok"}; kind "must" and "aim" have a limit,
"info" has none.
"""

import statistics
from pathlib import Path

import torch

from . import editmgt, icedit, kontext, large_photo, stable_diffusion, swiftedit, timing

SYSTEMS = {"swiftedit": swiftedit, "editmgt": editmgt, "kontext": kontext, "icedit": icedit}
PARTS = ("edit", "large", "parts", "paper", *SYSTEMS)
TASKS = ("remove", "outpaint", "tone", "relight", "sticker")
SIZE, QUICK = 512, 64
SD_STEPS = 4
SMALL, PAPER = "blazeedit-small", "blazeedit-195m"


def row(part, what, value, unit, must=None, aim=None, at_most=True) -> list[dict]:
    """One row per limit, or one without."""
    limits = [(kind, limit) for kind, limit in (("must", must), ("aim", aim)) if limit is not None]
    return [
        {"part": part, "what": what, "value": float(value), "unit": unit, "kind": kind, "limit": limit,
         "at_most": at_most, "ok": None if limit is None else bool(value <= limit if at_most else value >= limit)}
        for kind, limit in limits or [("info", None)]
    ]  # fmt: skip


def run(parts, *, quick=False, repeats=3, threads=None, weights: Path | None = None, kit=None) -> list[dict]:
    """Measures the chosen parts. kit: (pipeline, model) instead of the shipped ones, for tests."""
    if threads:
        torch.set_num_threads(threads)
    rows = row("machine", "torch threads", torch.get_num_threads(), "")
    if quick:
        repeats = 1
        rows += row("machine", "a quick run on tiny sizes: no measurement", 1, "")
    if "large" in parts:  # first, while this process is small
        rows += large(weights, threads, quick)
    if "edit" in parts:
        rows += edits(*(kit or _shipped(weights)), repeats, quick)
    if "parts" in parts or "paper" in parts:
        rows += networks(parts, repeats, quick)
    for name, system in SYSTEMS.items():
        rows += system.rows(row, repeats, quick) if name in parts else []
    return rows


def _shipped(weights):
    from ..models.blazeedit import checkpoint, pipeline

    return pipeline, checkpoint.load(weights)


def large(weights, threads, quick) -> list[dict]:
    """A 12-megapixel photograph, each task in its own process."""
    from tqdm import tqdm

    sides, rows = ((96, 128) if quick else large_photo.SIDES), []
    for task in tqdm(TASKS, desc="12 megapixels", unit="edit", dynamic_ncols=True):
        found = large_photo.measure(task, sides, weights, threads or 0)
        rows += row("large", f"{task}, 12 MP", found["seconds"], "s", 5.0, 2.5)
        rows += row("large", f"{task}, 12 MP, peak above import", found["bytes"] / 1e9, "GB", 1.5)
    return rows


def edits(pipeline, model, repeats, quick) -> list[dict]:
    """The one-click edits at 512 x 512 beside one VAE decode of Stable Diffusion 1.5."""
    size = QUICK if quick else SIZE
    jobs = {task: _edit_job(pipeline, model, task, size) for task in TASKS}
    jobs |= stable_diffusion.jobs(stable_diffusion.vae(quick), None, size)
    seconds = timing.interleaved(jobs, repeats, "512 x 512")
    decode = seconds["sd15 vae decode"]
    rows = row("edit", "sd15 vae decode", statistics.median(decode), "s")
    for task in TASKS:
        rows += row("edit", f"{task}, 512 x 512", statistics.median(seconds[task]), "s", 1.0, 0.5)
        ratio = timing.median_ratio(seconds[task], decode)
        rows += row("edit", f"{task}, of one sd15 vae decode", ratio, "", 0.04, 0.02)
    return rows


def _edit_job(pipeline, model, task, size):
    image, mask = large_photo.photograph(size, size)
    if task == "outpaint":
        quarter = size // 4
        kept = image[..., : size - quarter].contiguous()
        return lambda: pipeline.outpaint(model, kept, right=quarter)
    if task in ("remove", "sticker"):
        return lambda: getattr(pipeline, task)(model, image, mask)
    return lambda: getattr(pipeline, task)(model, image)


def networks(parts, repeats, quick) -> list[dict]:
    """Parts of both models as a fraction of the GEMM peak, and the paper's size beside Stable Diffusion."""
    size, side = (QUICK, 256) if quick else (SIZE, timing.GEMM_SIDE)
    models = {"small": network(SMALL), "195m": network(SMALL if quick else PAPER)}
    jobs = timing.gemm_jobs(side)
    if "parts" in parts:
        for name, model in models.items():
            jobs |= {f"{name} {part}": job for part, job in timing.blazeedit_jobs(model, size).items()}
    if "paper" in parts:
        jobs["195m edit, 2 steps"] = timing.two_steps(models["195m"], size)
        jobs |= stable_diffusion.jobs(stable_diffusion.vae(quick), stable_diffusion.unet(quick), size)
    seconds = timing.interleaved(jobs, repeats, "networks")
    rows = row("parts", "gemm peak, fp32", timing.gemm_peak(seconds["gemm"], side) / 1e9, "GFLOP/s")
    if "parts" in parts:
        rows += part_rows(jobs, seconds, side)
    return rows + (paper_rows(seconds) if "paper" in parts else [])


def network(name: str):
    """A configuration with random weights: speed does not depend on their values."""
    from ..models.blazeedit.config import config
    from ..models.blazeedit.model import BlazeEdit

    return BlazeEdit(config(name)).requires_grad_(False).eval()


def part_rows(jobs, seconds, side) -> list[dict]:
    """Seconds, operations and fraction of the GEMM peak of every part."""
    rows, peak = [], timing.gemm_peak(seconds["gemm"], side)
    for name in (n for n in jobs if n.startswith(("small ", "195m ")) and "edit" not in n):
        taken, work = statistics.median(seconds[name]), timing.operations(jobs[name])
        aim = 0.6 if name == "195m denoiser step" else None
        rows += row("parts", name, taken, "s")
        rows += row("parts", f"{name}, work", work / 1e9, "GFLOP")
        rows += row("parts", f"{name}, of the gemm peak", work / taken / peak, "", aim=aim, at_most=False)
    return rows


def paper_rows(seconds) -> list[dict]:
    """The 195M edit (2 steps) against SD1.5 inpainting (4 steps): VAE encode, U-Net steps, VAE decode."""
    ours = seconds["195m edit, 2 steps"]
    rows = row("paper", "195m edit, 2 steps", statistics.median(ours), "s")
    for step, text, aim in (("sd15 u-net step, guided", "with guidance", 12.0),
                            ("sd15 u-net step", "without guidance", 8.0)):  # fmt: skip
        parts = zip(seconds["sd15 vae encode"], seconds[step], seconds["sd15 vae decode"], strict=True)
        theirs = [encode + SD_STEPS * one + decode for encode, one, decode in parts]
        rows += row("paper", f"sd15 inpainting, {SD_STEPS} steps {text}", statistics.median(theirs), "s")
        times = timing.median_ratio(theirs, ours)
        rows += row("paper", f"195m edit is faster by, {text}", times, "x", aim=aim, at_most=False)
    return rows


def _number(value: float) -> str:
    return f"{value:.1e}" if 0 < abs(value) < 0.001 else f"{value:.3f}"


def lines(rows) -> list[str]:
    """The printed table; the last line is the summary."""
    out = []
    for r in rows:
        verdict = ""
        if r["kind"] != "info":
            mark = "pass" if r["ok"] else ("FAIL" if r["kind"] == "must" else "below")
            verdict = f"{r['kind']:4} {'<=' if r['at_most'] else '>='} {r['limit']:g} {r['unit']}: {mark}"
        out.append(f"{r['part']:9} {r['what']:44} {_number(r['value']):>10} {r['unit']:8} {verdict}".rstrip())
    musts, aims = ([r for r in rows if r["kind"] == kind] for kind in ("must", "aim"))
    met, reached = sum(r["ok"] for r in musts), sum(r["ok"] for r in aims)
    short = len(musts) - met
    return [
        *out,
        "",
        f"{met} of {len(musts)} musts met, {short} short; {reached} of {len(aims)} aims reached",
    ]
