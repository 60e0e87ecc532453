"""Node classes as a server's /object_info describes them, and which of their inputs are pictures to upload."""

from collections.abc import Mapping
from typing import NamedTuple

from .graph import input_spec

MASK_WIDGET = "EDITKIT_MASK"  # the mask painter's; what it holds is a file name


class Picture(NamedTuple):
    """An input of a workflow that names a picture file."""

    node: str
    input: str


def classes(object_info: Mapping) -> dict[str, type]:
    """Class name -> a class that declares what the server's one declares, and does nothing."""
    return {name: _class(name, info) for name, info in object_info.items() if isinstance(info, Mapping)}


def _class(name: str, info: Mapping) -> type:
    declared = {key: part for key, part in (info.get("input") or {}).items() if isinstance(part, Mapping)}
    body = {
        "INPUT_TYPES": classmethod(lambda cls: declared),
        "RETURN_TYPES": tuple(info.get("output") or ()),
        "OUTPUT_NODE": info.get("output_node") is True,
    }
    return type(name, (), body)


def pictures(prompt: Mapping, registry: Mapping[str, type]) -> list[Picture]:
    """The inputs that name a picture in the server's input folder: LoadImage's, and painted masks."""
    return [
        Picture(node_id, name)
        for node_id, node in prompt.items()
        for name, value in node["inputs"].items()
        if isinstance(value, str) and value.strip() and _takes_upload(node, name, registry)
    ]


def painted(prompt: Mapping, at: Picture, registry: Mapping[str, type]) -> bool:
    """Whether an input is a mask painter's, whose node says itself what is wrong with the file."""
    return _options(prompt[at.node], at.input, registry).get("widgetType") == MASK_WIDGET


def _takes_upload(node: Mapping, name: str, registry: Mapping[str, type]) -> bool:
    options = _options(node, name, registry)
    if options.get("widgetType") == MASK_WIDGET:
        return True
    return bool(options.get("image_upload")) and options.get("image_folder", "input") == "input"


def _options(node: Mapping, name: str, registry: Mapping[str, type]) -> Mapping:
    kind = registry.get(node.get("class_type"))
    options = input_spec(kind.INPUT_TYPES(), name).options if kind else {}
    return options if isinstance(options, Mapping) else {}
