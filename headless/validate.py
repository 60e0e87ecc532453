"""Checks a workflow before it runs: the order and the error dicts of ComfyUI 0.3.64's `validate_prompt`."""

import inspect
import traceback
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from .calls import Loop, gather_inputs, map_over_lists
from .errors import PromptRefused, needs_server
from .graph import InputSpec, input_spec, is_blocker, linked_inputs

COERCIONS = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}
LONGEST_LIST = 20  # longer lists of choices are not repeated in the error


class Validated(NamedTuple):
    """The output nodes that may run, and ComfyUI's `node_errors` for the ones that may not."""

    outputs: list[str]
    node_errors: dict


class DependencyCycle(Exception):
    """Nodes that wait for each other."""


def full_type_name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def types_match(received: Any, wanted: Any) -> bool:
    """Whether an output may feed an input: equal, `*` on either side, or a type in common of `A,B` unions."""
    differ = received != wanted  # asked in this form, since "any" types of other packs override __ne__
    if not differ:
        return True
    if not isinstance(received, str) or not isinstance(wanted, str):
        return False
    if "*" in (received, wanted):
        return True
    return bool({t.strip() for t in received.split(",")} & {t.strip() for t in wanted.split(",")})


def validate(prompt: dict, registry: Mapping[str, type], targets: Collection[str] | None = None) -> Validated:
    """Checks a workflow and coerces its constants in place (INT, FLOAT, STRING, BOOLEAN).

    targets: only these output nodes (`partial_execution_targets`). One bad output does not stop the good
    ones; PromptRefused when none is left, when a class is unknown, or when there is no output node at all.
    """
    outputs = output_nodes(prompt, registry, targets)
    checker = _Checker(prompt, registry)
    good, node_errors, said = [], {}, []
    try:
        for output in outputs:
            reasons = checker.check_output(output)
            if reasons is None:
                good.append(output)
                continue
            said += [f"{reason['message']}: {reason['details']}" for reason in reasons]
            _blame(checker.found, prompt, output, node_errors)
    finally:
        checker.loop.close()
    if not good:
        error = _error(
            "prompt_outputs_failed_validation", "Prompt outputs failed validation", "\n".join(said)
        )
        raise PromptRefused(error, node_errors)
    return Validated(good, node_errors)


def _error(kind: str, message: str, details: str, **extra) -> dict:
    return {"type": kind, "message": message, "details": details, "extra_info": extra}


def output_nodes(
    prompt: dict,
    registry: Mapping[str, type],
    targets: Collection[str] | None = None,
    missing: Callable[[str], str] = needs_server,
) -> list[str]:
    """The ids of the output nodes. PromptRefused for an unknown class, of which missing(name) gives the sentence,
    for a node without one, and when there is no output node."""
    outputs = []
    for node_id, node in prompt.items():
        where = f"Node ID '#{node_id}'"
        if "class_type" not in node:
            said = "Cannot execute because a node is missing the class_type property."
            raise PromptRefused(_error("invalid_prompt", said, where))
        name = node["class_type"]
        if name not in registry:
            said = f"Cannot execute because node {name} does not exist."
            raise PromptRefused(_error("invalid_prompt", said, where), sentence=missing(str(name)))
        wanted = targets is None or node_id in targets
        if wanted and getattr(registry[name], "OUTPUT_NODE", False) is True:
            outputs.append(node_id)
    if not outputs:
        sentence = "The workflow has no output node, such as SaveImage, so nothing would come of running it."
        raise PromptRefused(_error("prompt_no_outputs", "Prompt has no outputs", ""), sentence=sentence)
    return outputs


def _blame(found: dict, prompt: dict, output: str, node_errors: dict) -> None:
    """Adds to node_errors every node with reasons of its own that this output depends on."""
    for node_id in _upstream(prompt, output):
        if found.get(node_id):
            kind = prompt[node_id]["class_type"]
            blank = {"errors": found[node_id], "dependent_outputs": [], "class_type": kind}
            node_errors.setdefault(node_id, blank)["dependent_outputs"].append(output)


def _upstream(prompt: dict, node_id: str) -> list[str]:
    """A node and all that it depends on, as far as they exist."""
    known, todo = {}, [node_id]
    while todo:
        current = todo.pop()
        if current in prompt and current not in known:
            known[current] = True
            todo += [source.node for source in linked_inputs({"inputs": {}, **prompt[current]}).values()]
    return list(known)


