"""Checks on the shipped workflows. Each returns one sentence per fault."""

import json
import re
import uuid
from itertools import pairwise
from pathlib import Path

from .twin import NOTES, TwinError, convert, link_problems

MEDIA_INPUTS = {"LoadImage": "image", "LoadImageMask": "image"}
TITLE = 30  # height of a node's title bar
NOTE = "MarkdownNote"
LINKED = "(./api/workflow_templates/editkit/media/{})"  # web/samples.js leads it to the folder that the pack lies in
WEIGHTS = (".safetensors", ".bin", ".gguf")
# Loaders of weights that a user has to download; those of BlazeEdit come with the pack.
DOWNLOADED = {
    "CLIPLoader",
    "CLIPVisionLoader",
    "CheckpointLoaderSimple",
    "DualCLIPLoader",
    "EditKitICEditLoRA",
    "EditKitLoadEditMGT",
    "EditKitLoadSwiftEdit",
    "LoraLoaderModelOnly",
    "UNETLoader",
    "VAELoader",
}


def downloads(prompt: dict) -> list[str]:
    """The ids of the nodes of an API prompt that load weights which nobody has right after install."""
    return [node_id for node_id, node in prompt.items() if node["class_type"] in DOWNLOADED]


def workflow_problems(path: Path, classes: dict, names: dict, own: set[str]) -> list[str]:
    """Checks one workflows/NAME.json: thumbnail, links, registry ids, note, its API twin, and the files it names.

    classes, names: what the converter takes. own: ids of the pack's nodes.
    """
    workflow, problems = json.loads(path.read_text(encoding="utf-8")), []
    if not is_uuid(workflow.get("id")):
        problems.append(f"has the id {workflow.get('id')!r}; the canvas warns of one that is no UUID")
    if not path.with_suffix(".jpg").is_file():
        problems.append("has no thumbnail of the same name (.jpg)")
    problems += link_problems(workflow, classes)
    problems += _registry_problems(workflow, own)
    problems += _model_problems(workflow)
    problems += _twin_problems(workflow, path.parent / "api" / path.name, classes, names)
    problems += _media_problems(workflow, path.parent / "media")
    problems += note_problems(workflow)
    return [f"workflows/{path.name}: {problem}" for problem in problems]


def is_uuid(value) -> bool:
    try:
        return str(uuid.UUID(value)) == value
    except (TypeError, ValueError, AttributeError):
        return False


def _registry_problems(workflow: dict, own: set[str]) -> list[str]:
    """Every node names the pack that brings it, and its version, which is how Manager resolves a shared workflow."""
    problems = []
    for node in workflow["nodes"]:
        if node["type"] in NOTES:
            continue
        pack, said = "editkit" if node["type"] in own else "comfy-core", node.get("properties", {})
        if said.get("cnr_id") != pack or not re.fullmatch(r"\d+\.\d+\.\d+", said.get("ver", "")):
            problems.append(f'node {node["id"]} ({node["type"]}) lacks the property cnr_id "{pack}" or its ver')
    return problems


def note_problems(workflow: dict) -> list[str]:
    """A note says which weights go where, and links the sample photographs, which web/samples.js puts in place."""
    notes = [node["widgets_values"][0] for node in workflow["nodes"] if node["type"] == NOTE]
    if len(notes) != 1 or not notes[0].startswith("**Weights.** "):
        return ["has no note that begins with the weights that it needs"]
    nodes = [node for node in workflow["nodes"] if node["type"] != NOTE]
    named = [v for n in nodes for v in n.get("widgets_values") or [] if str(v).endswith(WEIGHTS)]
    problems = [f"loads {name}, which its note does not name" for name in named if name not in notes[0]]
    needs = any(node["type"] in DOWNLOADED for node in nodes)
    if needs != ("huggingface.co/" in notes[0]) or needs == ("None to download" in notes[0]):
        problems.append("has a note that is wrong about whether weights have to be downloaded")
    samples = _samples(workflow)
    unlinked = [name for name in samples if LINKED.format(name) not in notes[0]]
    problems += [f"does not link the sample {name} in its note" for name in unlinked]
    if workflow.get("extra", {}).get("editkit_samples") != samples:
        problems.append(f"does not list {samples} as extra.editkit_samples")
    return problems


def _samples(workflow: dict) -> list[str]:
    """The pictures that a workflow's loaders name, in order."""
    loaders = [node for node in workflow["nodes"] if node["type"] in MEDIA_INPUTS and node.get("widgets_values")]
    return list(dict.fromkeys(str(node["widgets_values"][0]) for node in loaders))


def _model_problems(workflow: dict) -> list[str]:
    """What a node says of models to fetch is a file that it loads, from a host that the canvas offers to fetch from."""
    problems = []
    for node in workflow["nodes"]:
        for model in node.get("properties", {}).get("models", []):
            good = model["url"].startswith("https://huggingface.co/") and model["directory"]
            if not good or model["name"] not in node["widgets_values"]:
                problems.append(f"node {node['id']} ({node['type']}) names a model that it does not load: {model}")
    return problems


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
    missing = [name for name in _samples(workflow) if not (media / name).is_file()]
    return [f"loads {name}, which is not in workflows/media/" for name in missing]


def layout_problems(workflow: dict) -> list[str]:
    """Nodes lie inside a group, apart from each other (a node's title stands above it), and links run to the right."""
    boxes = {n["id"]: (*n["pos"], n["pos"][0] + n["size"][0], n["pos"][1] + n["size"][1]) for n in workflow["nodes"]}
    groups = [(x, y, x + w, y + h) for x, y, w, h in (g["bounding"] for g in workflow["groups"])]
    problems = []
    for number, (node, box) in enumerate(boxes.items()):
        if not any(g[0] <= box[0] and g[1] <= box[1] - TITLE and box[2] <= g[2] and box[3] <= g[3] for g in groups):
            problems.append(f"node {node} lies in no group")
        for other, its in list(boxes.items())[number + 1 :]:
            if box[0] < its[2] and its[0] < box[2] and box[1] - TITLE < its[3] and its[1] - TITLE < box[3]:
                problems.append(f"nodes {node} and {other} overlap")
    lefts = [link for link in workflow["links"] if boxes[link[1]][0] > boxes[link[3]][0]]
    problems += [f"link {link[0]} runs to the left" for link in lefts]
    return problems + _group_problems(workflow["groups"])


def _group_problems(groups: list) -> list[str]:
    """Groups are titled "1. …", "2. …", from left to right, and lie apart from each other."""
    problems = []
    for number, group in enumerate(groups, 1):
        if not re.match(rf"{number}\. \S", group["title"]):
            problems.append(f"group {number} is called {group['title']!r}; its title begins with its number")
    boxes = [(x, y, x + w, y + h) for x, y, w, h in (g["bounding"] for g in groups)]
    problems += [f"group {n} lies left of the one before it" for n, (a, b) in enumerate(pairwise(boxes), 2) if b < a]
    for number, a in enumerate(boxes, 1):
        over = [b for b in boxes[number:] if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]]
        problems += [f"group {number} overlaps another" for _ in over]
    return problems


def stray_twins(folder: Path) -> list[str]:
    """API twins and thumbnails whose UI workflow is gone."""
    stems = {p.stem for p in folder.glob("*.json")}
    strays = [p for pattern in ("api/*.json", "*.jpg") for p in folder.glob(pattern) if p.stem not in stems]
    return [f"workflows/{p.relative_to(folder).as_posix()} belongs to no workflow" for p in strays]
