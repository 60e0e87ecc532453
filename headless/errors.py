"""What goes wrong with a workflow, in ComfyUI's own error dicts and in one sentence for a person.

The dicts are those of a ComfyUI server (0.3.64: `/prompt` with status 400, and the `execution_error`
message), so a client that reads one reads the other. `str(error)` is the sentence.
"""

import re

from ..models.errors import EditError

__all__ = ["EditError", "NodeFailed", "PromptRefused", "named", "needs_server", "not_on_server"]

# no space left, file too large (a limit), read-only, quota exceeded: as the system's own errors read
CANNOT_WRITE = re.compile(r"\[Errno (?:27|28|30|122)\] (?P<what>[^:]+)(?:: '(?P<where>.*)')?")


def needs_server(class_type: str) -> str:
    """The sentence for a node class that this process does not have."""
    if class_type.startswith("EditKit"):
        return f"{class_type} is not a node of this EditKit: update the pack, or correct the workflow."
    return (
        f"{class_type} needs a ComfyUI server: EditKit has no node of that name and no stand-in for it, "
        "so queue this workflow in ComfyUI."
    )


def not_on_server(class_type: str) -> str:
    """The sentence for a node class that a ComfyUI server does not have."""
    if class_type.startswith("EditKit"):
        return needs_server(class_type)
    return f"{class_type} is not a node of this server: install the pack that it comes from, or correct the workflow."


def named(node_type: str, title: str | None) -> str:
    """A node as sentences about it begin."""
    return f"'{title}' ({node_type})" if title else node_type


class PromptRefused(EditError):
    """A workflow that cannot start. `error` and `node_errors` are the two halves of ComfyUI's 400 reply."""

    def __init__(self, error: dict, node_errors: dict | None = None, sentence: str | None = None):
        self.error, self.node_errors = error, node_errors or {}
        super().__init__(sentence or self._sentence())

    def _sentence(self) -> str:
        said = [
            f"Node {node} ({found['class_type']}): {describe(reason)}"
            for node, found in self.node_errors.items()
            for reason in found["errors"]
        ]
        if said:
            return "; ".join(said)
        details = self.error["details"]
        return self.error["message"] + (f" ({details})" if details else "")

    def response(self) -> dict:
        """The body that a ComfyUI server would have answered with."""
        return {"error": self.error, "node_errors": self.node_errors}


class NodeFailed(EditError):
    """A node that raised while it ran. `details` is ComfyUI's `execution_error` message."""

    def __init__(self, details: dict, title: str | None = None):
        self.details = details
        said = details["exception_message"].strip() or details["exception_type"]
        name = named(details["node_type"], title)
        kind = details["exception_type"]
        # An EditError is already the sentence; of any other exception its type is half the message.
        known = kind.rsplit(".", 1)[-1] in ("EditError", "NodeFailed", "PromptRefused", "Unwritable", "ValueError")
        full = CANNOT_WRITE.fullmatch(said)
        if full:  # core's SaveImage raises the system's error, ours has said it already
            where = full["where"] or "the result"
            said, known = f"Cannot write {where}: {full['what']}; choose another place for the results.", True
        super().__init__(f"{name}: {said}" if known else f"{name} failed with {kind}: {said}")


def describe(reason: dict) -> str:
    """One of ComfyUI's validation errors as a sentence: what, and which input and value."""
    details = reason["details"]
    if reason["type"] == "required_input_missing":
        return f"the input {details!r} is missing, connect it or give it a value"
    if reason["type"] == "custom_validation_failed":
        return details
    return f"{reason['message']}: {details}" if details else reason["message"]
