"""Calling a node's functions: gathering their inputs, mapping over lists, and asynchronous ones."""

import asyncio
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from .errors import EditError
from .graph import DynamicPrompt, input_spec, is_blocker, link, literal

MISSING = (None,)  # what a function gets for an input whose source has not run


def gather_inputs(
    node_id: str,
    declared: Mapping,
    prompt: DynamicPrompt | None,
    node: Mapping,
    outputs: Callable[[str], list | None] = lambda node_id: None,
    extra_data: Mapping | None = None,
) -> tuple[dict[str, Any], set[str]]:
    """Returns every input as a list of values, and the names of those whose source has not run.

    outputs(id) gives a node's output lists, or None before it ran. Without it only constants are known, which
    is what VALIDATE_INPUTS and IS_CHANGED see.
    """
    values, missing = {}, set()
    for name, value in node["inputs"].items():
        spec = input_spec(declared, name)
        source = None if spec.options.get("rawLink") else link(value)
        if source is None:
            if spec.category is not None:
                values[name] = [literal(value)]
            continue
        slots = outputs(source.node)
        if slots is None or source.slot >= len(slots):
            missing.add(name)
            values[name] = MISSING
        else:
            values[name] = slots[source.slot]
    values.update(_hidden(declared, prompt, node_id, extra_data or {}))
    return values, missing


def _hidden(
    declared: Mapping, prompt: DynamicPrompt | None, node_id: str, extra_data: Mapping
) -> dict[str, list]:
    known = {
        "PROMPT": lambda: prompt.get_original_prompt() if prompt else {},
        "DYNPROMPT": lambda: prompt,
        "EXTRA_PNGINFO": lambda: extra_data.get("extra_pnginfo"),
        "UNIQUE_ID": lambda: node_id,
        # Keys of ComfyUI's paid service: never sent from here.
        "AUTH_TOKEN_COMFY_ORG": lambda: None,
        "API_KEY_COMFY_ORG": lambda: None,
    }
    wanted = declared.get("hidden", {}).items()
    return {name: [known[kind]()] for name, kind in wanted if isinstance(kind, str) and kind in known}


class Loop:
    """Runs asynchronous node functions from synchronous code; the event loop is made for the first one."""

    def __init__(self):
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, coroutine) -> Any:
        """Begins a call and returns its result if that came without waiting, else the task."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        task = self._loop.create_task(coroutine)
        self._loop.run_until_complete(asyncio.sleep(0))
        return task.result() if task.done() else task

    def wait_for_one(self, tasks: list) -> None:
        """Waits until at least one of several tasks has ended."""
        self._loop.run_until_complete(asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED))

    def results(self, values: list) -> list:
        """Replaces every task in a list by its result; raises what the first failing one raised."""
        tasks = [v for v in values if isinstance(v, asyncio.Task)]
        if any(not t.done() for t in tasks):
            self._loop.run_until_complete(asyncio.wait(tasks))
        return [v.result() if isinstance(v, asyncio.Task) else v for v in values]

    def close(self) -> None:
        """Cancels what still runs (after an error or Ctrl-C) and frees the loop."""
        if self._loop is None:
            return
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        if left:
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.close()
        self._loop = None


def is_pending(value: Any) -> bool:
    """Whether this is a call that has not come back yet."""
    return isinstance(value, asyncio.Task) and not value.done()


def map_over_lists(
    owner: Any,
    function: str,
    inputs: Mapping[str, Any],
    loop: Loop,
    on_block: Callable[[Any], Any] = lambda b: b,
) -> list:
    """Calls a node's function once per list item and returns the results in order.

    Shorter lists repeat their last item. A node with INPUT_IS_LIST gets the whole lists in one call. Where an
    input is a blocker the call is left out and on_block(blocker) stands for its result.
    """
    return [_call(owner, function, one, loop, on_block) for one in _argument_sets(owner, inputs)]


def _argument_sets(owner: Any, inputs: Mapping[str, Any]) -> list[dict]:
    if getattr(owner, "INPUT_IS_LIST", False) or not inputs:
        return [dict(inputs)]
    empty = [name for name, values in inputs.items() if len(values) == 0]
    if empty:
        raise EditError(f"The input {empty[0]!r} received an empty list; there is nothing to work on.")
    count = max(len(values) for values in inputs.values())
    return [{k: v[i if i < len(v) else -1] for k, v in inputs.items()} for i in range(count)]


def _call(owner: Any, function: str, inputs: dict, loop: Loop, on_block: Callable[[Any], Any]) -> Any:
    whole_lists = getattr(owner, "INPUT_IS_LIST", False)
    for value in inputs.values():
        blockers = [v for v in (value if whole_lists else [value]) if is_blocker(v)]
        if blockers:
            return on_block(blockers[0])
    bound = getattr(owner, function)
    return loop.start(bound(**inputs)) if inspect.iscoroutinefunction(bound) else bound(**inputs)
