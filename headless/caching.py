"""What a node gave last time, found again by the signature of its inputs and of all that comes before it."""

import hashlib
import itertools
import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .calls import Loop, gather_inputs, map_over_lists
from .graph import DynamicPrompt, is_blocker, link

logger = logging.getLogger(__name__)
_never_equal = itertools.count()


@dataclass
class Entry:
    """What one node gave: its output lists and ui results; `root` is the user's own node behind it."""

    outputs: list
    root: tuple[str, str]
    ui: dict | None = None
    meta: dict = field(default_factory=dict)


class Cache:
    """Entries by signature, kept from one run to the next for as long as the workflow still uses them."""

    def __init__(self):
        self._entries: dict[str, Entry] = {}

    def get(self, signature: str) -> Entry | None:
        return self._entries.get(signature)

    def put(self, signature: str, entry: Entry) -> None:
        self._entries[signature] = entry

    def keep_only(self, signatures: set[str], roots: set[tuple[str, str]]) -> None:
        """Drops every other entry, except what grew out of one of the nodes `roots` (id, class)."""
        self._entries = {
            s: e
            for s, e in self._entries.items()
            if s in signatures or (e.root in roots and e.meta.get("parent_node"))
        }


class Signatures:
    """The signatures of one run's nodes."""

    def __init__(self, prompt: DynamicPrompt, registry: Mapping[str, type], loop: Loop):
        self._prompt, self._registry, self._loop = prompt, registry, loop
        self._known: dict[str, str] = {}

    def of(self, node_id: str) -> str:
        """Works without recursion, so that a chain of any length has one."""
        todo, opened = [node_id], set()
        while todo:
            current = todo[-1]
            if current in self._known:
                todo.pop()
                continue
            unknown = [s for s in self._sources(current) if s not in self._known]
            if any(s in opened for s in unknown):  # a cycle: such a node has no signature that could come again
                self._known[current] = self._unique()
            elif unknown:
                opened.add(current)  # what is open and unknown lies behind the current one, not merely beside it
                todo.extend(unknown)
            else:
                self._known[current] = self._sign(current)
        return self._known[node_id]

    def _sources(self, node_id: str) -> list[str]:
        if not self._prompt.has_node(node_id):
            return []
        found = [link(value) for value in self._prompt.get_node(node_id)["inputs"].values()]
        return [source.node for source in found if source]

    def _sign(self, node_id: str) -> str:
        if not self._prompt.has_node(node_id):
            return self._unique()
        node = self._prompt.get_node(node_id)
        kind = self._registry[node["class_type"]]
        declared = kind.INPUT_TYPES()
        parts: list[Any] = [node["class_type"], self._is_changed(node_id, kind, declared, node)]
        own = "UNIQUE_ID" in declared.get("hidden", {}).values() or getattr(kind, "NOT_IDEMPOTENT", False)
        parts.append(node_id if own else None)
        for name in sorted(node["inputs"]):
            value = node["inputs"][name]
            source = link(value)
            parts.append(
                [name, "link", self._known[source.node], source.slot] if source else [name, "is", value]
            )
        text = json.dumps(parts, sort_keys=True, default=lambda value: self._unique())
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    def _is_changed(self, node_id: str, kind: type, declared: Mapping, node: dict) -> Any:
        """What IS_CHANGED says, in a form that compares; NaN and an exception never equal anything."""
        if not hasattr(kind, "IS_CHANGED"):
            return False
        try:
            inputs, _ = gather_inputs(node_id, declared, None, node)
            results = self._loop.results(map_over_lists(kind, "IS_CHANGED", inputs, self._loop))
        except Exception as problem:
            logger.warning("IS_CHANGED of %s failed, so it runs again: %s", node["class_type"], problem)
            return self._unique()
        results = [None if is_blocker(r) else r for r in results]
        return [self._unique() if isinstance(r, float) and math.isnan(r) else r for r in results]

    @staticmethod
    def _unique() -> str:
        return f"never {next(_never_equal)}"
