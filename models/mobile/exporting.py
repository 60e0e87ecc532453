"""`python . export`: a loaded BlazeEdit as a bundle that a phone or a browser runs, checked before it appears."""

import contextlib
import json
import math
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from ..blazeedit import checkpoint
from ..blazeedit.config import BlazeEditConfig
from ..blazeedit.model import BlazeEdit
from ..blazeedit.tasks import TASKS
from ..errors import EditError
from . import accuracy, convert, golden, joining, latency, manifest, operators, quantise, readme, samples
from .constants import constants
from .runtime import BundleModel

Callback = Callable[[str, int, int], None] | None
LICENCE = Path(__file__).resolve().parents[2] / "LICENSE"
STEPS = (1, 2)
GUESSES = {
    "remove": "membrane",
    "outpaint": "extend",
    "tone": "partial_stretch",
    "relight": "image",
    "sticker": "sticker",
}
NOT_TESTED = "not compiled or run on a device"


@dataclass(frozen=True)
class Request:
    """What is wanted. licence: SPDX identifier of the weights; web: the page with LiteRT.js from that folder."""

    out: Path
    quantisation: str = "int8"
    sizes: list[int] = field(default_factory=list)  # [] = 256, or 512 for the paper's model
    overwrite: bool = False
    name: str = ""
    weights_sha256: str = ""
    licence: str = "Apache-2.0"
    trained: bool = True
    calibration: Path | None = None
    version: str = ""
    web: Path | None = None
    single_file: bool = False  # all networks in one .tflite


def export(model: BlazeEdit, request: Request, callback: Callback = None) -> dict:
    """Writes the bundle folder and its .zip. Nothing appears before everything was checked.

    Returns {"folder", "zip", "manifest", "table"}. EditError in one sentence for what cannot be done; what was there
    before stays.
    """
    quantise.check(request.quantisation)
    model, out = plain(model), Path(os.path.expanduser(request.out)).absolute()
    sizes = convert.check_sizes(request.sizes or [256 if model.config.guess else 512])
    _check_calibration(request)
    if request.web is not None and request.single_file:
        raise EditError("The page loads a file per network; leave --single-file or --web out.")
    _check_place(out, request.overwrite, model)
    part = None
    try:
        part = Path(tempfile.mkdtemp(prefix=f".{out.name[:40]}.", suffix=".part", dir=out.parent))
        bundle = part / out.name
        bundle.mkdir()
        table = _fill(model, sizes, bundle, part, request, callback or (lambda *_: None))
        packed = _zip(bundle, part / f"{out.name}.zip")
        return _publish(bundle, packed, out) | {"table": table, "manifest": manifest.read(out).data}
    except OSError as error:
        raise EditError(f"The bundle could not be written to {out} ({error.strerror or error}).") from error
    finally:
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)


def licence(folder: Path | str) -> str:
    """The SPDX identifier of a model folder's weights: ours are known, a user's are his own."""
    return "Apache-2.0" if Path(folder).resolve() == checkpoint.SHIPPED.resolve() else "LicenseRef-of-the-model"


def plain(model: nn.Module) -> BlazeEdit:
    """A copy on the CPU, in float32, of plain torch layers. EditError for what is no BlazeEdit."""
    if not isinstance(getattr(model, "config", None), BlazeEditConfig) or not isinstance(model, nn.Module):
        raise EditError(f"A {type(model).__name__} cannot be exported; wire a model from Load BlazeEdit.")
    with torch.device("meta"):
        copy = BlazeEdit(model.config)
    state = {k: v.detach().to("cpu", torch.float32, copy=True) for k, v in model.state_dict().items()}
    copy.load_state_dict(state, assign=True)
    return copy.requires_grad_(False).eval()


def _check_calibration(request: Request) -> None:
    """EditError, before the long part, where int8-static has nothing to be calibrated on."""
    if request.quantisation != "int8-static":
        return
    if request.calibration is None:
        raise EditError("int8-static has to be calibrated; give a folder of photographs with --calibration.")
    if str(request.calibration) != "samples":
        samples.photos(request.calibration)


