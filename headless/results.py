"""What a node's function may return, sorted into values, ui results and expansions."""

from typing import Any, NamedTuple

from .errors import EditError
from .graph import is_blocker


class Returned(NamedTuple):
    """One call's result: its values, its ui results and the graph it expands into, each of them or None."""

    values: tuple | None
    ui: dict | None
    expand: dict | None


def read(result: Any, node: type) -> Returned:
    """Reads a tuple, a dict with `ui`, `result`, `expand`, or a blocker that stands for every output."""
    if isinstance(result, dict):
        ui, expand = result.get("ui"), result.get("expand")
        values = result.get("result")
        return Returned(None if values is None else _tuple(values, node), ui, expand)
    return Returned(_tuple(result, node), None, None)


def _tuple(values: Any, node: type) -> tuple:
    if is_blocker(values):
        return (values,) * len(node.RETURN_TYPES)
    if values is None and not node.RETURN_TYPES:  # an output node may simply end
        return ()
    if not isinstance(values, (tuple, list)):
        raise EditError(
            f"The node returned a {type(values).__name__} where a tuple of its outputs is expected."
        )
    return tuple(values)


def merge_ui(results: list[Returned]) -> dict:
    """Joins the ui lists of all calls, key by key."""
    shown = [r.ui for r in results if r.ui is not None]
    return {key: [item for ui in shown for item in ui[key]] for key in (shown[0] if shown else {})}


def merge_values(calls: list[tuple], node: type) -> list[list]:
    """Returns one list per output: each call adds an item, or with OUTPUT_IS_LIST all items of its list."""
    if not calls:
        return []
    slots = len(calls[0])
    is_list = getattr(node, "OUTPUT_IS_LIST", None) or (False,) * slots
    return [_merge_slot([values[i] for values in calls], is_list[i]) for i in range(min(slots, len(is_list)))]


def _merge_slot(values: list, is_list: bool) -> list:
    if not is_list:
        return values
    return [item for v in values for item in ([v] if is_blocker(v) else v)]
