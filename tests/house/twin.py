"""Turns a workflow as the canvas saves it (UI format) into the form that /prompt and the runner take (API format).

The only reference converter is the front end's graphToPrompt, and tests/browser/comfy/test_templates.py holds every
twin to it in three front ends. This one needs no browser and follows its rules for what the shipped workflows use:
positional widget values with their hidden slots, links, notes and reroutes.
Run as a script, it rewrites workflows/api/*.json from workflows/*.json.
"""

import json
import sys
from pathlib import Path

WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
NOTES = {"Note", "MarkdownNote"}
NEVER, BYPASS = 2, 4  # LiteGraph's node modes


class TwinError(ValueError):
    """A workflow that cannot be converted; one sentence that names the node."""


def slots(input_types: dict) -> list[tuple[str, bool]]:
    """Lists what a node stores in `widgets_values`, in order: (input name, whether it reaches the prompt).

    input_types: what INPUT_TYPES() returns. Hidden slots (`control_after_generate`, the upload button) are
    listed with False.
    """
    found = []
    for group in ("required", "optional"):
        inputs = input_types.get(group, {})
        for name, spec in inputs.items():
            options = spec[1] if len(spec) > 1 else {}
            if not is_widget(spec[0], options):
                continue
            found.append((name, True))
            if options.get("control_after_generate", spec[0] == "INT" and name in ("seed", "noise_seed")):
                found.append((f"{name}: control_after_generate", False))
        # The front end appends its upload button to the required inputs.
        if group == "required" and any(len(s) > 1 and s[1].get("image_upload") for s in inputs.values()):
            found.append(("upload", False))
    return found


def is_widget(kind, options: dict) -> bool:
    """Whether an input of this type has a widget: a list combo, a plain value, or a widget type of its own."""
    if options.get("forceInput") or options.get("rawLink"):
        return False
    return isinstance(kind, list | tuple) or kind in WIDGET_TYPES or "widgetType" in options


def convert(workflow: dict, classes: dict, names: dict | None = None) -> dict:
    """Returns the API form of a UI workflow.

    classes: class_type -> node class (its INPUT_TYPES names the widgets). names: class_type -> display name, for
    nodes without a title of their own. TwinError for a node that is unknown, muted, bypassed or a subgraph, for
    widget values that do not match the inputs, and for a link that leads nowhere.
    """
    if workflow.get("definitions", {}).get("subgraphs"):
        raise TwinError("The workflow holds subgraphs, which this converter does not unfold.")
    nodes = {node["id"]: node for node in workflow["nodes"]}
    links = {link[0]: link for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        kind = node["type"]
        if kind in NOTES or kind == "Reroute":
            continue
        if kind not in classes:
            raise TwinError(f"Node {node['id']} is a {kind}, which neither the pack nor the runner has.")
        if node.get("mode", 0) in (NEVER, BYPASS):
            raise TwinError(f"Node {node['id']} ({kind}) is muted or bypassed; shipped workflows run whole.")
        title = node.get("title") or (names or {}).get(kind) or kind
        inputs = _widget_inputs(node, classes[kind]) | _linked_inputs(node, nodes, links)
        prompt[str(node["id"])] = {"inputs": inputs, "class_type": kind, "_meta": {"title": title}}
    return prompt


def _widget_inputs(node: dict, cls) -> dict:
    """Reads a node's positional widget values. A list is wrapped, so that it is not taken for a link.

    A painted mask that the workflow is too old to know has its default, as on the canvas.
    """
    types = cls.INPUT_TYPES()
    values, expected = node.get("widgets_values") or [], slots(types)
    painted = types.get("optional", {}).get("mask_paint")
    if painted and expected[-1][0] == "mask_paint" and len(values) == len(expected) - 1:
        values = [*values, painted[1]["default"]]
    if len(values) != len(expected):
        names = ", ".join(name for name, _ in expected) or "none"
        raise TwinError(
            f"Node {node['id']} ({node['type']}) stores {len(values)} widget values; it has {len(expected)}: {names}."
        )
    pairs = zip(expected, values, strict=True)
    return {name: {"__value__": v} if isinstance(v, list) else v for (name, sent), v in pairs if sent}


def _linked_inputs(node: dict, nodes: dict, links: dict) -> dict:
    """Follows a node's linked inputs to the outputs that feed them: name -> [node id, output slot]."""
    linked = {}
    for socket in node.get("inputs") or []:
        if socket.get("link") is not None:
            linked[socket["name"]] = _source(socket["link"], node, nodes, links)
    return linked


def _source(link_id, node: dict, nodes: dict, links: dict) -> list:
    """Returns [node id, output slot] at the far end of a link, through any reroutes."""
    link = links.get(link_id)
    if link is None or link[1] not in nodes:
        raise TwinError(f"Node {node['id']} ({node['type']}) has a link {link_id} that leads nowhere.")
    source = nodes[link[1]]
    if source["type"] == "Reroute":
        return _source(source["inputs"][0].get("link"), source, nodes, links)
    return [str(link[1]), link[2]]


def link_problems(workflow: dict, classes: dict) -> list[str]:
    """Checks that both ends of every link agree with the link table and with the node classes' types.

    The canvas drops a link silently when they do not. Returns one sentence per fault.
    """
    nodes = {node["id"]: node for node in workflow["nodes"]}
    problems = []
    for number, start, out_slot, end, in_slot, kind in workflow["links"]:
        try:
            output, socket = nodes[start]["outputs"][out_slot], nodes[end]["inputs"][in_slot]
        except (KeyError, IndexError, TypeError):
            problems.append(f"link {number} joins sockets that do not exist")
            continue
        if number not in (output.get("links") or []) or socket.get("link") != number:
            problems.append(f"link {number} is missing from one of its ends")
        cls = classes.get(nodes[start]["type"])
        if cls is not None and (out_slot >= len(cls.RETURN_TYPES) or cls.RETURN_TYPES[out_slot] != kind):
            problems.append(f"link {number} says {kind}, but its source has another type there")
        problems += _target_problems(number, nodes[end], socket, kind, classes)
    return problems


def _target_problems(number: int, node: dict, socket: dict, kind: str, classes: dict) -> list[str]:
    """Checks the input that a link enters: it exists in the class and takes the link's type."""
    if node["type"] not in classes:
        return []
    types = classes[node["type"]].INPUT_TYPES()
    spec = (types.get("required", {}) | types.get("optional", {})).get(socket["name"])
    if spec is None:
        return [f"link {number} enters {socket['name']}, which {node['type']} does not have"]
    accepted = "COMBO" if isinstance(spec[0], list | tuple) else spec[0]
    if kind in accepted.split(",") or "*" in (kind, accepted):
        return []
    return [f"link {number} brings {kind} to {node['type']}.{socket['name']}, which takes {accepted}"]


def main() -> int:
    """Rewrites every twin of the pack that this file lies in; says which."""
    root = Path(__file__).resolve().parents[2]
    sys.path.insert(0, str(root / "tests"))
    import conftest  # loads the pack as `editkit`

    conftest.load_pack()
    from editkit.tests.house import pack

    for path in sorted((root / "workflows").glob("*.json")):
        twin = convert(json.loads(path.read_text(encoding="utf-8")), pack.classes(), pack.all_names())
        target = path.parent / "api" / path.name
        target.parent.mkdir(exist_ok=True)
        target.write_text(
            json.dumps(twin, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n"
        )
        print(f"workflows/api/{path.name}: {len(twin)} nodes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
