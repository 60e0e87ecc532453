"""The version of this copy of EditKit."""

import re
from pathlib import Path

PACK = Path(__file__).resolve().parent.parent


def pack_version() -> str:
    """What pyproject.toml says, "?" where that cannot be read."""
    try:
        text = (PACK / "pyproject.toml").read_text(encoding="utf-8")
    except OSError:
        return "?"
    found = re.search(r'^version\s*=\s*"([^"]+)"', text, re.MULTILINE)
    return found[1] if found else "?"
