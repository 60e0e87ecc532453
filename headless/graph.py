"""API-format workflows: what a link is, what a node's inputs are, and the graph that grows while it runs."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Link(NamedTuple):
    """Where an input comes from: output `slot` of the node `node`."""

    node: str
    slot: int


class ExecutionBlocker:
    """Given out by a node instead of a value: what depends on it is skipped, loudly if there is a message."""

    def __init__(self, message: str | None):
        self.message = message


def is_blocker(value: Any) -> bool:
    """Known by name: a node made for ComfyUI hands out ComfyUI's class of the same name, not ours."""
    return type(value).__name__ == "ExecutionBlocker"


def link(value: Any) -> Link | None:
    """`["4", 0]` as a Link; None for every literal, a list wrapped as `{"__value__": [...]}` included."""
    if not isinstance(value, list) or len(value) != 2 or not isinstance(value[0], str):
        return None
    return Link(value[0], int(value[1])) if isinstance(value[1], (int, float)) else None


def literal(value: Any) -> Any:
    """Unwraps `{"__value__": x}`, which API JSON uses because a bare list would be a link."""
    return value["__value__"] if isinstance(value, dict) and "__value__" in value else value


class InputSpec(NamedTuple):
    """One input as its node declares it. `category` is required, optional or hidden; None when undeclared."""

    type: Any
    category: str | None
    options: Mapping


UNDECLARED = InputSpec(None, None, {})


def input_spec(declared: Mapping, name: str) -> InputSpec:
    """Looks one input up in what INPUT_TYPES() returned."""
    for category in ("required", "optional", "hidden"):
        entry = declared.get(category, {}).get(name)
        if entry is not None:
            is_pair = not isinstance(entry, str) and len(entry) > 1
            # A hidden input is declared by its bare name: "prompt": "PROMPT".
            return InputSpec(
                entry if isinstance(entry, str) else entry[0], category, entry[1] if is_pair else {}
            )
    return UNDECLARED


def linked_inputs(node: Mapping) -> dict[str, Link]:
    """The inputs of a node that come from other nodes."""
    found = {name: link(value) for name, value in node["inputs"].items()}
    return {name: source for name, source in found.items() if source is not None}


class DynamicPrompt:
    """The workflow and the nodes that expansions add to it; nodes see it as the hidden input DYNPROMPT.

    Has the methods of ComfyUI's class of the same name. `executed`: ids of the nodes that have run, in order.
    """

    def __init__(self, original: dict):
        self.original_prompt = original
        self.executed: list[str] = []
        self.ephemeral_prompt: dict[str, dict] = {}
        self._parents: dict[str, str] = {}
        self._displays: dict[str, str] = {}

    def has_node(self, node_id: str) -> bool:
        return node_id in self.ephemeral_prompt or node_id in self.original_prompt

    def get_node(self, node_id: str) -> dict:
        if node_id in self.ephemeral_prompt:
            return self.ephemeral_prompt[node_id]
        if node_id not in self.original_prompt:
            raise KeyError(f"Node {node_id} not found")
        return self.original_prompt[node_id]

    def add_ephemeral_node(self, node_id: str, node: dict, parent: str, display: str) -> None:
        self.ephemeral_prompt[node_id] = node
        self._parents[node_id], self._displays[node_id] = parent, display

    def get_parent_node_id(self, node_id: str) -> str | None:
        return self._parents.get(node_id)

    def get_real_node_id(self, node_id: str) -> str:
        """The node of the user's own workflow from which this one grew."""
        while node_id in self._parents:
            node_id = self._parents[node_id]
        return node_id

    def get_display_node_id(self, node_id: str) -> str:
        while node_id in self._displays:
            node_id = self._displays[node_id]
        return node_id

    def all_node_ids(self) -> set[str]:
        return {*self.original_prompt, *self.ephemeral_prompt}

    def get_original_prompt(self) -> dict:
        return self.original_prompt
