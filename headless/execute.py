"""Runs API-format workflows in this process as ComfyUI would: the same checks, messages and results.

Runner keeps what nodes gave between runs (by input signature); Run is one run's outcome, readable like
`/history`.
"""

import copy
import time
import traceback
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import results
from .caching import Cache, Entry, Signatures
from .calls import Loop, gather_inputs, is_pending, map_over_lists
from .errors import NodeFailed, PromptRefused, needs_server
from .graph import DynamicPrompt, ExecutionBlocker, Link, input_spec, is_blocker, link, linked_inputs, literal
from .schedule import Schedule
from .validate import full_type_name, validate

Message = Callable[[str, dict], None]


@dataclass
class Run:
    """The outcome of one workflow; `outputs` holds the ui results per node, as a server's history does."""

    prompt_id: str
    prompt: dict
    node_errors: dict = field(default_factory=dict)
    outputs: dict = field(default_factory=dict)
    meta: dict = field(default_factory=dict)
    messages: list = field(default_factory=list)
    completed: bool = False
    values: Callable[[str], list | None] = lambda node_id: None  # the output lists of a node, by its id

    @property
    def blocked(self) -> list[str]:
        """What nodes said when they refused to give an output, without failing the run."""
        is_block = [
            d
            for e, d in self.messages
            if e == "execution_error" and d["exception_type"] == "ExecutionBlocked"
        ]
        return [d["exception_message"] for d in is_block]

    def history(self) -> dict:
        """The reply of a ComfyUI server to GET /history/{prompt_id}."""
        status = {"status_str": "success" if self.completed else "error", "completed": self.completed}
        return {
            self.prompt_id: {
                "prompt": self.prompt,
                "outputs": self.outputs,
                "status": {**status, "messages": self.messages},
                "meta": self.meta,
            }
        }


class Runner:
    """Executes workflows with the node classes of a registry (class name → class)."""

    def __init__(self, registry: Mapping[str, type], on_message: Message | None = None):
        """on_message(event, data) hears what a server would send: execution_start, executing, executed, …"""
        self.registry, self._on_message = registry, on_message or (lambda event, data: None)
        self._cache, self._objects = Cache(), {}

    def run(
        self,
        prompt: dict,
        *,
        prompt_id: str | None = None,
        extra_data: Mapping | None = None,
        partial_execution_targets: Collection[str] | None = None,
    ) -> Run:
        """Validates and executes one workflow; `prompt` itself stays as it is.

        PromptRefused when nothing of it can run, NodeFailed (with `.run`) when a node raises.
        KeyboardInterrupt passes through after the asynchronous calls under way are cancelled.
        """
        import torch

        prompt = copy.deepcopy(prompt)
        valid = validate(prompt, self.registry, partial_execution_targets)
        run = Run(prompt_id or str(uuid.uuid4()), prompt, valid.node_errors)
        execution = _Execution(self, run, extra_data or {})
        with torch.inference_mode():
            try:
                execution.all(valid.outputs)
            finally:
                execution.loop.close()
        return run

    def node_object(self, node_id: str, class_type: str) -> Any:
        """The instance of a node; the same one as long as its id and class stay."""
        key = (node_id, class_type)
        if key not in self._objects:
            self._objects[key] = self.registry[class_type]()
        return self._objects[key]

    def forget_others(self, kept: set[tuple[str, str]]) -> None:
        self._objects = {key: value for key, value in self._objects.items() if key in kept}


@dataclass
class _Expanded:
    """A node that waits for the nodes it expanded into: per call its values, and whether these hold links."""

    calls: list[tuple[bool, tuple]]
    ui: dict


