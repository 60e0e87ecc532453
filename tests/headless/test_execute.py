"""The executor's contract, point by point, on small nodes."""

import asyncio

import pytest
import torch

from editkit.headless.errors import EditError, NodeFailed, PromptRefused
from editkit.headless.graph import ExecutionBlocker

INT = ("INT",)


def seen(run, node="out"):
    return run.outputs[node]["seen"]


def test_values_flow_along_links_and_constants_are_coerced(runner, node, graph):
    add = node(lambda a, b: (a + b,), {"a": INT, "b": ("FLOAT",)}, returns=("FLOAT",))
    work = graph(
        one=("PrimitiveInt", {"value": "3"}),
        two=("Add", {"a": ["one", 0], "b": "0.5"}),
        out=("Show", {"value": ["two", 0]}),
    )
    assert seen(runner(Add=add).run(work)) == [3.5]
    assert work["one"]["inputs"]["value"] == "3", "the caller's workflow is left as it was"


def test_each_node_runs_once_and_after_its_sources(runner, node, graph):
    order = []
    step = node(
        lambda name, a=0, b=0: (order.append(name) or 1,), {"name": ("STRING",)}, {"a": INT, "b": INT}
    )
    work = graph(
        out=("Show", {"value": ["d", 0]}),
        d=("Step", {"name": "d", "a": ["b", 0], "b": ["c", 0]}),
        c=("Step", {"name": "c", "a": ["a", 0]}),
        b=("Step", {"name": "b", "a": ["a", 0]}),
        a=("Step", {"name": "a"}),
        unused=("Step", {"name": "unused"}),
    )
    runner(Step=step).run(work)
    assert sorted(order) == ["a", "b", "c", "d"] and order[0] == "a" and order[-1] == "d"


def test_a_long_chain_runs_and_has_signatures(runner, node, graph):
    step = node(lambda x: (x + 1,), {"x": INT})
    chain = {str(i): ("Step", {"x": [str(i - 1), 0] if i else 0}) for i in range(200)}
    assert seen(runner(Step=step).run(graph(**chain, out=("Show", {"value": ["199", 0]})))) == [200]


def test_a_wrapped_list_is_a_literal_even_if_it_looks_like_a_link(runner, node, graph, counted):
    got = counted(lambda points: (len(points),))
    kind = node(got, {"points": ("POINTS",)})
    work = graph(a=("Take", {"points": {"__value__": ["a", 0]}}), out=("Show", {"value": ["a", 0]}))
    run = runner(Take=kind).run(work)
    assert seen(run) == [2] and got.calls == [{"points": ["a", 0]}]
    assert run.prompt["a"]["inputs"]["points"] == {"__value__": ["a", 0]}, "still a literal in the metadata"


def test_a_raw_link_is_handed_over_as_it_is(runner, node, graph, counted):
    got = counted(lambda source: (1,))
    kind = node(got, {"source": ("INT", {"rawLink": True})})
    work = graph(
        n=("PrimitiveInt", {"value": 1}), a=("Raw", {"source": ["n", 0]}), out=("Show", {"value": ["a", 0]})
    )
    runner(Raw=kind).run(work)
    assert got.calls == [{"source": ["n", 0]}]


def test_inputs_that_a_node_does_not_declare_are_not_passed(runner, node, graph):
    kind = node(lambda: (7,))
    work = graph(a=("Plain", {"old_widget": 3}), out=("Show", {"value": ["a", 0]}))
    assert seen(runner(Plain=kind).run(work)) == [7]


def lazy_switch(node, ran):
    kind = node(
        lambda pick, a=None, b=None: (a if pick else b,),
        {"pick": ("BOOLEAN",)},
        {"a": ("INT", {"lazy": True}), "b": ("INT", {"lazy": True})},
    )
    kind.check_lazy_status = lambda self, pick, a=None, b=None: [
        n for n, v in (("a", a), ("b", b)) if v is None and (n == "a") == pick
    ]
    return kind, node(lambda name: (ran.append(name) or len(ran),), {"name": ("STRING",)})


@pytest.mark.parametrize(("pick", "expected"), [(True, ["a"]), (False, ["b"])])
def test_only_the_lazy_input_that_is_asked_for_runs(runner, node, graph, pick, expected):
    ran = []
    switch, source = lazy_switch(node, ran)
    work = graph(
        a=("Source", {"name": "a"}),
        b=("Source", {"name": "b"}),
        s=("Switch", {"pick": pick, "a": ["a", 0], "b": ["b", 0]}),
        out=("Show", {"value": ["s", 0]}),
    )
    assert seen(runner(Switch=switch, Source=source).run(work)) == [1]
    assert ran == expected


