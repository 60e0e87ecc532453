"""Checks on Markdown pages: links and commands refer to what exists. Each returns one sentence per fault."""

import re
import shlex
from pathlib import Path

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)[^)]*\)|<(?:img|a)[^>]*\b(?:src|href)=[\"']([^\"']+)")
COMMENT = re.compile(r"<!--.*?-->", re.S)
FENCE = re.compile(r"^```\w*\n(.*?)^```", re.M | re.S)
# `python . NAME` and `python -s . NAME`, with any interpreter, and `python ComfyUI-EditKit NAME`.
OWN_COMMAND = re.compile(r"(?:^|[\\/\s])python(?:3|\.exe)?\s+(?:-s\s+)?(?:\.|\S*ComfyUI-EditKit)\s+(\w+)(.*)")


def link_problems(page: Path, root: Path) -> list[str]:
    """Relative links of a page lead to files, and anchors within it to headings."""
    text, problems = page.read_text(encoding="utf-8"), []
    anchors = {_anchor(h) for h in re.findall(r"^#+\s+(.*)$", text, re.M)}
    for a, b in LINK.findall(COMMENT.sub("", FENCE.sub("", text))):
        target = a or b
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        if path and not (page.parent / path).exists():
            problems.append(f"links to {path}, which is not there")
        if not path and anchor not in anchors:
            problems.append(f"links to #{anchor}, which is no heading")
    return [f"{page.relative_to(root).as_posix()} {problem}" for problem in problems]


def _anchor(heading: str) -> str:
    """The anchor that a heading gets: lower case, punctuation dropped, spaces to dashes."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def command_problems(page: Path, root: Path, commands: set[str], targets: set[str]) -> list[str]:
    """Commands in code blocks: `make` targets, EditKit's own commands, and the pack's files that they name exist."""
    problems = []
    for block in FENCE.findall(COMMENT.sub("", page.read_text(encoding="utf-8"))):
        for line in block.splitlines():
            line = line.split("  #")[0]
            problems += _make_problems(line, targets) + _own_problems(line, root, commands)
    return [f"{page.relative_to(root).as_posix()} {problem}" for problem in problems]


def _make_problems(line: str, targets: set[str]) -> list[str]:
    """Targets of a `make` line."""
    words = line.split()
    if not words or words[0] != "make":
        return []
    asked = [w for w in words[1:] if "=" not in w and not w.startswith("-")]
    return [f"says `make {w}`, which the Makefile does not have" for w in asked if w not in targets]


def _own_problems(line: str, root: Path, commands: set[str]) -> list[str]:
    """The command of a `python . …` line, and every word of it that looks like a file of the pack."""
    found = OWN_COMMAND.search(line)
    if not found:
        return []
    problems = []
    if found[1] not in commands:
        problems.append(f"says `python . {found[1]}`, which is no command of EditKit")
    try:
        words = shlex.split(found[2], comments=True)
    except ValueError:
        words = found[2].split()
    files = [w for w in words if w.startswith(("workflows/", "models/", "benchmarks/"))]
    return problems + [f"names {w}, which is not there" for w in files if not (root / w).exists()]


def make_targets(makefile: str) -> set[str]:
    """The names of a Makefile's rules."""
    return set(re.findall(r"^([a-z][a-z-]*):", makefile, re.M))
