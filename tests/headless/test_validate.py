"""ComfyUI's checks before a run: their order and the dicts they answer with."""

import pytest

from editkit.headless.errors import PromptRefused
from editkit.headless.validate import types_match, validate

INT = ("INT",)


@pytest.fixture
def refused(runner):
    """Runs a workflow that must be refused and returns the refusal."""

    def run(work, **classes):
        with pytest.raises(PromptRefused) as caught:
            runner(**classes).run(work)
        return caught.value

    return run


@pytest.fixture
def reason(refused):
    """The only error of node `x` of a workflow that must be refused."""

    def run(work, **classes):
        found = refused(work, **classes)
        assert found.error["type"] == "prompt_outputs_failed_validation"
        assert set(found.error) == {"type", "message", "details", "extra_info"}
        (only,) = found.node_errors["x"]["errors"]
        assert set(only) == {"type", "message", "details", "extra_info"}
        return only

    return run


def with_x(graph, inputs, **more):
    return graph(x=("X", inputs), out=("Show", {"value": ["x", 0]}), **more)


def test_a_missing_class_type(refused):
    found = refused({"1": {"inputs": {}}})
    assert found.error == {
        "type": "invalid_prompt",
        "message": "Cannot execute because a node is missing the class_type property.",
        "details": "Node ID '#1'",
        "extra_info": {},
    }


def test_an_unknown_class_has_comfyuis_dict_and_our_sentence(refused, graph):
    found = refused(graph(a=("KSampler", {})))
    assert found.response() == {
        "error": {
            "type": "invalid_prompt",
            "message": "Cannot execute because node KSampler does not exist.",
            "details": "Node ID '#a'",
            "extra_info": {},
        },
        "node_errors": {},
    }
    assert "KSampler needs a ComfyUI server: " in str(found)


def test_a_misspelt_node_of_our_own_is_not_sent_to_a_server(refused, graph):
    assert "EditKitTona is not a node of this EditKit" in str(refused(graph(a=("EditKitTona", {}))))


def test_no_output_node(refused, node, graph):
    found = refused(graph(x=("X", {})), X=node(lambda: (1,)))
    assert found.error["type"] == "prompt_no_outputs" and found.error["message"] == "Prompt has no outputs"


def test_targets_that_are_no_outputs(runner, graph):
    with pytest.raises(PromptRefused) as caught:
        runner().run(graph(out=("Show", {"value": 1})), partial_execution_targets=["elsewhere"])
    assert caught.value.error["type"] == "prompt_no_outputs"


def test_a_required_input_is_missing(reason, node, graph):
    found = reason(with_x(graph, {}), X=node(lambda a: (1,), {"a": INT}))
    assert found == {
        "type": "required_input_missing",
        "message": "Required input is missing",
        "details": "a",
        "extra_info": {"input_name": "a"},
    }


def test_an_optional_input_may_be_missing(runner, node, graph):
    run = runner(X=node(lambda a=8: (a,), optional={"a": INT})).run(with_x(graph, {}))
    assert run.outputs["out"]["seen"] == [8]


def test_a_link_of_another_length(reason, node, graph):
    found = reason(with_x(graph, {"a": ["n", 0, 1]}), X=node(lambda a: (1,), {"a": INT}))
    assert found["type"] == "bad_linked_input" and found["extra_info"]["received_value"] == ["n", 0, 1]
    assert found["message"] == "Bad linked input, must be a length-2 list of [node_id, slot_index]"


def test_types_that_do_not_fit(reason, node, graph):
    work = with_x(graph, {"a": ["s", 0]}, s=("PrimitiveString", {"value": "hi"}))
    found = reason(work, X=node(lambda a: (1,), {"a": ("INT", {"min": 0})}))
    assert found["type"] == "return_type_mismatch"
    assert found["message"] == "Return type mismatch between linked nodes"
    assert found["details"] == "a, received_type(STRING) mismatch input_type(INT)"
    assert found["extra_info"] == {
        "input_name": "a",
        "input_config": ("INT", {"min": 0}),
        "received_type": "STRING",
        "linked_node": ["s", 0],
    }