def test_asking_for_a_lazy_input_that_is_not_wired_fails_with_its_name(runner, node, graph):
    kind = node(lambda a=None: (1,), {}, {"a": ("INT", {"lazy": True})})
    kind.check_lazy_status = lambda self, a=None: ["a"]
    with pytest.raises(NodeFailed, match="needs input a"):
        runner(Lazy=kind).run(graph(x=("Lazy", {}), out=("Show", {"value": ["x", 0]})))


def test_lists_are_mapped_and_shorter_ones_repeat_their_last_item(runner, node, graph):
    many = node(lambda count: (list(range(count)),), {"count": INT}, OUTPUT_IS_LIST=(True,))
    add = node(lambda a, b, c: (a * 100 + b * 10 + c,), {"a": INT, "b": INT, "c": INT})
    work = graph(
        four=("Many", {"count": 4}),
        two=("Many", {"count": 2}),
        sum=("Add", {"a": ["four", 0], "b": ["two", 0], "c": 5}),
        out=("Show", {"value": ["sum", 0]}),
    )
    assert seen(runner(Many=many, Add=add).run(work)) == [5, 115, 215, 315]


def test_a_node_with_input_is_list_gets_whole_lists_once(runner, node, graph, counted):
    many = node(lambda count: (list(range(count)),), {"count": INT}, OUTPUT_IS_LIST=(True,))
    total = counted(lambda a, b: (sum(a) + b[0],))
    work = graph(
        m=("Many", {"count": 4}),
        t=("Total", {"a": ["m", 0], "b": 10}),
        out=("Show", {"value": ["t", 0]}),
    )
    kind = node(total, {"a": INT, "b": INT}, INPUT_IS_LIST=True)
    assert seen(runner(Many=many, Total=kind).run(work)) == [16]
    assert total.calls == [{"a": [0, 1, 2, 3], "b": [10]}]


def test_an_empty_list_is_refused_by_the_name_of_the_input(runner, node, graph):
    none = node(lambda: ([],), OUTPUT_IS_LIST=(True,))
    with pytest.raises(NodeFailed, match="'value' received an empty list"):
        runner(Many=none).run(graph(m=("Many", {}), out=("Show", {"value": ["m", 0]})))


def test_hidden_inputs_are_given(runner, node, graph, counted):
    got = counted(lambda **inputs: (1,))
    hidden = {"p": "PROMPT", "e": "EXTRA_PNGINFO", "u": "UNIQUE_ID", "d": "DYNPROMPT"}
    work = graph(x=("Asks", {}), out=("Show", {"value": ["x", 0]}))
    runner(Asks=node(got, hidden=hidden)).run(work, extra_data={"extra_pnginfo": {"workflow": {"v": 1}}})
    (given,) = got.calls
    assert given["u"] == "x" and given["e"] == {"workflow": {"v": 1}}
    assert given["p"]["x"]["class_type"] == "Asks"
    assert given["d"].get_node("x")["class_type"] == "Asks" and given["d"].has_node("out")


def test_ui_results_are_joined_over_a_mapped_list(runner, node, graph):
    many = node(lambda: ([1, 2, 3],), OUTPUT_IS_LIST=(True,))
    run = runner(Many=many).run(graph(m=("Many", {}), out=("Show", {"value": ["m", 0]})))
    assert run.outputs == {"out": {"seen": [1, 2, 3]}}
    assert run.history()[run.prompt_id]["outputs"] == run.outputs
    assert run.history()[run.prompt_id]["status"]["status_str"] == "success"
    assert run.meta["out"] == {
        "node_id": "out", "display_node": "out", "parent_node": None, "real_node_id": "out"
    }  # fmt: skip


def test_a_node_may_expand_into_a_graph(runner, node, graph):
    def grow(count):
        new = {
            f"g{i}": {"class_type": "Inc", "inputs": {"x": [f"g{i - 1}", 0] if i else 0}}
            for i in range(count)
        }
        return {"result": ([f"g{count - 1}", 0], 42), "expand": new}

    inc = node(lambda x: (x + 1,), {"x": INT})
    expand = node(grow, {"count": INT}, returns=("INT", "INT"))
    work = graph(
        e=("Grow", {"count": 3}), out=("Show", {"value": ["e", 0]}), out2=("Show", {"value": ["e", 1]})
    )
    run = runner(Grow=expand, Inc=inc).run(work)
    assert seen(run) == [3] and seen(run, "out2") == [42]


