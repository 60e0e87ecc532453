"""manifest.json: what a bundle holds, checked before any other file of it is opened."""

import hashlib
import json
from functools import cache
from pathlib import Path

from ..errors import EditError
from .schema import problem

NAME, FORMAT, VERSION = "manifest.json", "editkit-mobile-bundle", 1
SCHEMA = Path(__file__).resolve().parent / "manifest.schema.json"
AGAIN = "export or copy the bundle again"
NETWORKS = ("encoder", "denoiser", "decoder")  # what every bundle has; gain heads are more


class Manifest:
    """A checked manifest."""

    def __init__(self, data: dict):
        self.data = data

    @property
    def sizes(self) -> list[int]:
        """The sides of the canvases that the networks take, ascending."""
        return sorted(self.data["canvas"]["sizes"])

    @property
    def names(self) -> list[str]:
        """The networks in it, by the names of their files."""
        return [f["name"] for f in self.data["files"]]

    def file(self, name: str) -> dict:
        return next(f for f in self.data["files"] if f["name"] == name)

    def signature(self, name: str, size: int) -> str:
        """The key under which a file holds a network for a canvas of `size` px. EditError when it holds none."""
        found = next((s["key"] for s in self.file(name)["signatures"] if s["size"] == size), None)
        if found is None:
            raise EditError(f"This bundle has no {name} for pictures of {size} px; {AGAIN}.")
        return found

    def noise_levels(self, t: float) -> tuple[float, float]:
        """(α, σ) of the schedule at a time that the manifest lists. EditError for another one."""
        rows = [row for rows in self.data["schedule"]["steps"].values() for row in rows]
        row = min(rows, key=lambda r: abs(r[0] - t))
        if abs(row[0] - t) > 1e-4:
            known = ", ".join(self.data["schedule"]["steps"])
            raise EditError(
                f"This bundle has schedules of {known} steps only, and none holds the time {t:g}."
            )
        return row[1], row[2]


@cache
def schema() -> dict:
    """The published JSON schema of this format version."""
    return json.loads(SCHEMA.read_text(encoding="utf-8"))


def read(folder: Path | str) -> Manifest:
    """Reads and checks a bundle's manifest. EditError in one sentence for what is missing, damaged or foreign."""
    path = Path(folder) / NAME
    if not Path(folder).is_dir():
        raise EditError(f"There is no bundle folder {folder}; make one with `python . export`.")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EditError(f"{folder} is not a bundle: {NAME} is missing; {AGAIN}.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise EditError(f"{path} is not readable JSON ({error}); {AGAIN}.") from None
    except OSError as error:
        raise EditError(f"{path} cannot be read ({error.strerror}); {AGAIN}.") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise EditError(f"{path} is not an EditKit bundle's manifest; {AGAIN}.")
    if data.get("format_version") != VERSION:
        raise EditError(
            f"The bundle {folder} has format version {data.get('format_version')!r} and this EditKit reads version "
            f"{VERSION}; export it again."
        )
    found = problem(data, schema()) or _contradiction(data)
    if found:
        raise EditError(f"{path} is damaged: {found}; {AGAIN}.")
    return Manifest(data)


def _contradiction(data: dict) -> str | None:
    """What a schema cannot say: that the parts which name each other are there."""
    files = {f["name"]: [s["size"] for s in f["signatures"]] for f in data["files"]}
    sizes, listed = data["canvas"]["sizes"], {f["path"] for f in data["golden_files"]}
    for name in NETWORKS:
        lacking = [size for size in sizes if size not in files.get(name, [])]
        if lacking:
            return f"there is no {name} for a canvas of {lacking[0]} px"
    for name, edit in data["golden"].items():
        gain, rows = edit["gain"] or {}, data["schedule"]["steps"].get(str(edit["steps"]), [])
        if edit["size"] not in sizes or edit["task"] not in data["tasks"] or gain.get("file", "encoder") not in files:
            return f"the golden edit {name} is of a size, a task or a network that is not in the bundle"
        if not edit["steps"] == len(rows) == len(edit["noise"]) == len(edit["latent"]):
            return f"the golden edit {name} does not have what its {edit['steps']} steps need"
        paths = [edit[k] for k in ("image", "mask", "guess", "features", "guess_latent", "decoded")]
        paths += edit["noise"] + edit["latent"] + [v for k, v in gain.items() if k != "file"]
        unlisted = [path for path in paths if path is not None and path not in listed]
        if unlisted:
            return f"{unlisted[0]} of the golden edit {name} is not among golden_files"
    return None


def check_files(folder: Path | str, manifest: Manifest) -> None:
    """Compares size and SHA-256 of every listed file. EditError naming the first that is missing or altered."""
    for entry in manifest.data["files"] + manifest.data["golden_files"]:
        path = Path(folder) / entry["path"]
        if not path.is_file():
            raise EditError(f"{entry['path']} is missing from the bundle {folder}; {AGAIN}.")
        size = path.stat().st_size
        if size != entry["bytes"]:
            what = "truncated" if size < entry["bytes"] else "too long"
            raise EditError(f"{entry['path']} is {what} ({size} bytes, not {entry['bytes']}); {AGAIN}.")
        if sha256(path) != entry["sha256"]:
            raise EditError(f"{entry['path']} was altered (its SHA-256 is not the manifest's); {AGAIN}.")


def sha256(path: Path) -> str:
    """The hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