class _Checker:
    """Checks nodes depth first, each once. `found` keeps per node None when good, else its own errors
    (an empty list when only a node before it is at fault)."""

    def __init__(self, prompt: dict, registry: Mapping[str, type]):
        self.prompt, self.registry, self.loop = prompt, registry, Loop()
        self.found: dict[str, list[dict] | None] = {}
        self._open: list[str] = []

    def check_output(self, output: str) -> list[dict] | None:
        try:
            return self.check(output)
        except Exception as problem:
            reason = _exception("exception_during_validation", "Exception when validating node", problem)
            del reason["extra_info"]["exception_message"]
            self.found[output] = [reason]
            return self.found[output]

    def check(self, node_id: str) -> list[dict] | None:
        if node_id in self.found:
            return self.found[node_id]
        if node_id in self._open:
            raise DependencyCycle(f"Dependency cycle detected: {' -> '.join([*self._open, node_id])}")
        self._open.append(node_id)
        try:
            errors = self._check_node(node_id)
            # A cycle through this node has already been noted under its name; keep that.
            self.found[node_id] = self.found[node_id] if self.found.get(node_id) else errors
        finally:
            self._open.pop()
        return self.found[node_id]

    def _check_node(self, node_id: str) -> list[dict] | None:
        node = self.prompt[node_id]
        inputs, kind = node["inputs"], self.registry[node["class_type"]]
        declared = kind.INPUT_TYPES()
        custom = _CustomCheck(kind)
        errors, received, sources_good = [], {}, True
        for name in {**declared.get("required", {}), **declared.get("optional", {})}:
            spec = input_spec(declared, name)
            if name not in inputs:
                if spec.category == "required":
                    errors.append(_missing(name))
            elif isinstance(inputs[name], list):
                error, good = self._check_link(name, spec, inputs[name], custom, received)
                errors += [error] if error else []
                sources_good &= good
            else:
                error = _check_constant(name, spec, inputs, skip_range=custom.covers(name))
                errors += [error] if error else []
        errors += custom.run(node_id, declared, node, received, self.loop)
        return errors if errors or not sources_good else None

    def _check_link(
        self, name: str, spec: InputSpec, value: list, custom: "_CustomCheck", received: dict
    ) -> tuple[dict | None, bool]:
        """Returns the error of this link, if any, and whether the node behind it is good."""
        about = {"input_name": name, "input_config": (spec.type, spec.options)}
        if len(value) != 2:
            said = "Bad linked input, must be a length-2 list of [node_id, slot_index]"
            return _error("bad_linked_input", said, name, **about, received_value=value), True
        source, slot = value
        received[name] = got = self.registry[self.prompt[source]["class_type"]].RETURN_TYPES[slot]
        if "input_types" not in custom.arguments and not types_match(got, spec.type):
            details = f"{name}, received_type({got}) mismatch input_type({spec.type})"
            said = "Return type mismatch between linked nodes"
            return _error(
                "return_type_mismatch", said, details, **about, received_type=got, linked_node=value
            ), True
        try:
            return None, self.check(source) is None
        except Exception as problem:
            said = "Exception when validating inner node"
            reason = _exception("exception_during_inner_validation", said, problem)
            reason["extra_info"] = {**about, **reason["extra_info"], "linked_node": value}
            self.found[source] = [reason]
            return None, False


def _missing(name: str) -> dict:
    return _error("required_input_missing", "Required input is missing", name, input_name=name)


def _exception(kind: str, message: str, problem: Exception) -> dict:
    return _error(
        kind,
        message,
        str(problem),
        exception_message=str(problem),
        exception_type=full_type_name(type(problem)),
        traceback=traceback.format_tb(problem.__traceback__),
    )


def _check_constant(name: str, spec: InputSpec, inputs: dict, skip_range: bool) -> dict | None:
    """Coerces one constant in place and checks its range or its list of choices."""
    value = inputs[name]
    about = {"input_name": name, "input_config": (spec.type, spec.options)}
    if isinstance(value, dict) and "__value__" in value:
        value = value["__value__"]
        if not isinstance(value, list):  # a list stays wrapped: bare, it would be read as a link
            inputs[name] = value
    try:
        if isinstance(spec.type, str) and spec.type in COERCIONS:
            value = inputs[name] = COERCIONS[spec.type](value)
    except Exception as problem:
        said = f"Failed to convert an input value to a {spec.type} value"
        about |= {"received_value": value, "exception_message": str(problem)}
        return _error("invalid_input_type", said, f"{name}, {value}, {problem}", **about)
    return None if skip_range else _check_range(name, spec, value, about)


def _check_range(name: str, spec: InputSpec, value: Any, about: dict) -> dict | None:
    about = {**about, "received_value": value}
    low, high = spec.options.get("min"), spec.options.get("max")
    if low is not None and value < low:
        return _error("value_smaller_than_min", f"Value {value} smaller than min of {low}", name, **about)
    if high is not None and value > high:
        return _error("value_bigger_than_max", f"Value {value} bigger than max of {high}", name, **about)
    if isinstance(spec.type, list) and value not in spec.type:
        choices = str(spec.type)
        if len(spec.type) > LONGEST_LIST:
            choices, about["input_config"] = f"(list of length {len(spec.type)})", None
        return _error(
            "value_not_in_list", "Value not in list", f"{name}: '{value}' not in {choices}", **about
        )
    return None


class _CustomCheck:
    """A node's own VALIDATE_INPUTS: it alone checks the inputs it names, and sees links as None."""

    def __init__(self, kind: type):
        self.kind, self.arguments, self.takes_all = kind, [], False
        function = getattr(kind, "VALIDATE_INPUTS", None)
        if function is not None:
            spec = inspect.getfullargspec(function)
            self.arguments, self.takes_all = spec.args, spec.varkw is not None

    def covers(self, name: str) -> bool:
        return self.takes_all or name in self.arguments

    def run(self, node_id: str, declared: Mapping, node: dict, received: dict, loop: Loop) -> list[dict]:
        if not self.arguments and not self.takes_all:
            return []
        values, _ = gather_inputs(node_id, declared, None, node)
        values = {name: value for name, value in values.items() if self.covers(name)}
        if "input_types" in self.arguments:
            values["input_types"] = [received]
        results = loop.results(map_over_lists(self.kind, "VALIDATE_INPUTS", values, loop))
        return [
            _error(
                "custom_validation_failed",
                "Custom validation failed for node",
                name if result is False else f"{name} - {result}",
                input_name=name,
            )
            for name in values
            for result in results
            if result is not True and not is_blocker(result)
        ]
