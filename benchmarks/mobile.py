"""`python . bench mobile`: bundles beside torch, with their size, accuracy, latency, fraction of the peak and memory.

Rows {"part", "what", "value", "unit", "kind", "limit", "at_most", "ok"} as in `speed`; `ok` of a must that the load
of the machine decides is None where the machine was not known to be idle.
"""

import json
import math
import os
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..models.blazeedit.config import CONFIGS
from ..models.blazeedit.model import BlazeEdit
from ..models.errors import EditError
from ..models.mobile import accuracy, manifest, runtime, samples
from . import children, idle, timing
from . import mobile_jobs as work
from .memory import peak_bytes
from .speed import row

QUANTS = ("int8", "fp16", "fp32")
BUNDLE_MB = {"blazeedit-small": 14.0, "blazeedit-195m": 210.0}  # of the int8 bundle's .tflite files
EXPORT_SECONDS, EXPORT_GB = 120.0, 6.0
FASTER, FASTER_AIM = 2.5, 3.5  # int8 than torch eager, 1 thread
PAPER_MS = {"encoder": 45, "decoder": 55, "denoiser": 190, "edit": 290}  # Table 2: Pixel 10 (Edge TPU)
ROUNDS = {"blazeedit-small": 30, "blazeedit-195m": 3}
EQUAL_DB = 300.0  # where nothing differs: JSON knows no infinity
QUICK_SIZE, QUICK_GEMM = 64, 128


@dataclass
class Kit:
    """What is measured: a torch model, what the export says of it, and bundles of it (none: they are exported)."""

    model: torch.nn.Module
    trained: bool = True
    weights_sha256: str = "0" * 64
    source: str = "small"  # as `python . export --model` takes it
    bundles: list[Path] = field(default_factory=list)


def kit(source: str, bundles: list[Path]) -> Kit:
    """The model of that name with its bundles. EditError for a name that is no model."""
    from ..headless.mobile import named_model

    model, details = named_model(source)
    sha = details.get("weights_sha256") or "0" * 64
    return Kit(model, details["trained"], sha, source, bundles)


def run(measured: Kit, *, quants=QUANTS, threads=(1, 2), rounds: int | None = None, quick=False, watch=None):
    """Measures everything. Returns the rows. watch: an `idle.Watch`, for tests."""
    watch, before = watch or idle.Watch(), torch.get_num_threads()
    watch.rest("before")
    try:
        with tempfile.TemporaryDirectory(prefix="editkit-bench-") as place:
            rows = _measure(measured, Path(place), quants, threads, rounds, quick, watch)
    finally:
        torch.set_num_threads(before)
    rows = machine(watch, threads, quick) + rows
    return rows if watch.idle() else unjudged(rows)


def _measure(measured: Kit, place: Path, quants, threads, rounds, quick, watch) -> list[dict]:
    rows, folders = [], measured.bundles
    if not folders:
        rows, folders = exports(measured.source, quants, place, watch, quick)
    bundles = opened(folders, measured)
    side = QUICK_GEMM if quick else work.GEMM_SIDE
    gemm = work.gemm_files(place, side), side
    # of random weights accuracy is not judged, and the paper's size takes long
    cases = samples.cases(measured.model, bundles[0].size, 3 if measured.trained and not quick else 1)
    rounds = 1 if quick else rounds or ROUNDS.get(measured.model.config.name, 10)
    rows += parameters(measured.model) + sizes(bundles, measured.model.config.name) + memory(bundles)
    rows += row("speed", "canvas", bundles[0].size, "px") + row("speed", "rounds", rounds, "")
    jobs = work.torch_jobs(measured.model, cases)
    flops = {component: timing.operations(job) for (_, component), job in jobs.items()}
    flops["edit"] = sum(flops[part] for part in work.EDIT)
    rows += [r for part, n in flops.items() for r in row("peak", f"{part}, work", n / 1e9, "GFLOP")]
    for count in threads:
        rows += speed(jobs, flops, bundles, cases, gemm, count, rounds, watch)
    watch.rest("after")
    return rows + accuracies(bundles, cases, measured.trained)


def child(source: str, quantisation: str, out: str, sizes: str) -> None:
    """What the process of an export does: the command line's export, and its peak memory as JSON."""
    from ..headless.cli import main

    options = ["--sizes", sizes] if sizes else []
    if main(["export", "--model", source, "--quant", quantisation, "-o", out, *options]) != 0:
        raise SystemExit(1)
    print(json.dumps({"bytes": peak_bytes()}))


