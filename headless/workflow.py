"""Reading an API-format workflow from a file, and setting its inputs by name."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .errors import EditError
from .graph import input_spec, link
from .metadata import png_texts

MAIN_INPUTS = {  # what setting a node by its title sets
    "LoadImage": "image",
    "LoadImageMask": "image",
    "SaveImage": "filename_prefix",
    "EditKitSaveEditedImage": "filename_prefix",
    "PreviewImage": "filename_prefix",
}
OTHER_PICTURES = (".jpg", ".jpeg", ".webp")  # carry a workflow in their EXIF
YES_NO = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


class Workflow(NamedTuple):
    """A workflow in API format and what a client would send along with it (`extra_pnginfo`)."""

    prompt: dict
    extra_data: dict


def read(path: Path) -> Workflow:
    """Reads an API-format JSON, the body of a POST to /prompt, or a picture that ComfyUI or EditKit has saved.

    EditError for a missing file, one that is no JSON, and a UI-format workflow (it says what to export
    instead).
    """
    try:
        content = (
            _png_texts(path)
            if path.suffix.lower() == ".png"
            else _exif_texts(path)
            if path.suffix.lower() in OTHER_PICTURES
            else json.loads(path.read_text(encoding="utf-8-sig"))
        )
    except FileNotFoundError as problem:
        raise EditError(f"There is no workflow {path}.") from problem
    except EditError:
        raise
    except (OSError, ValueError, RecursionError) as problem:
        raise EditError(f"{path} is not a workflow that can be read: {problem}.") from problem
    extra = {}
    if (
        isinstance(content, dict)
        and isinstance(content.get("prompt"), dict)
        and "class_type" not in content["prompt"]
    ):
        extra, content = content.get("extra_data") or {}, content["prompt"]
    return Workflow(_checked(content, path), extra)


def _png_texts(path: Path) -> dict:
    texts = png_texts(path)
    if "prompt" not in texts:
        raise EditError(
            f"{path} carries no workflow; name a PNG that ComfyUI or EditKit saved, or a JSON file."
        )
    extra = {"extra_pnginfo": {"workflow": json.loads(texts["workflow"])}} if "workflow" in texts else {}
    return {"prompt": json.loads(texts["prompt"]), "extra_data": extra}


def _exif_texts(path: Path) -> dict:
    from ..models.picture_file import workflow

    found = workflow(path)
    if "prompt" not in found:
        raise EditError(
            f"{path} carries no workflow; name a picture that ComfyUI or EditKit saved, or a JSON file."
        )
    extra = {"extra_pnginfo": {"workflow": found["workflow"]}} if "workflow" in found else {}
    return {"prompt": found["prompt"], "extra_data": extra}


def _checked(content: Any, path: Path) -> dict:
    if isinstance(content, dict) and isinstance(content.get("nodes"), list):
        raise EditError(
            f"{path} is a workflow in ComfyUI's UI format; run what Workflow > Export (API) saves of it "
            "(EditKit's own are in workflows/api)."
        )
    nodes = content.values() if isinstance(content, dict) else []
    if not nodes or not all(
        isinstance(node, dict)
        and isinstance(node.get("inputs", {}), dict)
        and isinstance(node.get("class_type", ""), str)
        for node in nodes
    ):
        raise EditError(
            f'{path} is not a workflow in API format, which is {{"id": {{"class_type", "inputs"}}, …}}.'
        )
    return {str(key): {"inputs": {}, **node} for key, node in content.items()}


def titles(prompt: Mapping) -> dict[str, list[str]]:
    """Returns `_meta.title` → the ids of the nodes that bear it."""
    found: dict[str, list[str]] = {}
    for node_id, node in prompt.items():
        meta = node.get("_meta")
        title = meta.get("title") if isinstance(meta, dict) else None
        if title:
            found.setdefault(str(title), []).append(node_id)
    return found


def titled(prompt: Mapping, title: str) -> str | None:
    """The id of the only node with this title, or None."""
    ids = titles(prompt).get(title, [])
    return ids[0] if len(ids) == 1 else None


def assign(prompt: dict, assignment: str, registry: Mapping[str, type]) -> tuple[str, str]:
    """Applies one NAME=VALUE of the command line to a workflow, in place. Returns what it set: (node id, input).

    NAME is a node's title (its main input is set), TITLE.input or ID.input. EditError for a name that the
    workflow does not have, naming those it has.
    """
    name, equals, value = assignment.partition("=")
    if not equals or not name.strip():
        raise EditError(
            f"{assignment!r} does not say what to set; write NAME=VALUE, such as image=photo.jpg."
        )
    node_id, input_name = target(prompt, name.strip(), registry)
    set_input(prompt, node_id, input_name, value, registry)
    return node_id, input_name


def set_input(prompt: dict, node_id: str, name: str, text: str, registry: Mapping[str, type]) -> None:
    """Sets one input from text, read as the type that the node declares; a link there is replaced."""
    node = prompt[node_id]
    kind = registry.get(node.get("class_type"))
    spec = input_spec(kind.INPUT_TYPES() if kind else {}, name)
    if kind and spec.category is None:
        declared = kind.INPUT_TYPES()
        known = ", ".join({**declared.get("required", {}), **declared.get("optional", {})})
        raise EditError(f"{node['class_type']} has no input {name!r}; it has {known}.")
    node["inputs"][name] = _parse(text, spec.type, f"{node.get('class_type')}.{name}")


def _parse(text: str, kind: Any, where: str) -> Any:
    """Text as the value of a widget; numbers stay text, since the check before the run turns them."""
    if kind == "BOOLEAN":
        if text.strip().lower() not in YES_NO:
            raise EditError(f"{where} is yes or no, not {text!r}.")
        return YES_NO[text.strip().lower()]
    if isinstance(kind, (list, tuple)):
        return next((choice for choice in kind if str(choice) == text), text)
    return text


def target(prompt: Mapping, name: str, registry: Mapping[str, type]) -> tuple[str, str]:
    """The node id and the input that a NAME of the command line means; EditError as for assign."""
    known = titles(prompt)
    if name in known:
        node_id = _only(known[name], name)
        return node_id, _main_input(prompt[node_id], name, registry)
    owner, dot, input_name = name.rpartition(".")
    if dot and owner in prompt:
        return owner, input_name
    if dot and owner in known:
        return _only(known[owner], owner), input_name
    names = ", ".join(sorted(known)) or "none"
    raise EditError(
        f"The workflow has nothing called {name!r}; its titles are {names}, and any ID.input can be set."
    )


def _only(ids: list[str], title: str) -> str:
    if len(ids) > 1:
        raise EditError(
            f"{len(ids)} nodes are titled {title!r}; name one by its id: {', '.join(ids)}, as in ID.input."
        )
    return ids[0]


def _main_input(node: Mapping, title: str, registry: Mapping[str, type]) -> str:
    name = str(node.get("class_type"))
    if name in MAIN_INPUTS:
        return MAIN_INPUTS[name]
    if name.startswith("Primitive"):
        return "value"
    constants = [n for n, value in node["inputs"].items() if link(value) is None]
    if len(constants) == 1:
        return constants[0]
    listed = ", ".join(f"{title}.{n}" for n in constants) or "none"
    raise EditError(f"{title!r} ({name}) has no single main input; set one of its own: {listed}.")
