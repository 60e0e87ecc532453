"""Checks on node classes and their help pages. Each returns one sentence per fault."""

import re
from pathlib import Path

PICTURE = re.compile(r"!\[[^\]]*\]\(([^)\s]+)[^)]*\)|<(?:img|video)[^>]*\bsrc=[\"']([^\"']+)")


def node_problems(name: str, cls: type, display_names: dict) -> list[str]:
    """Checks what the canvas shows of a node: words on everything, and where it stands in the menu."""
    problems = []
    if not name.startswith("EditKit"):
        problems.append("has an id that does not start with EditKit")
    if name not in display_names:
        problems.append("has no display name")
    if not getattr(cls, "DESCRIPTION", ""):
        problems.append("has no DESCRIPTION")
    if not re.fullmatch(r"EditKit/\w+", getattr(cls, "CATEGORY", "")):
        problems.append(f"has CATEGORY {getattr(cls, 'CATEGORY', None)!r}, not EditKit/…")
    if not getattr(cls, "SEARCH_ALIASES", None):
        problems.append("has no SEARCH_ALIASES")
    problems += _input_problems(cls.INPUT_TYPES()) + _output_problems(cls)
    if not hasattr(cls, getattr(cls, "FUNCTION", "")):
        problems.append("has no method of the name in FUNCTION")
    return [f"{name} {problem}" for problem in problems]


def _input_problems(input_types: dict) -> list[str]:
    """A tooltip on every input; combos as lists, which old ComfyUI validates and `COMBO` it does not."""
    problems = []
    for group in ("required", "optional"):
        for name, spec in input_types.get(group, {}).items():
            if not (len(spec) > 1 and spec[1].get("tooltip")):
                problems.append(f"has no tooltip on input {name}")
            if spec[0] == "COMBO":
                problems.append(f"declares {name} as COMBO; give the list of choices")
    return problems


def _output_problems(cls: type) -> list[str]:
    """A name and a tooltip for every output."""
    outputs = getattr(cls, "RETURN_TYPES", ())
    problems = []
    for attribute in ("RETURN_NAMES", "OUTPUT_TOOLTIPS"):
        given = getattr(cls, attribute, () if not outputs else None)
        if given is None or isinstance(given, str) or len(given) != len(outputs) or not all(given):
            problems.append(f"has {attribute} that do not name each of its {len(outputs)} outputs")
    return problems


def page_problems(name: str, docs: Path) -> list[str]:
    """The help page of a node exists, and so does the picture in it."""
    page = docs / f"{name}.md"
    if not page.is_file():
        return [f"{name} has no help page web/docs/{name}.md"]
    pictures = [a or b for a, b in PICTURE.findall(page.read_text(encoding="utf-8"))]
    if not pictures:
        return [f"web/docs/{name}.md has no picture"]
    missing = [p for p in pictures if not p.startswith(("http:", "https:")) and not (docs / p).is_file()]
    return [f"web/docs/{name}.md shows {p}, which is not there" for p in missing]


def stray_pages(docs: Path, names: set[str]) -> list[str]:
    """Help pages of nodes that do not exist."""
    pages = [p for p in docs.glob("*.md") if p.stem not in names and p.stem.lower() != "readme"]
    return [f"web/docs/{p.name} is the page of no node" for p in pages]
