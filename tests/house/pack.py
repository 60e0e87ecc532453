"""What the house checks look at: the pack's files, its node classes, and the core nodes that workflows use."""

import json
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ("nodes", "models", "headless", "training")  # folders whose code reaches users
KEPT_OPTIONS = ("control_after_generate", "image_upload", "forceInput", "widgetType")


def shipped_files(root: Path = ROOT) -> list[Path]:
    """Every Python file that a user's ComfyUI or command line may load."""
    folders = [p for name in SHIPPED for p in sorted((root / name).rglob("*.py"))]
    return [p for p in (root / "__init__.py", root / "__main__.py") if p.exists()] + folders


def workflows(root: Path = ROOT) -> list[Path]:
    """The UI-format templates."""
    return sorted((root / "workflows").glob("*.json"))


def node_classes() -> dict:
    """class_type -> class, of the pack's own nodes."""
    import editkit

    return dict(editkit.NODE_CLASS_MAPPINGS)


def names() -> dict:
    """class_type -> display name, of the pack's own nodes."""
    import editkit

    return dict(editkit.NODE_DISPLAY_NAME_MAPPINGS)


def all_names() -> dict:
    """class_type -> display name of everything that a shipped workflow may hold."""
    return {name: entry["display_name"] for name, entry in CORE_NODES.items()} | names()


def table_entry(info: dict) -> dict:
    """Reduces a node's /object_info to what a workflow depends on: inputs with their widgets, output types, name."""
    inputs = {}
    for group in ("required", "optional"):
        for name, spec in info["input"].get(group, {}).items():
            options = spec[1] if len(spec) > 1 else {}
            kind = "COMBO" if isinstance(spec[0], list) else spec[0]
            inputs.setdefault(group, {})[name] = [kind, {k: options[k] for k in KEPT_OPTIONS if k in options}]
    return {"input": inputs, "output": info["output"], "display_name": info["display_name"]}


def _read_core_nodes() -> dict:
    return json.loads(Path(__file__).with_name("core_nodes.json").read_text(encoding="utf-8"))


# ComfyUI 0.3.64's nodes that workflows may use, as table_entry() gives them; tests/comfyui checks that they are true.
CORE_NODES = _read_core_nodes()


def stand_in(entry: dict) -> type:
    """A class with the INPUT_TYPES and RETURN_TYPES of a core node, for the converter."""
    return type(
        "CoreNode", (), {"INPUT_TYPES": lambda: entry["input"], "RETURN_TYPES": tuple(entry["output"])}
    )


@lru_cache(maxsize=1)
def classes() -> dict:
    """class_type -> class of everything that a shipped workflow may hold."""
    return {name: stand_in(entry) for name, entry in CORE_NODES.items()} | node_classes()
