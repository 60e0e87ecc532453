"""`doctor`: what is installed, which weights were found where, what is missing and where to get it."""

import importlib.metadata
import json
import os
import platform
import re
import struct
import sys
from pathlib import Path

from ..models.version import pack_version
from .folders import PACK

# Without these there is no edit; the other requirements each serve a part.
RUNS_ON = ("torch", "numpy", "pillow", "safetensors", "einops")
LOWEST_PYTHON = (3, 10)
WEIGHTS = PACK / "models" / "weights"
EXTRAS = {
    "requirements-train.txt": "train",
    "requirements-bench.txt": "bench",
    "requirements-mobile.txt": "export (mobile bundles)",
    "requirements-c2pa.txt": "content credentials (--c2pa, inspect)",
    "requirements-test.txt": "the tests",
}


def doctor() -> int:
    """Prints the report. Returns 1 when something is missing without which nothing can be edited."""
    missing = _python() + _packages() + _weights()
    _swiftedit()
    _editmgt()
    _icedit()
    _shared()
    _credentials()
    _comfyui()
    print("\nMissing" if missing else "\nNothing that an edit needs is missing: try `python . demo`.")
    for line in missing:
        print(f"  {line}")
    return 1 if missing else 0


def _python() -> list[str]:
    print(f"Python       {platform.python_version()}  {sys.executable}")
    print(f"System       {platform.platform()}")
    print(f"EditKit      {pack_version()}  {PACK}")
    if sys.version_info < LOWEST_PYTHON:
        return [f"Python {'.'.join(map(str, LOWEST_PYTHON))} or newer: https://www.python.org/downloads"]
    return []


