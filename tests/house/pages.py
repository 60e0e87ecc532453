"""The tables of the help pages, made from the nodes: what a tooltip says, its page says too.

Run as a script, it rewrites the tables of web/docs/*.md and leaves the words above them.
"""

import re
import sys
from pathlib import Path

TABLES = "## Inputs\n"


def tables(cls: type) -> str:
    """The two tables of a node's page, in Markdown."""
    rows = [TABLES, "| input | type | default | meaning |", "|---|---|---|---|"]
    types = cls.INPUT_TYPES()
    for name, spec in (types.get("required", {}) | types.get("optional", {})).items():
        kind = "choice" if isinstance(spec[0], list | tuple) else spec[0]
        rows.append(f"| `{name}` | {kind} | {_default(spec)} | {spec[1]['tooltip']} |")
    rows += ["\n## Outputs\n", "| output | type | meaning |", "|---|---|---|"]
    outputs = zip(cls.RETURN_NAMES, cls.RETURN_TYPES, cls.OUTPUT_TOOLTIPS, strict=True)
    return "\n".join([*rows, *(f"| `{name}` | {kind} | {said} |" for name, kind, said in outputs)]) + "\n"


def _default(spec: tuple) -> str:
    """The value that a widget starts with. A list starts with its first choice, and may be empty."""
    first = spec[0][0] if isinstance(spec[0], list | tuple) and spec[0] else ""
    value = spec[1].get("default", first)
    return "" if value == "" else f"`{value}`"


def table_problems(name: str, cls: type, docs: Path) -> list[str]:
    """The tables of a page are those of its node. The first of a list of choices may depend on what is installed."""
    page = (docs / f"{name}.md").read_text(encoding="utf-8")
    shown, said = (re.sub(r"(\| choice \|)[^|]*\|", r"\1", text) for text in (page, tables(cls)))
    if "".join(shown.partition(TABLES)[1:]) == said:
        return []
    return [f"web/docs/{name}.md does not say what its node says; `make pages` rewrites its tables"]


def main() -> int:
    """Rewrites the tables of every page of the pack that this file lies in; says which changed."""
    root = Path(__file__).resolve().parents[2]
    sys.path.insert(0, str(root / "tests"))
    import conftest  # loads the pack as `editkit`

    conftest.load_pack()
    from editkit.tests.house import pack

    for name, cls in pack.node_classes().items():
        page = root / "web" / "docs" / f"{name}.md"
        if page.is_file() and table_problems(name, cls, page.parent):
            words = page.read_text(encoding="utf-8").partition(TABLES)[0]
            page.write_text(words + tables(cls), encoding="utf-8", newline="\n")
            print(f"web/docs/{name}.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
