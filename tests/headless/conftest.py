"""Small nodes for the executor to work on, and runners that know them."""

import pytest

from editkit.headless.execute import Runner
from editkit.headless.standins import STANDINS


def make_node(function, required=None, optional=None, hidden=None, returns=("INT",), **attributes):
    """A V1 node class around a plain function of its inputs."""

    def input_types(cls):
        parts = {"required": required or {}, "optional": optional or {}, "hidden": hidden or {}}
        return {name: part for name, part in parts.items() if part}

    body = {"INPUT_TYPES": classmethod(input_types), "RETURN_TYPES": returns, "FUNCTION": "run"}
    body["run"] = lambda self, **inputs: function(**inputs)
    return type("FakeNode", (), body | attributes)


@pytest.fixture
def node():
    return make_node


@pytest.fixture
def show():
    """An output node that shows what it is given."""
    return make_node(lambda value: {"ui": {"seen": [value]}}, {"value": ("*",)}, returns=(), OUTPUT_NODE=True)


@pytest.fixture
def runner(show):
    """Makes a Runner that knows the stand-ins, `Show`, and the classes it is given."""
    return lambda **classes: Runner({**STANDINS, "Show": show, **classes})


@pytest.fixture
def graph():
    """graph(a=("Class", {inputs})) as an API-format workflow."""
    return lambda **nodes: {
        key: {"class_type": kind, "inputs": inputs} for key, (kind, inputs) in nodes.items()
    }
