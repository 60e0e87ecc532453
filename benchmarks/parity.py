"""`python . bench parity DIR`: this pack against recorded numbers of the official code.

A folder of fixtures is a family, known by its name; a family has cases; a case checks quantities. Each system
registers its own family beside the functions that its nodes call:

    @case("kontext", "eq12", files=("io.safetensors",))
    def eq12(folder: Path) -> Iterator[Quantity]:
        tensors = read(folder / "io.safetensors")
        yield compared("schedule", shifted(...), tensors["eq12.sigmas"], 1e-6)

A folder that no system has registered prints `absent`, and so does a case whose files are not there.
"""

import importlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from ..models.errors import EditError

# modules of this package that register cases, imported when parity runs
MODULES: tuple[str, ...] = (
    "parity_aram", "parity_editmgt", "parity_editmgt_compat", "parity_editmgt_smoothing", "parity_editmgt_text",
    "parity_kontext", "parity_moelora",
)  # fmt: skip


@dataclass(frozen=True)
class Quantity:
    """One checked number. It is good when value <= tolerance (NaN never is)."""

    name: str
    value: float
    tolerance: float

    @property
    def ok(self) -> bool:
        return self.value <= self.tolerance


@dataclass(frozen=True)
class Case:
    """What is checked from some files of a family's folder; absent while any of them is."""

    name: str
    files: tuple[str, ...]
    check: Callable[[Path], Iterable[Quantity]]
    present: Callable[[Path], bool] | None = None  # where one file holds several cases

    def found(self, folder: Path) -> bool:
        return all((folder / name).is_file() for name in self.files) and (
            self.present is None or self.present(folder)
        )


FAMILIES: dict[str, list[Case]] = {}


def case(family: str, name: str, *, files: tuple[str, ...], present: Callable[[Path], bool] | None = None):
    """Registers the decorated function as a case of a family; a second one of that name replaces it."""

    def register(check):
        cases = FAMILIES.setdefault(family, [])
        cases[:] = [c for c in cases if c.name != name] + [Case(name, tuple(files), check, present)]
        return check

    return register


def compared(name: str, ours, reference, tolerance: float, kind: str = "abs") -> Quantity:
    """How far our numbers are from the recorded ones.

    kind: "abs" max|d| / max(1, max|ref|); "rel" max|d| / max|ref|; "exact" the number of elements that differ.
    Another shape differs infinitely.
    """
    ours, reference = _array(ours), _array(reference)
    if ours.shape != reference.shape:
        return Quantity(name, float("inf"), tolerance)
    if kind == "exact":
        return Quantity(name, float((ours != reference).sum()), tolerance)
    if reference.size == 0:
        return Quantity(name, 0.0, tolerance)
    largest = float(np.abs(reference.astype(np.float64)).max())
    scale = max(1.0, largest) if kind == "abs" else max(largest, np.finfo(np.float64).tiny)
    difference = np.abs(ours.astype(np.float64) - reference.astype(np.float64)).max()
    return Quantity(name, float(difference / scale), tolerance)


def read(path: Path) -> dict[str, torch.Tensor]:
    """A safetensors file. EditError for one that is truncated or foreign."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise EditError(f"{path.name} cannot be read ({error})") from None


def metadata(path: Path) -> dict[str, str]:
    """The text beside the tensors of a safetensors file."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return file.metadata() or {}


@dataclass
class Tally:
    """What was checked so far."""

    rows: list[dict] = field(default_factory=list)
    cases: int = 0
    failed: int = 0

    def add(self, family: str, name: str, quantity: Quantity) -> str:
        """Counts one quantity and returns its line."""
        finite = np.isfinite(quantity.value)
        self.rows.append({
            "family": family, "case": name, "quantity": quantity.name, "ok": bool(quantity.ok),
            "value": float(quantity.value) if finite else None, "tolerance": quantity.tolerance,
        })  # fmt: skip
        self.failed += not quantity.ok
        verdict = "ok" if quantity.ok else "FAILED"
        return f"{family} {name} {quantity.name} {quantity.value:.3g} {quantity.tolerance:g} {verdict}"


def run(folder: Path, write: Callable[[list[dict]], None], echo: Callable[[str], None] = print) -> int:
    """Checks a family or a folder of families. Returns 0, or 1 on a failure and when nothing was checked."""
    for module in MODULES:
        importlib.import_module(f".{module}", __package__)
    tally = Tally()
    for family, where in families(Path(folder)):
        for line in check_family(family, where, tally):
            echo(line)
    write(tally.rows)
    echo(f"{tally.cases} cases, {len(tally.rows)} quantities, {tally.failed} failed")
    return int(tally.failed > 0 or tally.cases == 0)


def families(folder: Path) -> Iterator[tuple[str, Path]]:
    """(name, folder) of every family in a folder, or of the folder itself. EditError where it is none."""
    if not folder.is_dir():
        raise EditError(f"There is no folder {folder}; give one of recorded numbers.")
    folder = folder.resolve()
    if folder.name in FAMILIES:
        yield folder.name, folder
        return
    inside = sorted(p for p in folder.iterdir() if p.is_dir())
    if not inside:
        yield folder.name, folder  # of a name that nobody knows: reported as absent
    yield from ((p.name, p) for p in inside)


def check_family(family: str, folder: Path, tally: Tally) -> Iterator[str]:
    """The lines of one family; counts as it goes. A case that raises has failed."""
    registered = FAMILIES.get(family, [])
    for one in registered:
        if not one.found(folder):
            yield f"{family} {one.name} absent"
            continue
        tally.cases += 1
        try:
            for quantity in one.check(folder):
                yield tally.add(family, one.name, quantity)
        except Exception as error:  # noqa: BLE001 - an unreadable file or a crash in the code under test is a failure, not an end
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            yield tally.add(family, one.name, Quantity("error", float("inf"), 0.0)) + f" ({reason})"
    if not registered:
        yield f"{family} (no such family) absent"


def _array(values) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        return values.double().numpy() if values.is_floating_point() else values.numpy()
    return np.asarray(values)