def exports(source: str, quants, place: Path, watch, quick: bool) -> tuple[list[dict], list[Path]]:
    """Exports a bundle of each kind, in a process of its own. Returns rows and folders."""
    from tqdm import tqdm

    rows, folders = [], []
    for kind in tqdm(quants, desc="export", unit="bundle", dynamic_ncols=True):
        folder, start = place / kind, time.perf_counter()
        watch.start()
        found = children.of_pack("mobile", [source, kind, folder, QUICK_SIZE if quick else ""],
                                 f"The export of {source} as {kind}")  # fmt: skip
        seconds = time.perf_counter() - start
        watch.tick("export", 0)
        rows += row("export", f"{kind}, seconds", seconds, "s", EXPORT_SECONDS)
        rows += row("export", f"{kind}, peak memory", found["bytes"] / 1e9, "GB", EXPORT_GB)
        folders.append(folder)
        folder.with_name(f"{kind}.zip").unlink(missing_ok=True)  # as large as the bundle
    return rows, folders


def opened(folders: list[Path], measured: Kit) -> list[work.Bundle]:
    """Bundles with manifest and hashes checked. EditError when they are not of that model or do not go together."""
    bundles = [work.Bundle(Path(folder), manifest.read(folder)) for folder in folders]
    for bundle in bundles:
        manifest.check_files(bundle.folder, bundle.manifest)
        if bundle.manifest.data["model"]["weights_sha256"] != measured.weights_sha256:
            raise EditError(
                f"{bundle.folder} was not made of the weights of {measured.source!r}; name its model with --model."
            )
    if len({b.quantisation for b in bundles}) < len(bundles) or len({b.size for b in bundles}) > 1:
        raise EditError("Name bundles of different quantisations that have the same first canvas size.")
    return bundles


def parameters(model) -> list[dict]:
    """Parameters of every part, as the files hold them, and of the denoisers of the known configurations."""
    parts = {"denoiser": model.denoiser, "condition encoder": model.condition,
             "guess encoder": model.autoencoder.encoder if model.config.guess else None,
             "decoder": model.autoencoder.decoder, "shadow head": model.shadow_head,
             "relight head": model.relight_head}  # fmt: skip
    counts = {k: sum(p.numel() for p in part.parameters()) for k, part in parts.items() if part is not None}
    counts["all files"] = sum(counts.values())
    name = model.config.name
    found = {f"{name} {part}": n for part, n in counts.items()}
    with torch.device("meta"):  # shapes without memory
        for other in (c for c in CONFIGS if c != name):
            denoiser = BlazeEdit(CONFIGS[other]).denoiser
            found[f"{other} denoiser"] = sum(p.numel() for p in denoiser.parameters())
    return [r for what, n in found.items() for r in row("parameters", what, n / 1e6, "M")]


def sizes(bundles: list[work.Bundle], name: str) -> list[dict]:
    """Megabytes (10^6) of every .tflite file and of a bundle's together."""
    rows = []
    for bundle in bundles:
        kind, files = bundle.quantisation, bundle.manifest.data["files"]
        for file in files:
            rows += row("size", f"{kind} {file['name']}", file["bytes"] / 1e6, "MB")
        limit = BUNDLE_MB.get(name) if kind == "int8" else None
        rows += row("size", f"{kind} all files", sum(f["bytes"] for f in files) / 1e6, "MB", limit)
    return rows


def memory(bundles: list[work.Bundle]) -> list[dict]:
    """Peak of one file opened, allocated and run once, above the bare runtime, each in a process of its own."""
    rows = []
    for bundle in bundles:
        for file in bundle.manifest.data["files"]:
            what = f"{bundle.quantisation} {file['name']}"
            found = children.alone("memory", [bundle.folder / file["path"], 1], f"Running {what} alone")
            rows += row("memory", what, found["bytes"] / 1e6, "MB")
    return rows


def speed(eager: work.Jobs, flops, bundles, cases, gemm, threads: int, rounds: int, watch) -> list[dict]:
    """One interleaved run at a number of threads: torch, every bundle, and the matrix products (files, side)."""
    torch.set_num_threads(threads)
    jobs = dict(eager)
    for bundle in bundles:
        jobs |= work.litert_jobs(bundle, cases, threads)
    jobs |= work.gemm_jobs(*gemm, threads)
    watch.start()
    pause = work.SETTLE if threads > 1 else 0.0
    seconds = work.interleaved(jobs, rounds, lambda: watch.tick("timing"), pause)
    watch.tick("timing", 0)
    return speed_rows(seconds, threads) + peak_rows(seconds, flops, threads, gemm[1])