@pytest.mark.parametrize(
    ("received", "wanted", "fits"),
    [
        ("INT", "INT", True),
        ("INT", "FLOAT", False),
        ("INT", "*", True),
        ("*", "INT", True),
        ("INT", "FLOAT,INT", True),
        ("FLOAT, INT", "INT,STRING", True),
        ("FLOAT,MASK", "INT,STRING", False),
        (["a", "b"], "STRING", False),
        (["a"], ["a"], True),
        (["a"], ["b"], False),
    ],
)
def test_which_types_fit(received, wanted, fits):
    assert types_match(received, wanted) is fits


def test_types_that_override_unequal_fit_everything():
    anything = type("Any", (str,), {"__ne__": lambda self, other: False, "__hash__": str.__hash__})("ANY")
    assert types_match("IMAGE", anything) and types_match(anything, "IMAGE")


def test_a_dangling_link_is_an_exception_during_validation_as_in_comfyui(refused, graph):
    found = refused(graph(out=("Show", {"value": ["gone", 0]})))
    (only,) = found.node_errors["out"]["errors"]
    assert (
        only["type"] == "exception_during_validation" and only["message"] == "Exception when validating node"
    )
    assert only["details"] == "'gone'"
    assert only["extra_info"]["exception_type"] == "KeyError"
    assert set(only["extra_info"]) == {"exception_type", "traceback"}


def test_a_dangling_link_further_up_is_an_inner_exception(refused, node, graph):
    found = refused(with_x(graph, {"a": ["gone", 0]}), X=node(lambda a: (1,), {"a": INT}))
    (only,) = found.node_errors["x"]["errors"]
    assert only["type"] == "exception_during_inner_validation"
    assert (
        only["extra_info"]["linked_node"] == ["x", 0] and only["extra_info"]["exception_type"] == "KeyError"
    )
    assert found.node_errors["x"]["dependent_outputs"] == ["out"]


def test_a_cycle_is_found_and_named(refused, node, graph):
    kind = node(lambda a: (1,), {"a": INT})
    work = graph(a=("X", {"a": ["b", 0]}), b=("X", {"a": ["a", 0]}), out=("Show", {"value": ["a", 0]}))
    found = refused(work, X=kind)
    assert "Dependency cycle detected" in str(found)


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [("INT", "12", 12), ("INT", 3.9, 3), ("FLOAT", "0.5", 0.5), ("STRING", 7, "7"), ("BOOLEAN", 1, True)],
)
def test_constants_become_their_type(runner, node, graph, kind, given, expected):
    run = runner(X=node(lambda a: (a,), {"a": (kind,)}, returns=(kind,))).run(with_x(graph, {"a": given}))
    (value,) = run.outputs["out"]["seen"]
    assert value == expected and type(value) is type(expected)
    assert run.prompt["x"]["inputs"]["a"] == expected, "as ComfyUI writes it into the picture"


def test_a_constant_that_cannot_become_its_type(reason, node, graph):
    found = reason(with_x(graph, {"a": "many"}), X=node(lambda a: (1,), {"a": INT}))
    assert found["type"] == "invalid_input_type"
    assert found["message"] == "Failed to convert an input value to a INT value"
    assert found["details"].startswith("a, many, invalid literal")
    assert found["extra_info"]["received_value"] == "many" and found["extra_info"]["exception_message"]


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (-1, "value_smaller_than_min", "Value -1 smaller than min of 0"),
        (11, "value_bigger_than_max", "Value 11 bigger than max of 10"),
    ],
)
def test_values_out_of_range(reason, node, graph, value, kind, message):
    found = reason(with_x(graph, {"a": value}), X=node(lambda a: (1,), {"a": ("INT", {"min": 0, "max": 10})}))
    assert found["type"] == kind and found["message"] == message and found["details"] == "a"
    assert found["extra_info"] == {
        "input_name": "a",
        "input_config": ("INT", {"min": 0, "max": 10}),
        "received_value": value,
    }


def test_a_choice_that_is_not_in_the_list(reason, node, graph):
    found = reason(with_x(graph, {"a": "z"}), X=node(lambda a: (1,), {"a": (["p", "q"],)}))
    assert found["type"] == "value_not_in_list" and found["message"] == "Value not in list"
    assert found["details"] == "a: 'z' not in ['p', 'q']"
    assert found["extra_info"]["input_config"] == (["p", "q"], {})