def test_an_output_node_inside_an_expansion_runs_and_is_reported_under_its_parent(runner, node, graph):
    expand = node(lambda: {"result": (5,), "expand": {"s": {"class_type": "Show", "inputs": {"value": 9}}}})
    run = runner(Grow=expand).run(graph(e=("Grow", {}), out=("Show", {"value": ["e", 0]})))
    assert run.outputs == {"out": {"seen": [5]}, "s": {"seen": [9]}}
    assert run.meta["s"]["display_node"] == run.meta["s"]["real_node_id"] == "e"


def test_an_error_inside_an_expansion_is_blamed_on_the_users_node(runner, node, graph):
    def fail(x):
        raise ValueError("no good")

    expand = node(lambda: {"result": (["g", 0],), "expand": {"g": {"class_type": "Bad", "inputs": {"x": 1}}}})
    with pytest.raises(NodeFailed) as caught:
        runner(Grow=expand, Bad=node(fail, {"x": INT})).run(
            graph(e=("Grow", {}), out=("Show", {"value": ["e", 0]}))
        )
    assert caught.value.details["node_id"] == "e" and caught.value.details["node_type"] == "Grow"


def test_a_cycle_made_by_an_expansion_ends_with_an_error(runner, node, graph):
    new = {
        "g": {"class_type": "Inc", "inputs": {"x": ["h", 0]}},
        "h": {"class_type": "Inc", "inputs": {"x": ["g", 0]}},
    }
    expand = node(lambda: {"result": (["g", 0],), "expand": new})
    with pytest.raises(NodeFailed, match="cycle"):
        runner(Grow=expand, Inc=node(lambda x: (x,), {"x": INT})).run(
            graph(e=("Grow", {}), out=("Show", {"value": ["e", 0]}))
        )


def test_a_silent_blocker_skips_what_depends_on_it_and_nothing_else(runner, node, graph):
    block = node(lambda: (ExecutionBlocker(None), 4), returns=("INT", "INT"))
    work = graph(b=("Block", {}), out=("Show", {"value": ["b", 0]}), good=("Show", {"value": ["b", 1]}))
    run = runner(Block=block).run(work)
    assert run.outputs == {"good": {"seen": [4]}} and run.blocked == [] and run.completed


def test_a_blocker_with_a_message_is_said_once(runner, node, graph):
    block = node(lambda: ExecutionBlocker("nothing to paint"))
    inc = node(lambda x: (x + 1,), {"x": INT})
    work = graph(b=("Block", {}), i=("Inc", {"x": ["b", 0]}), out=("Show", {"value": ["i", 0]}))
    run = runner(Block=block, Inc=inc).run(work)
    assert run.blocked == ["Execution Blocked: nothing to paint"] and run.outputs == {}


def test_blockers_of_another_package_are_known_by_name(runner, node, graph):
    foreign = type("ExecutionBlocker", (), {"message": None})
    run = runner(Block=node(lambda: (foreign(),))).run(
        graph(b=("Block", {}), out=("Show", {"value": ["b", 0]}))
    )
    assert run.outputs == {}


def test_asynchronous_nodes_run_side_by_side(runner, node, graph):
    events = []

    class Slow(node(None, {"name": ("STRING",)})):
        async def run(self, name):
            events.append(f"{name} begins")
            await asyncio.sleep(0.01)
            events.append(f"{name} ends")
            return (len(name),)

    work = graph(
        a=("Slow", {"name": "a"}),
        b=("Slow", {"name": "bb"}),
        out=("Show", {"value": ["a", 0]}),
        out2=("Show", {"value": ["b", 0]}),
    )
    run = runner(Slow=Slow).run(work)
    assert seen(run) == [1] and seen(run, "out2") == [2]
    assert events[:2] == ["a begins", "bb begins"], "the second began before the first ended"


def test_an_asynchronous_error_is_reported_as_any_other(runner, node, graph):
    class Bad(node(None)):
        async def run(self):
            await asyncio.sleep(0)
            raise EditError("too bright")

    with pytest.raises(NodeFailed, match="too bright"):
        runner(Bad=Bad).run(graph(x=("Bad", {}), out=("Show", {"value": ["x", 0]})))


