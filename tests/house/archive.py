"""The archive that `comfy node publish` makes of the pack: git's files without those that .comfyignore names."""

import re
import subprocess
from pathlib import Path

from .code_checks import FORBIDDEN

NEVER = {".git", ".venv", "node_modules", "out", "__pycache__", ".pytest_cache", ".ruff_cache"}
PYTHON_ONLY = FORBIDDEN | {
    "what Manager's check.sh looks for": r"crypto|(?m:^_A=)",
    "a request at import": r"(?m)^[\w.]+( = | ?\().*\b(urlopen|requests\.(get|post)|urlretrieve)\(",
}
IN_REQUIREMENTS = r"(?m)^\s*(https?:|git\+|-e |--)|\.whl"


def files(root: Path) -> list[str]:
    """What the archive holds, as paths below root: git's files (all files where there is no git), less the ignored."""
    left_out = [re.compile(pattern(line)) for line in _lines(root / ".comfyignore")]
    return [name for name in _tracked(root) if not any(p.match(name) for p in left_out)]


def _lines(path: Path) -> list[str]:
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _tracked(root: Path) -> list[str]:
    if (root / ".git").exists():
        command = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
        done = subprocess.run(command, cwd=root, capture_output=True, check=True, timeout=60)
        return sorted(name for name in done.stdout.decode().split("\0") if name and (root / name).exists())
    paths = (p.relative_to(root) for p in root.rglob("*") if p.is_file() or p.is_symlink())
    return sorted(p.as_posix() for p in paths if not NEVER & set(p.parts))


def pattern(line: str) -> str:
    """A line of gitignore syntax as a regular expression: `/` anchors, `*` stays in a folder, `**` does not."""
    anchored = "/" in line.rstrip("/")
    body = re.escape(line.strip("/")).replace(r"\*\*/", "(?:.*/)?").replace(r"\*\*", ".*").replace(r"\*", "[^/]*")
    return ("" if anchored else "(?:.*/)?") + body + ("/" if line.endswith("/") else "(?:/|$)")


def problems(root: Path, names: list[str]) -> list[str]:
    """What the registry or newer ComfyUI would refuse in an archive: forbidden strings, links, compiled files."""
    found = []
    for name in names:
        path = root / name
        if path.is_symlink():
            found.append(f"{name} is a symbolic link")
        if path.suffix in (".pyc", ".so", ".dll", ".pkl", ".pt", ".ckpt", ".whl", ".exe"):
            found.append(f"{name} is compiled or pickled")
        if path.suffix == ".py":
            text = path.read_text(encoding="utf-8")
            found += [f"{name} holds {what}" for what, words in PYTHON_ONLY.items() if re.search(words, text)]
        if path.name.startswith("requirements") and re.search(IN_REQUIREMENTS, path.read_text(encoding="utf-8")):
            found.append(f"{name} names an address, an option or a wheel")
    return found