def test_long_lists_are_not_repeated(reason, node, graph):
    found = reason(
        with_x(graph, {"a": "z"}), X=node(lambda a: (1,), {"a": (list("abcdefghijklmnopqrstuvw"),)})
    )
    assert (
        found["details"] == "a: 'z' not in (list of length 23)"
        and found["extra_info"]["input_config"] is None
    )


def custom(node, function, required):
    return node(lambda **inputs: (1,), required, VALIDATE_INPUTS=classmethod(function))


def test_what_validate_inputs_names_only_it_checks(runner, node, graph):
    kind = custom(node, lambda cls, a: True, {"a": ("INT", {"max": 1}), "b": (["p"],)})
    runner(X=kind).run(with_x(graph, {"a": 50, "b": "p"}))
    with pytest.raises(PromptRefused, match="not in"):
        runner(X=kind).run(with_x(graph, {"a": 50, "b": "other"}))


def test_validate_inputs_with_kwargs_takes_all_checks_over(runner, node, graph):
    got = []
    kind = custom(node, lambda cls, **kw: got.append(kw) or True, {"a": ("INT", {"max": 1}), "b": (["p"],)})
    runner(X=kind).run(with_x(graph, {"a": 50, "b": "other"}))
    assert got == [{"a": 50, "b": "other"}]


def test_validate_inputs_may_say_no_with_a_sentence(reason, node, graph):
    found = reason(with_x(graph, {"a": 5}), X=custom(node, lambda cls, a: f"{a} is odd", {"a": INT}))
    assert found == {
        "type": "custom_validation_failed",
        "message": "Custom validation failed for node",
        "details": "a - 5 is odd",
        "extra_info": {"input_name": "a"},
    }


def test_validate_inputs_sees_none_for_links_and_the_types_if_it_asks(runner, node, graph):
    got = []
    kind = custom(
        node, lambda cls, a, b, input_types: got.append((a, b, input_types)) or True, {"a": INT, "b": INT}
    )
    runner(X=kind).run(with_x(graph, {"a": ["s", 0], "b": 2}, s=("PrimitiveString", {"value": "x"})))
    assert got == [(None, 2, {"a": "STRING"})], "asking for input_types also skips the type check"


def test_validate_inputs_may_be_asynchronous(reason, node, graph):
    async def check(cls, a):
        return "not today"

    assert reason(with_x(graph, {"a": 1}), X=custom(node, check, {"a": INT}))["details"] == "a - not today"


def test_one_bad_output_does_not_stop_the_good_ones(runner, node, graph):
    work = graph(
        x=("X", {"a": 99}),
        bad=("Show", {"value": ["x", 0]}),
        worse=("Show", {}),
        good=("Show", {"value": 1}),
    )
    run = runner(X=node(lambda a: (a,), {"a": ("INT", {"max": 9})})).run(work)
    assert run.outputs == {"good": {"seen": [1]}}
    assert set(run.node_errors) == {"x", "worse"}
    assert run.node_errors["x"]["dependent_outputs"] == ["bad"] and run.node_errors["x"]["class_type"] == "X"


def test_several_errors_of_a_node_are_all_listed(refused, node, graph):
    kind = node(lambda **kw: (1,), {"a": INT, "b": ("INT", {"max": 1}), "c": INT})
    found = refused(with_x(graph, {"b": 2, "c": "no"}), X=kind)
    assert [e["type"] for e in found.node_errors["x"]["errors"]] == [
        "required_input_missing", "value_bigger_than_max", "invalid_input_type"
    ]  # fmt: skip
    assert found.error["details"] == "", "ComfyUI lists there only the errors of the output nodes themselves"


def test_a_node_is_checked_once(node, graph):
    calls = []
    kind = custom(node, lambda cls, a: calls.append(a) or True, {"a": INT})
    show = node(lambda value: (), {"value": ("*",)}, returns=(), OUTPUT_NODE=True)
    work = graph(x=("X", {"a": 1}), o1=("Show", {"value": ["x", 0]}), o2=("Show", {"value": ["x", 0]}))
    assert validate(work, {"X": kind, "Show": show}).outputs == ["o1", "o2"] and calls == [1]


def test_the_sentence_names_the_node_and_the_input(refused, graph):
    found = refused(graph(out=("Show", {})))
    assert str(found) == "Node out (Show): the input 'value' is missing, connect it or give it a value"