def test_gradients_are_off(runner, node, graph):
    kind = node(lambda: (torch.is_inference_mode_enabled(),))
    assert seen(runner(Asks=kind).run(graph(x=("Asks", {}), out=("Show", {"value": ["x", 0]})))) == [True]


def test_only_the_asked_for_outputs_run(runner, node, graph):
    work = graph(a=("Show", {"value": 1}), b=("Show", {"value": 2}))
    assert runner().run(work, partial_execution_targets=["b"]).outputs == {"b": {"seen": [2]}}


def test_a_failing_node_gives_comfyuis_execution_error(runner, node, graph):
    def fail(x, picture):
        raise ZeroDivisionError("by nothing")

    kind = node(fail, {"x": INT, "picture": ("IMAGE",)})
    work = graph(
        p=("EmptyImage", {"width": 2, "height": 2, "batch_size": 1, "color": 0}),
        f=("Fail", {"x": 3, "picture": ["p", 0]}),
        out=("Show", {"value": ["f", 0]}),
    )
    with pytest.raises(NodeFailed) as caught:
        runner(Fail=kind).run(work, prompt_id="abc")
    details = caught.value.details
    assert set(details) == {
        "prompt_id", "node_id", "node_type", "executed", "exception_message", "exception_type", "traceback",
        "current_inputs", "current_outputs",
    }  # fmt: skip
    assert details["prompt_id"] == "abc" and details["node_id"] == "f" and details["node_type"] == "Fail"
    assert details["executed"] == ["p"] and details["current_outputs"] == ["p"]
    assert details["exception_type"] == "ZeroDivisionError" and details["exception_message"] == "by nothing\n"
    assert details["current_inputs"]["x"] == [3] and details["current_inputs"]["picture"][0].startswith(
        "tensor"
    )
    assert any("fail" in line for line in details["traceback"])
    assert str(caught.value) == "Fail failed with ZeroDivisionError: by nothing"
    history = caught.value.run.history()["abc"]
    assert history["status"]["status_str"] == "error" and not history["status"]["completed"]
    assert history["status"]["messages"][-1][0] == "execution_error"


def test_an_edit_error_is_passed_on_as_its_own_sentence_with_the_nodes_title(runner, node, graph):
    def fail():
        raise EditError("The mask is empty; paint something.")

    work = graph(f=("Fail", {}), out=("Show", {"value": ["f", 0]}))
    work["f"]["_meta"] = {"title": "my edit"}
    with pytest.raises(NodeFailed) as caught:
        runner(Fail=node(fail)).run(work)
    assert str(caught.value) == "'my edit' (Fail): The mask is empty; paint something."


def test_ctrl_c_passes_through_and_is_noted(runner, node, graph):
    def stop():
        raise KeyboardInterrupt

    heard = []
    run_it = runner(Stop=node(stop))
    run_it._on_message = lambda event, data: heard.append(event)
    with pytest.raises(KeyboardInterrupt):
        run_it.run(graph(x=("Stop", {}), out=("Show", {"value": ["x", 0]})))
    assert heard[-1] == "execution_interrupted"


def test_the_messages_of_a_run_are_those_of_a_server(runner, graph):
    heard = []
    run_it = runner()
    run_it._on_message = lambda event, data: heard.append((event, data.get("node")))
    run_it.run(graph(out=("Show", {"value": 1})))
    assert heard == [
        ("execution_start", None),
        ("execution_cached", None),
        ("executing", "out"),
        ("executed", "out"),
        ("execution_success", None),
    ]


def test_a_node_that_returns_no_tuple_is_named(runner, node, graph):
    with pytest.raises(NodeFailed, match="int where a tuple"):
        runner(Odd=node(lambda: 3)).run(graph(x=("Odd", {}), out=("Show", {"value": ["x", 0]})))


def test_a_class_that_only_a_server_has_is_refused_by_name(runner, graph):
    with pytest.raises(PromptRefused) as caught:
        runner().run(graph(c=("CheckpointLoaderSimple", {"ckpt_name": "x"}), out=("Show", {"value": 1})))
    assert str(caught.value).startswith("CheckpointLoaderSimple needs a ComfyUI server: ")
    assert caught.value.response()["error"]["type"] == "invalid_prompt"