def floors(path: Path) -> dict[str, str]:
    """Reads a requirements file: package -> lowest version ("" when any will do)."""
    if not path.is_file():
        return {}
    lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    matches = (
        re.match(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?\s*(?:>=\s*([0-9][0-9.]*))?", line)
        for line in lines
    )
    return {m[1].lower(): m[2] or "" for m in matches if m}


def installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def is_older(version: str, floor: str) -> bool:
    """Compares dotted numbers; what follows them ("+cpu", "rc1") does not count."""

    def numbers(text: str) -> list[int]:
        found = re.match(r"\d+(?:\.\d+)*", text)
        return [int(n) for n in found[0].split(".")] if found else []

    have, want = numbers(version), numbers(floor)
    length = max(len(have), len(want))
    return have + [0] * (length - len(have)) < want + [0] * (length - len(want))


def _packages() -> list[str]:
    print("\nPackages")
    missing = []
    wanted = dict.fromkeys(RUNS_ON, "") | floors(PACK / "requirements.txt")
    for package, floor in wanted.items():
        version = installed(package)
        problem = "missing" if version is None else "too old" if floor and is_older(version, floor) else ""
        needed = f">= {floor}" if floor else ""
        print(f"  {package:26}{version or '-':16}{needed:12}{problem}".rstrip())
        if problem and package in RUNS_ON:
            missing.append(f'{package} {needed}: pip install "{package}{f">={floor}" if floor else ""}"')
    _torch()
    for name, purpose in EXTRAS.items():
        absent = [p for p in floors(PACK / name) if installed(p) is None]
        if absent:
            print(f"  for {purpose}: {', '.join(absent)} not installed (pip install -r {name})")
    return missing


def _torch() -> None:
    try:
        import torch
    except (ImportError, OSError):
        return
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name(0)
    else:
        device = "Apple GPU (mps)" if torch.backends.mps.is_available() else "no GPU"
    print(f"  torch computes on: {device}, {torch.get_num_threads()} CPU threads")


def header(path: Path) -> dict:
    """What a safetensors file says of its tensors: name -> entry. ValueError when that cannot be read."""
    with path.open("rb") as file:
        head = file.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        if not 2 <= length <= path.stat().st_size - 8:
            raise ValueError("truncated or not a safetensors file")
        found = json.loads(file.read(length))
    entries = {name: entry for name, entry in found.items() if name != "__metadata__"}
    end = max((entry["data_offsets"][1] for entry in entries.values()), default=None)
    if end is not None and end + 8 + length != path.stat().st_size:
        raise ValueError("truncated")
    return entries


def parameters(path: Path) -> int:
    """Counts the numbers in a safetensors file from its header. ValueError when that cannot be read."""
    return sum(_product(entry["shape"]) for entry in header(path).values())


def _product(shape: list[int]) -> int:
    count = 1
    for side in shape:
        count *= side
    return count


def weight_folders() -> list[Path]:
    """The folders that are searched: the pack's own, then models/editkit of ComfyUI."""
    comfy = comfyui()
    return [WEIGHTS] + ([comfy / "models" / "editkit"] if comfy else [])


def _weights() -> list[str]:
    print("\nWeights")
    found, problems = 0, []
    for folder in weight_folders():
        print(f"  {folder}{'' if folder.is_dir() else '  (not there)'}")
        groups: dict[Path, list[Path]] = {}
        # macOS leaves ._* files in archives
        paths = [p for p in folder.rglob("*.safetensors") if not p.name.startswith("._")] if folder.is_dir() else []
        for path in sorted(paths):
            groups.setdefault(path.parent, []).append(path)
        for parent, paths in groups.items():
            try:
                count = sum(parameters(p) for p in paths)
            except (OSError, ValueError, KeyError, TypeError) as problem:
                problems.append(f"{parent}: a weight file cannot be read ({problem}); fetch the folder again")
                continue
            megabytes = sum(p.stat().st_size for p in paths) / 1e6
            size = f"{megabytes:.1f} MB in {len(paths)} file(s)"
            print(f"    {parent.name}: {count / 1e6:.2f} M parameters, {size}")
            found += 1
    if not found:
        problems.append(
            f"weights: {WEIGHTS} comes with the pack; install EditKit again or run `git pull` there"
        )
    return problems


def _swiftedit() -> None:
    """Says which parts of SwiftEdit's release are there; nothing else of the pack needs them."""
    try:
        from ..models.errors import EditError
        from ..models.swiftedit import checkpoint
    except (ImportError, OSError):  # torch is missing, which has been said
        return
    print("\nSwiftEdit")
    comfy = comfyui()
    folders = weight_folders() + ([comfy / "models" / "diffusion_models"] if comfy else [])
    found = {f / part.relative_to(f).parts[0] for f in folders for part in checkpoint.parts(f)}
    for folder in sorted(found):
        try:
            print(f"  {folder}\n    {_swiftedit_parts(checkpoint.find(folder))}")
        except EditError as problem:
            print(f"  {problem}")
    if not found:
        print("  no release found; only its own nodes need it (README, Change a caption)")


def _editmgt() -> None:
    """Says which of EditMGT's or Meissonic's folders are complete; nothing else of the pack needs them."""
    try:
        from ..models.editmgt import checkpoint
        from ..models.errors import EditError
    except (ImportError, OSError):  # torch is missing, which has been said
        return
    print("\nEditMGT")
    found = [folder for root in weight_folders() for folder in checkpoint.folders(root)]
    for folder in found:
        try:
            kind = "EditMGT" if checkpoint.find(folder).llm_encoder else "base Meissonic"
            print(f"  {folder}\n    {kind}, all parts are there")
        except EditError as problem:
            print(f"  {problem}")
    if not found:
        print("  no release found; only its own nodes need it (README, Follow an instruction)")


def _icedit() -> None:
    """Says which LoRA files are ICEdit's; nothing else of the pack needs them."""
    comfy = comfyui()
    folder = comfy / "models" / "loras" if comfy else None
    print("\nICEdit")
    found = [line for path in sorted(folder.rglob("*.safetensors") if folder else []) if (line := _icedit_file(path))]
    print("\n".join(found) or "  no LoRA found in models/loras; only its own nodes need it (README, Edit by a diptych)")


def _shared() -> None:
    """Says what is there of the parts that several systems share; nothing else of the pack needs them."""
    from . import found  # which reads headers as this module does

    print("\nFLUX.1 (Kontext and ICEdit)")
    print("\n".join(found.flux(comfyui())))
    try:
        judges, bundles = found.judges(weight_folders()[1:]), found.bundles()
    except (ImportError, OSError):  # torch is missing, which has been said
        return
    print("\nJudges and faces")
    print("\n".join(judges))
    print("\nMobile bundles")
    print("\n".join(bundles))


def _icedit_file(path: Path) -> str | None:
    """A line on a LoRA file of ICEdit's, None for another one. Only the plain LoRA of a Fill takes its 384 channels."""
    try:
        entries = header(path)
    except (OSError, ValueError, KeyError, TypeError):
        return f"  {path}\n    cannot be read; fetch it again" if "icedit" in path.name.lower() else None
    routed = sum(".lora_route" in name for name in entries)
    if routed:
        return f"  {path}\n    a mixture of experts in {routed} layers"
    shapes = [entry["shape"] for name, entry in entries.items() if name.endswith("x_embedder.lora_A.weight")]
    return f"  {path}\n    a plain LoRA for FLUX.1 Fill" if any(s[-1] == 384 for s in shapes) else None


def _swiftedit_parts(release) -> str:
    """The three parts of a release by their paths, or what to do about one that is absent."""
    inside = release.branch is not None and release.branch.suffix == ".bin"
    absent = {
        "inversion net": "missing (inverse…/unet_ema)",
        "generator": "the one in ip_adapter.bin" if inside else "missing (sbv2_0.5), or wire a MODEL",
        "image branch": "missing (ip_adapter…/ip_adapter.bin)",
    }
    paths = (release.inversion, release.generator, release.branch)
    shown = [path and path.relative_to(release.folder).as_posix() for path in paths]
    return "; ".join(f"{what}: {path or absent[what]}" for what, path in zip(absent, shown, strict=True))


def _credentials() -> None:
    """Says what would sign content credentials, without its path; nothing else of the pack needs it."""
    from ..models.errors import EditError
    from ..models.provenance import keys, package

    print("\nContent credentials")
    try:
        package.library()
        found = keys.load(keys.choose())
        print(f"  {found.name}, {'self-signed' if found.self_made else 'your own'}, until {found.until:%Y-%m-%d}")
    except EditError as problem:
        print(f"  {problem}")


def comfyui() -> Path | None:
    """ComfyUI's folder: COMFYUI_PATH, else the one that this pack is installed in, else ~/comfy/ComfyUI."""
    named = os.environ.get("COMFYUI_PATH")
    places = [Path(named)] if named else []
    places += [PACK.parent.parent] if PACK.parent.name == "custom_nodes" else []
    places.append(Path.home() / "comfy" / "ComfyUI")
    return next((p for p in places if (p / "main.py").is_file() and (p / "nodes.py").is_file()), None)


def _comfyui() -> None:
    folder = comfyui()
    print("\nComfyUI")
    if folder is None:
        print("  not found, and not needed for demo, run and edit (set COMFYUI_PATH to name one)")
        return
    try:
        text = (folder / "comfyui_version.py").read_text(encoding="utf-8")
    except OSError:
        text = ""
    version = re.search(r'__version__\s*=\s*"([^"]+)"', text)
    print(f"  {version[1] if version else 'of unknown version'}  {folder}")
    from . import found

    print(f"  front end {found.front_end(folder)}, for which the pack brings {_widgets()}")


def _widgets() -> str:
    """How many of the pack's own browser modules and help pages are there."""
    web = PACK / "web"
    return f"{len(list(web.rglob('*.js')))} modules and {len(list((web / 'docs').glob('*.md')))} help pages"