class _Execution:
    """The state of one run."""

    def __init__(self, runner: Runner, run: Run, extra_data: Mapping):
        self.runner, self.run, self.extra_data = runner, run, extra_data
        self.loop, self.prompt = Loop(), DynamicPrompt(run.prompt)
        self.signatures = Signatures(self.prompt, runner.registry, self.loop)
        self.schedule = Schedule(self._needed_at_once, lambda node: self.outputs(node) is not None)
        self.executed = self.prompt.executed
        self.current = next(iter(run.prompt))
        self.expanded: dict[str, _Expanded] = {}
        self.grew: set[str] = set()  # the user's nodes that expanded in this run
        self.calls: dict[str, tuple[list, dict]] = {}  # asynchronous calls under way, and their inputs
        run.values = self.outputs

    def all(self, output_nodes: list[str]) -> None:
        self.say("execution_start", {})
        self._forget(set())
        self.say("execution_cached", {"nodes": [n for n in self.run.prompt if self.outputs(n) is not None]})
        try:
            for node in output_nodes:
                self.schedule.add(node)
            while self.schedule:
                self._step()
            self.run.completed = True
            self.say("execution_success", {})
        except KeyboardInterrupt:
            self.say("execution_interrupted", self._identity(self.prompt.get_real_node_id(self.current)))
            raise
        finally:
            self._collect_ui()
            self._forget(self.grew)

    def say(self, event: str, data: dict, keep: bool = True) -> None:
        data = {"prompt_id": self.run.prompt_id, **data}
        if keep:
            self.run.messages.append((event, {**data, "timestamp": int(time.time() * 1000)}))
        self.runner._on_message(event, data)

    def outputs(self, node_id: str) -> list | None:
        """The output lists of a node, or None before it has run."""
        entry = self.runner._cache.get(self.signatures.of(node_id))
        return None if entry is None else entry.outputs

    def _kind(self, node_id: str) -> type:
        class_type = self.prompt.get_node(node_id)["class_type"]
        if class_type not in self.runner.registry:
            where = f"Node ID '#{node_id}'"
            message = f"Cannot execute because node {class_type} does not exist."
            error = {"type": "invalid_prompt", "message": message, "details": where, "extra_info": {}}
            raise PromptRefused(error, sentence=needs_server(class_type))
        return self.runner.registry[class_type]

    def _needed_at_once(self, node_id: str) -> list[str]:
        node, declared = self.prompt.get_node(node_id), self._kind(node_id).INPUT_TYPES()
        links = linked_inputs(node).items()
        return [source.node for name, source in links if not input_spec(declared, name).options.get("lazy")]

    def _forget(self, grew: set[str]) -> None:
        """Drops what this workflow does not use; of what grew out of a node, only if that one grew anew."""
        own = {(node_id, node["class_type"]) for node_id, node in self.run.prompt.items()}
        used = {self.signatures.of(n) for n in self.prompt.all_node_ids()}
        self.runner._cache.keep_only(used, {key for key in own if key[0] not in grew})
        self.runner.forget_others(
            own | {(n, x["class_type"]) for n, x in self.prompt.ephemeral_prompt.items()}
        )

    def _step(self) -> None:
        ready = self.schedule.ready()
        if ready:
            self._guarded(self._pick(ready))
        elif self.calls:
            self._await_calls()
        else:
            stuck = self.schedule.cycle()
            details = self._details(self.prompt.get_real_node_id(stuck[0]), {})
            details |= {
                "exception_message": "Dependency cycle detected",
                "exception_type": "graph.DependencyCycleError",
            }
            self._fail(details, None)

    def _pick(self, ready: list[str]) -> str:
        """Outputs first, so that a picture is there as soon as it can be; then what feeds them."""
        outputs = [n for n in ready if getattr(self._kind(n), "OUTPUT_NODE", False)]
        return (outputs or ready)[0]

    def _await_calls(self) -> None:
        """Nothing else can go on: waits for an asynchronous call and lets its node finish."""
        self.loop.wait_for_one([t for made, _ in self.calls.values() for t in made if is_pending(t)])
        for node_id, (made, _) in self.calls.items():
            if not any(is_pending(t) for t in made):
                self.schedule.release(node_id)

    def _guarded(self, node_id: str) -> None:
        inputs: dict = {}
        self.current = node_id
        try:
            self._execute(node_id, inputs)
        except Exception as problem:
            details = self._details(self.prompt.get_real_node_id(node_id), inputs)
            details["exception_message"] = f"{problem}\n"
            details["exception_type"] = full_type_name(type(problem))
            details["traceback"] = traceback.format_tb(problem.__traceback__)
            self._fail(details, problem)

    def _identity(self, node_id: str) -> dict:
        class_type = self.prompt.get_node(node_id)["class_type"]
        return {"node_id": node_id, "node_type": class_type, "executed": list(self.executed)}

    def _details(self, node_id: str, inputs: Mapping) -> dict:
        shown = {name: [_shown(v) for v in values] for name, values in inputs.items()}
        done = [n for n in self.run.prompt if self.outputs(n) is not None]
        return {**self._identity(node_id), "traceback": [], "current_inputs": shown, "current_outputs": done}

    def _fail(self, details: dict, cause: Exception | None) -> None:
        self.say("execution_error", details)
        title = (self.prompt.get_node(details["node_id"]).get("_meta") or {}).get("title")
        failure = NodeFailed({"prompt_id": self.run.prompt_id, **details}, title)
        failure.run = self.run
        raise failure from cause

    def _execute(self, node_id: str, shown_inputs: dict) -> None:
        """Runs a node as far as it goes: to its end, a lazy input, an asynchronous call or an expansion."""
        if self.outputs(node_id) is not None:
            self._announce_cached(node_id)
            return self.schedule.finish(node_id)
        kind = self._kind(node_id)
        if node_id in self.expanded:
            grown = self.expanded.pop(node_id)
            calls = [self._resolve(values, grew, kind) for grew, values in grown.calls]
            slots = [[item for call in calls for item in call[i]] for i in range(len(calls[0]))]
            return self._store(node_id, slots, grown.ui)
        if node_id in self.calls:
            made, inputs = self.calls.pop(node_id)
            shown_inputs.update(inputs)
            return self._take(node_id, kind, self.loop.results(made))
        made = self._begin(node_id, kind, shown_inputs)
        if made is None:
            return None
        if any(is_pending(r) for r in made):
            self.calls[node_id] = (made, dict(shown_inputs))
            return self.schedule.hold(node_id)
        return self._take(node_id, kind, self.loop.results(made))

    def _begin(self, node_id: str, kind: type, inputs: dict) -> list | None:
        """Calls a node's function and returns the results, or None when it first wants lazy inputs."""
        node = self.prompt.get_node(node_id)
        found, missing = gather_inputs(
            node_id, kind.INPUT_TYPES(), self.prompt, node, self.outputs, self.extra_data
        )
        inputs.update(found)
        display = self.prompt.get_display_node_id(node_id)
        self.say("executing", {"node": node_id, "display_node": display}, keep=False)
        owner = self.runner.node_object(node_id, node["class_type"])
        if self._wants_more(node_id, owner, found, missing):
            return None
        return map_over_lists(
            owner, kind.FUNCTION, found, self.loop, lambda block: self._blocked(node_id, block)
        )

    def _wants_more(self, node_id: str, owner: Any, inputs: Mapping, missing: set[str]) -> bool:
        if getattr(owner, "check_lazy_status", None) is None:
            return False
        answers = self.loop.results(map_over_lists(owner, "check_lazy_status", inputs, self.loop))
        names = {name for answer in answers if isinstance(answer, list) for name in answer}
        wanted = sorted(n for n in names if isinstance(n, str) and (n not in inputs or n in missing))
        for name in wanted:
            self.schedule.require(node_id, self._lazy_source(node_id, name).node)
        return bool(wanted)

    def _lazy_source(self, node_id: str, name: str) -> Link:
        given = self.prompt.get_node(node_id)["inputs"]
        if name not in given:
            raise KeyError(
                f"Node {node_id} says it needs input {name}, but there is no input to that node at all"
            )
        source = link(given[name])
        if source is None:
            raise ValueError(f"Node {node_id} says it needs input {name}, but that value is a constant")
        return source

    def _blocked(self, node_id: str, block: Any) -> Any:
        if block.message is None:
            return block
        blame = {**self._identity(node_id), "exception_message": f"Execution Blocked: {block.message}"}
        empty = {"traceback": [], "current_inputs": [], "current_outputs": []}
        self.say("execution_error", {**blame, "exception_type": "ExecutionBlocked", **empty})
        return ExecutionBlocker(None)  # said once; what comes after stays silent

    def _take(self, node_id: str, kind: type, made: list) -> None:
        returned = [results.read(r, kind) for r in made]
        ui = results.merge_ui(returned)
        if any(r.expand is not None for r in returned):
            return self._expand(node_id, returned, ui)
        values = [r.values for r in returned if r.values is not None]
        return self._store(node_id, results.merge_values(values, kind), ui)

    def _expand(self, node_id: str, returned: list[results.Returned], ui: dict) -> None:
        """Adds the nodes that stand for this one, and waits for those that its outputs come from."""
        calls = []
        for r in returned:
            values = r.values or ()
            calls.append((r.expand is not None, values))
            for new_id, node in (r.expand or {}).items():
                if self.prompt.has_node(new_id):
                    raise ValueError(
                        f"Attempt to add duplicate node {new_id}: ids of an expansion must be unique."
                    )
                display = node.get("override_display_id", node_id)
                self.prompt.add_ephemeral_node(new_id, node, node_id, display)
        for r in returned:
            for new_id in r.expand or {}:
                if getattr(self._kind(new_id), "OUTPUT_NODE", False):
                    self.schedule.add(new_id)
            for source in filter(None, map(link, r.values or () if r.expand is not None else ())):
                self.schedule.require(node_id, source.node)
        self.expanded[node_id] = _Expanded(calls, ui)
        self.grew.add(self.prompt.get_real_node_id(node_id))

    def _resolve(self, values: tuple, grew: bool, kind: type) -> list[list]:
        """One list per output: of an expansion's links what their sources gave, of everything else itself."""
        if not grew:
            return results.merge_values([values], kind)
        is_list = getattr(kind, "OUTPUT_IS_LIST", None) or (False,) * len(values)
        sources = [link(v) for v in values]
        return [
            self.outputs(s.node)[s.slot]
            if s
            else (list(literal(v)) if many and not is_blocker(v) else [literal(v)])
            for v, s, many in zip(values, sources, is_list)
        ]

    def _where(self, node_id: str) -> dict:
        return {
            "node_id": node_id,
            "display_node": self.prompt.get_display_node_id(node_id),
            "parent_node": self.prompt.get_parent_node_id(node_id),
            "real_node_id": self.prompt.get_real_node_id(node_id),
        }

    def _store(self, node_id: str, outputs: list[list], ui: dict) -> None:
        where = self._where(node_id)
        root = where["real_node_id"]
        entry = Entry(outputs, (root, self.prompt.get_node(root)["class_type"]), ui or None, where)
        self.runner._cache.put(self.signatures.of(node_id), entry)
        if ui:
            self.say(
                "executed", {"node": node_id, "display_node": where["display_node"], "output": ui}, keep=False
            )
        self.executed.append(node_id)
        self.schedule.finish(node_id)

    def _announce_cached(self, node_id: str) -> None:
        entry = self.runner._cache.get(self.signatures.of(node_id))
        display = self.prompt.get_display_node_id(node_id)
        self.say("executed", {"node": node_id, "display_node": display, "output": entry.ui}, keep=False)

    def _collect_ui(self) -> None:
        for node_id in [*self.run.prompt, *self.prompt.ephemeral_prompt]:
            entry = self.runner._cache.get(self.signatures.of(node_id))
            if entry is not None and entry.ui:
                self.run.outputs[node_id], self.run.meta[node_id] = entry.ui, self._where(node_id)


def _shown(value: Any) -> Any:
    return value if value is None or isinstance(value, (int, float, bool, str)) else str(value)
