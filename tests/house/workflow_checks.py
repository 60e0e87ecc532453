"""Checks on the shipped workflows. Each returns one sentence per fault."""

import json
from pathlib import Path

from .twin import TwinError, convert, link_problems

MEDIA_INPUTS = {"LoadImage": "image", "LoadImageMask": "image"}


def workflow_problems(path: Path, classes: dict, names: dict, own: set[str]) -> list[str]:
    """Checks one workflows/NAME.json: thumbnail, links, registry ids, its API twin, and the files it names.

    classes, names: what the converter takes. own: ids of the pack's nodes.
    """
    workflow, problems = json.loads(path.read_text(encoding="utf-8")), []
    if not path.with_suffix(".jpg").is_file():
        problems.append("has no thumbnail of the same name (.jpg)")
    problems += link_problems(workflow, classes)
    problems += _registry_problems(workflow, own)
    problems += _twin_problems(workflow, path.parent / "api" / path.name, classes, names)
    problems += _media_problems(workflow, path.parent / "media")
    return [f"workflows/{path.name}: {problem}" for problem in problems]


def _registry_problems(workflow: dict, own: set[str]) -> list[str]:
    """Our nodes name the pack that brings them, which is how Manager resolves a shared workflow."""
    ours = [node for node in workflow["nodes"] if node["type"] in own]
    lacking = [n for n in ours if n.get("properties", {}).get("cnr_id") != "editkit"]
    return [f'node {n["id"]} ({n["type"]}) lacks the property cnr_id "editkit"' for n in lacking]


def _twin_problems(workflow: dict, twin: Path, classes: dict, names: dict) -> list[str]:
    """The API twin exists and is the UI graph converted."""
    if not twin.is_file():
        return [f"has no API twin api/{twin.name}; `make twins` writes it"]
    try:
        expected = convert(workflow, classes, names)
    except TwinError as error:
        return [str(error)]
    if json.loads(twin.read_text(encoding="utf-8")) != expected:
        return [f"is not what api/{twin.name} says; `make twins` rewrites it"]
    return []


def _media_problems(workflow: dict, media: Path) -> list[str]:
    """The pictures that loaders name are shipped in workflows/media/."""
    problems = []
    for node in workflow["nodes"]:
        if node["type"] in MEDIA_INPUTS and node.get("widgets_values"):
            name = str(node["widgets_values"][0])
            if not (media / name).is_file():
                problems.append(f"node {node['id']} loads {name}, which is not in workflows/media/")
    return problems


def stray_twins(folder: Path) -> list[str]:
    """API twins and thumbnails whose UI workflow is gone."""
    stems = {p.stem for p in folder.glob("*.json")}
    strays = [p for pattern in ("api/*.json", "*.jpg") for p in folder.glob(pattern) if p.stem not in stems]
    return [f"workflows/{p.relative_to(folder).as_posix()} belongs to no workflow" for p in strays]