def _check_place(out: Path, overwrite: bool, model: BlazeEdit) -> None:
    """EditError for a folder that exists, cannot be written, or has no room."""
    if not out.name:
        raise EditError(f"{out} is no place for a bundle; name a folder of its own.")
    archive = _archive(out)
    taken = next((path for path in (out, archive) if os.path.exists(path)), None)
    if taken and not overwrite:
        raise EditError(f"{taken} exists already; choose another folder, or say --overwrite.")
    if os.path.isdir(archive):
        raise EditError(f"{archive} is a folder, and the .zip would go there; choose another place.")
    if taken == out and not (out / manifest.NAME).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise EditError(f"{out} is not a bundle, so it is not overwritten; choose another folder.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        needed = 12 * sum(p.numel() for p in model.parameters()) + 100_000_000
        free = shutil.disk_usage(out.parent).free
    except OSError as error:
        raise EditError(f"{out.parent} cannot be written ({error.strerror}); choose another place.") from None
    if free < needed:
        raise EditError(
            f"{out.parent} has {free / 1e9:.1f} GB free and the export needs {needed / 1e9:.1f}; make room there."
        )
    if not os.access(out.parent, os.W_OK):
        raise EditError(f"{out.parent} cannot be written (no permission); choose another place.")


def _fill(model, sizes, bundle: Path, part: Path, request: Request, tell) -> list[dict]:
    """Everything that a bundle holds, written and checked. Returns the table of components."""
    modules = convert.modules(model)
    total = 2 * len(modules) + 4
    with torch.no_grad():
        tell("what torch makes of the sample photographs", 0, total)
        cases = samples.cases(model, sizes[0], per_task=3 if request.trained else 1)  # of random weights one tells all
        for size in sizes[1:]:
            cases += samples.cases(model, size, per_task=1)
        for index, (name, module) in enumerate(modules.items()):
            tell(f"converting {name}", 1 + index, total)
            convert.convert(name, module, model, sizes, part / f"{name}.tflite")
        del modules, module
        draft = manifest.Manifest(_draft(model, sizes, request))
        calibration = (
            _calibration(model, sizes, cases, request) if request.quantisation == "int8-static" else None
        )
        table = []
        for index, name in enumerate(draft.names):
            tell(f"quantising and checking {name}", 1 + len(draft.names) + index, total)
            table.append(_component(name, part, bundle, draft, cases, request.quantisation, calibration))
        tell("checking whole edits", total - 3, total)
        edits = _check_edits(bundle, draft, cases, part, request, calibration, table)
        if request.single_file:
            joining.join(bundle, draft)
    tell("writing golden edits", total - 2, total)
    _finish(bundle, draft, cases, table, edits, request)
    tell("verifying", total - 1, total)
    from .verify import verify

    verify(bundle)
    tell("done", total, total)
    return table


def _component(name, part: Path, bundle: Path, draft, cases, wanted: str, calibration) -> dict:
    """Quantises one file, more gently while it loses too much. Returns its row of the table."""
    kind = wanted
    while True:
        _write_quantised(name, part, bundle, kind, calibration)
        report = operators.inspect(bundle / f"{name}.tflite")
        if not report.refused:
            found = accuracy.of_component(BundleModel(bundle, draft), name, cases)
            if found >= accuracy.COMPONENT[kind]:
                return {
                    "name": name, "quantisation": kind, "bytes": (bundle / f"{name}.tflite").stat().st_size,
                    "db": found, "operators": report.operators, "partitions": report.partitions,
                    "outside": report.outside,
                }  # fmt: skip
            reason = f"{found:.1f} dB"
        else:
            reason = ", ".join(report.refused)
        if kind not in quantise.GENTLER:
            raise EditError(f"{name} cannot be exported: {reason}.")
        kind = quantise.GENTLER[kind]


def _write_quantised(name: str, part: Path, bundle: Path, kind: str, calibration) -> None:
    target = bundle / f"{name}.tflite"
    quantise.quantise(part / f"{name}.tflite", target, kind, (calibration or {}).get(name))
    quantise.without_names(target)


def _check_edits(bundle, draft, cases, part, request, calibration, table) -> dict:
    """Whole edits per task; where one loses too much, the decoder, which loses most, is made more gently."""
    while True:
        edits = accuracy.of_edits(BundleModel(bundle, draft), cases)
        try:
            accuracy.check(request.quantisation, {}, edits)
            return edits
        except EditError:
            row = next(r for r in table if r["name"] == "decoder")
            if row["quantisation"] not in quantise.GENTLER:
                raise
            gentler = quantise.GENTLER[row["quantisation"]]
            row.update(_component("decoder", part, bundle, draft, cases, gentler, calibration))


def _calibration(model, sizes, cases, request: Request) -> dict[str, dict[str, list[dict]]]:
    """File -> signature -> inputs as arrays, from the user's photographs or, with "samples", the pack's own."""
    if str(request.calibration) != "samples":
        cases = [case for size in sizes for case in samples.of_folder(model, size, request.calibration)]
    out: dict[str, dict[str, list[dict]]] = {}
    for case in cases:
        own = convert.key(sizes.index(case.size), case.size)
        for name, values in samples.inputs_of(case):
            key = convert.DEFAULT_KEY if name in samples.HEADS.values() else own
            out.setdefault(name, {}).setdefault(key, []).append(values)
    return out


def _draft(model: BlazeEdit, sizes: list[int], request: Request) -> dict:
    """The manifest's part that is known before any file is."""
    config = model.config
    return {
        "format": manifest.FORMAT, "format_version": manifest.VERSION,
        "created_by": f"ComfyUI-EditKit {request.version}".strip(), "licence": request.licence,
        "model": {
            "name": request.name or config.name, "configuration": config.to_dict(),
            "parameters": sum(p.numel() for p in model.parameters()),
            "weights_sha256": request.weights_sha256 or "0" * 64,
            "prediction": config.prediction, "first_guess": config.guess, "latent_channels": config.latent_channels,
            "feature_channels": config.condition_channels, "downscale": 8, "trained": request.trained,
        },
        "quantisation": request.quantisation,
        "canvas": {"sizes": sizes, "padding": "mirror"},
        "mask": {"white": "edit", "binarise_above": 0.0},
        "schedule": {
            "name": config.schedule,
            "steps": {str(n): [list(row) for row in samples.schedule_rows(config.schedule, n)] for n in STEPS},
        },
        "files": [_file(name, model, sizes) for name in convert.modules_of(config)],
        "tasks": _tasks(model, max(sizes)), "constants": constants(),
    }  # fmt: skip


def _file(name: str, model: BlazeEdit, sizes: list[int]) -> dict:
    signatures = []
    for index, size in enumerate(convert.sizes_of(name, model, sizes)):
        ins = convert.inputs(name, model, size)
        signatures.append({
            "key": convert.key(index, size), "size": size,
            "inputs": [_tensor(k, list(v.shape)) for k, v in ins.items()],
            "outputs": [_tensor(k, shape) for k, shape in convert.outputs(name, model, size).items()],
        })  # fmt: skip
    return {"name": name, "path": f"{name}.tflite", "signatures": signatures}


MEANING = {  # of a tensor: its range and what it is
    "image": ([0, 1], "sRGB picture"),
    "mask": ([0, 1], "0 or 1, white (1) is edited"),
    "tau": ([0, 1], "the task's signal; the mask is multiplied by it inside"),
    "guess": ([0, 1], "the classical first guess, sRGB"),
    "features": (None, "what the denoiser is conditioned on"),
    "guess_latent": (None, "latent of the first guess"),
    "latent": (None, "clean latent: the last step's, zeros at first; out: the new one"),
    "noise": (None, "standard normal; zeros when one step is taken"),
    "time": ([0, 1], "a row [t, alpha, sigma] of the schedule"),
    "log_gain": (None, "natural logarithm of the gain in linear light"),
}


def _tensor(name: str, shape: list[int]) -> dict:
    bounds, meaning = MEANING[name]
    layout = "NHWC" if len(shape) == 4 else "vector"
    return {
        "name": name,
        "shape": shape,
        "layout": layout,
        "dtype": "float32",
        "range": bounds,
        "meaning": meaning,
    }


def _tasks(model: BlazeEdit, largest: int) -> dict:
    config, out = model.config, {}
    sizes = {"paste": config.fill_size, "sticker": config.sticker_size}
    for name, task in TASKS.items():
        mask = "new_pixels" if name == "outpaint" else "required" if task.needs_mask else "optional"
        head = samples.HEADS.get(name)
        out[name] = {
            "tau": task.tau, "mask": mask, "steps": task.steps if config.guess else 2,
            "working_size": min(sizes.get(task.delivery, config.map_size), largest),
            "first_guess": GUESSES[name], "delivery": task.delivery,
            "gain_head": head if head and getattr(model, f"{head}_head") is not None else None,
        }  # fmt: skip
    for name, tau in config.extra_tasks.items():
        out[name] = {"tau": tau, "mask": "optional", "steps": 1, "working_size": min(config.map_size, largest),
                     "first_guess": "image", "delivery": "residual", "gain_head": None}  # fmt: skip
    return out


def _finish(bundle: Path, draft, cases, table: list[dict], edits: dict, request: Request) -> None:
    """Golden edits, README, licence, the page, and at last the manifest with every hash."""
    data, model = draft.data, BundleModel(bundle, draft)
    data["golden"] = golden.write(bundle, cases)
    data["accuracy"] = {
        "components": {r["name"]: _db(r["db"]) for r in table},
        "residual": _db(accuracy.of_residual(model, cases)),
        "edits": {t: {k: _db(v) for k, v in row.items()} for t, row in edits.items()},
    }
    data["mobile_ready"] = True  # what is not was refused above
    data["operators"] = {r["name"]: r["operators"] for r in table}
    data["delegation"] = {
        r["name"]: {"xnnpack_partitions": r["partitions"], "outside": r["outside"]} for r in table
    }
    data["tested"] = {"cpu": "golden edits run with ai-edge-litert where it was made", "browser": "see README.md",
                      "android": NOT_TESTED, "ios": NOT_TESTED, "gpu": "not run", "npu": "not run"}  # fmt: skip
    for entry, row in zip(data["files"], table, strict=True):
        path = bundle / entry["path"]
        first = entry["signatures"][0]
        row |= latency.measure(path, first["key"], first["inputs"])
        entry |= {"bytes": path.stat().st_size, "sha256": manifest.sha256(path), "quantisation": row["quantisation"]}
        entry |= {k: row[k] for k in ("memory_bytes", "latency_ms")}
    data["golden_files"] = [_listed(p, bundle) for p in sorted((bundle / golden.FOLDER).iterdir())]
    shutil.copyfile(LICENCE, bundle / "LICENSE")
    (bundle / "README.md").write_text(readme.text(data), encoding="utf-8")
    if request.web is not None:
        from .web import add_page

        add_page(bundle, request.web)
    shutil.copyfile(manifest.SCHEMA, bundle / manifest.SCHEMA.name)
    (bundle / manifest.NAME).write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def _listed(path: Path, bundle: Path) -> dict:
    return {
        "path": path.relative_to(bundle).as_posix(),
        "bytes": path.stat().st_size,
        "sha256": manifest.sha256(path),
    }


def _db(value: float) -> float | None:
    return None if math.isinf(value) else round(value, 2)


def _zip(bundle: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(p for p in bundle.rglob("*") if p.is_file()):
            archive.write(file, Path(bundle.name) / file.relative_to(bundle))
    return path


def _archive(out: Path) -> Path:
    return out.with_name(f"{out.name}.zip")


def _publish(bundle: Path, packed: Path, out: Path) -> dict:
    """Moves the finished bundle and its .zip to their places; older ones step aside, and come back if that fails."""
    aside, moves = bundle.parent / "older", ((bundle, out), (packed, _archive(out)))
    aside.mkdir()
    try:
        for new, place in moves:
            if place.exists():
                os.replace(place, aside / place.name)
            os.replace(new, place)
    except BaseException:
        for new, place in moves:
            with contextlib.suppress(OSError):
                if not new.exists():
                    os.replace(place, new)
                if (aside / place.name).exists():
                    os.replace(aside / place.name, place)
        raise
    return {"folder": out, "zip": _archive(out)}