def speed_rows(seconds: dict[tuple, list[float]], threads: int) -> list[dict]:
    """Minima and medians of every part and of the whole edit, and how many times faster than torch each is."""
    rows, on = [], _on(threads)
    for (variant, component), taken in seconds.items():
        if component == "gemm":
            continue
        what = f"{variant} {component}, {on}"
        rows += row("speed", f"{what}, minimum", 1000 * min(taken), "ms")
        rows += row("speed", f"{what}, median", 1000 * statistics.median(taken), "ms")
        if variant != work.TORCH:
            limits = (FASTER, FASTER_AIM) if variant == "int8" and threads == 1 else (None, None)
            times = min(seconds[work.TORCH, component]) / min(taken)
            rows += row("speed", f"{what}, faster than torch", times, "x", *limits, at_most=False)
    return rows


def peak_rows(seconds, flops: dict[str, float], threads: int, side: int) -> list[dict]:
    """The peaks of the machine, and the fraction of its own that every part reaches in its fastest round."""
    on, rows = _on(threads), []
    peaks = {kind: timing.gemm_peak(taken, side) for (kind, part), taken in seconds.items() if part == "gemm"}
    for kind, peak in peaks.items():
        name = kind if kind == work.TORCH else f"xnnpack {kind}"
        rows += row("peak", f"{name} gemm, {on}", peak / 1e9, "GFLOP/s")
    for (variant, component), taken in seconds.items():
        if component != "gemm":
            share = flops[component] / min(taken) / peaks[peak_of(variant)]
            rows += row("peak", f"{variant} {component}, {on}, of its peak", share, "")
    return rows


def peak_of(variant: str) -> str:
    """Which matrix product is the yardstick: fp16 and int8-weights files compute in fp32."""
    return variant if variant == work.TORCH else "int8" if variant in ("int8", "int8-static") else "fp32"


def _on(threads: int) -> str:
    return f"{threads} thread{'s' * (threads > 1)}"


def accuracies(bundles: list[work.Bundle], cases, trained: bool) -> list[dict]:
    """PSNR against torch, lowest of the sample photographs, unclipped. Random weights are shown and not judged."""
    rows = []
    for bundle in bundles:
        loaded = runtime.BundleModel(bundle.folder, bundle.manifest)
        kind = bundle.quantisation
        for file in bundle.manifest.data["files"]:
            made, found = file["quantisation"], accuracy.of_component(loaded, file["name"], cases)
            what = f"{kind} {file['name']}" + (f" in {made}" if made != kind else "")
            rows += _db(what, found, accuracy.COMPONENT[made] if trained else None)
        rows += _db(f"{kind} residual of the denoiser", accuracy.of_residual(loaded, cases), None)
        for task, found in accuracy.of_edits(loaded, cases).items():
            needed = accuracy.EDIT[kind] if trained else None
            masks = [case.mask for case in cases if case.task == task]
            rows += _db(f"{kind} edit {task}, whole", found["whole"], needed)
            if any(bool(mask.any()) for mask in masks):  # a small canvas may lie beside every hole
                rows += _db(f"{kind} edit {task}, in the hole", found["hole"], needed)
            if any(bool((mask == 0).any()) for mask in masks):  # else all is hole
                rows += _db(f"{kind} edit {task}, outside the hole", found["outside"], None)
    return rows


def _db(what: str, value: float, needed: float | None) -> list[dict]:
    return row("accuracy", what, EQUAL_DB if math.isinf(value) else value, "dB", needed, at_most=False)


def machine(watch, threads, quick: bool) -> list[dict]:
    """What was measured on, and how much of it others used meanwhile."""
    rows = row("machine", "cores", os.cpu_count() or 0, "")
    rows += [r for count in threads for r in row("machine", f"measured at {_on(count)}", count, "")]
    for phase, share in (watch.shares() or {}).items():
        rows += row("machine", f"used by others, {phase}", 100 * share, "% of a core")
    known = watch.idle()
    rows += row("machine", "idle is not known" if known is None else "idle", float(bool(known)), "")
    return rows + (row("machine", "a quick run on tiny sizes: no measurement", 1, "") if quick else [])


def unjudged(rows: list[dict]) -> list[dict]:
    """The same rows, without a verdict where the load of the machine decides."""
    loaded = lambda r: r["part"] == "speed" or (r["part"] == "export" and r["unit"] == "s")  # noqa: E731
    return [r | {"ok": None} if loaded(r) else r for r in rows]


def failed(rows: list[dict]) -> bool:
    """Whether a must that was judged falls short; never on a quick run."""
    quick = any(r["part"] == "machine" and r["what"].startswith("a quick run") for r in rows)
    return not quick and any(r["kind"] == "must" and r["ok"] is False for r in rows)
