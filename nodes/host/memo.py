"""Remembers the last few results by the identity of what they were made from.

ComfyUI hands cached outputs on by reference, so one photograph edited with many prompts arrives as the same tensor:
its encodings and its inversion are then looked up, not computed again. What they were made from is held weakly, and a
result goes when any of it goes.
"""

import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

KEPT = 24
_results: OrderedDict[tuple, tuple[tuple, Any]] = OrderedDict()


def recall(kind: str, objects: tuple, make: Callable[[], Any], plain: tuple = ()) -> Any:
    """make(), or what it gave when it was last called with the same objects (by identity) and equal plain values."""
    key = (kind, tuple(id(o) for o in objects), plain)
    if key in _results:
        held, value = _results[key]
        if all(ref() is o for ref, o in zip(held, objects, strict=True)):
            _results.move_to_end(key)
            return value
    value = make()
    _results[key] = (tuple(_hold(o, key) for o in objects), value)
    while len(_results) > KEPT:
        _results.popitem(last=False)
    return value


def forget() -> None:
    """Drops everything."""
    _results.clear()


def _hold(thing, key: tuple) -> Callable[[], Any]:
    try:
        return weakref.ref(thing, lambda _: _results.pop(key, None))
    except TypeError:  # numbers, strings and small containers cannot be held weakly
        return lambda: thing
