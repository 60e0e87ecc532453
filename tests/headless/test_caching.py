"""What is run again, and what is taken from the last run."""

import math

import pytest

from editkit.headless.caching import Signatures
from editkit.headless.calls import Loop
from editkit.headless.errors import EditError, NodeFailed
from editkit.headless.graph import DynamicPrompt

INT = ("INT",)


def seen(run, node="out"):
    return run.outputs[node]["seen"]


def test_the_second_run_takes_everything_from_the_cache(runner, node, graph, counted):
    source = counted(lambda x: (object(),))
    run_it = runner(Source=node(source, {"x": INT}))
    work = graph(s=("Source", {"x": 1}), out=("Show", {"value": ["s", 0]}))
    first, second = run_it.run(work), run_it.run(work)
    assert len(source.calls) == 1
    assert second.outputs == first.outputs, "cached nodes keep their ui results"
    assert second.values("s")[0][0] is first.values("s")[0][0], "outputs are passed by reference"
    assert dict(second.messages)["execution_cached"]["nodes"] == ["s", "out"]


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_a_node_that_is_reached_in_two_ways_is_no_cycle(runner, node, graph, counted, order):
    """`end` needs `near` and, through `far`, needs it again; whichever it names first, all of it comes again."""
    near, far = counted(lambda x: (x,)), counted(lambda x: (x + 1,))
    end = node(lambda **inputs: (sum(inputs.values()),), {name: INT for name in order})
    run_it = runner(Near=node(near, {"x": INT}), Far=node(far, {"x": INT}), End=end)
    links = {"a": ["near", 0], "b": ["far", 0]}
    work = graph(near=("Near", {"x": 1}), far=("Far", {"x": ["near", 0]}),
                 end=("End", {name: links[name] for name in order}), out=("Show", {"value": ["end", 0]}))  # fmt: skip
    once, again = (Signatures(DynamicPrompt(work), run_it.registry, Loop()).of("out") for _ in range(2))
    assert once == again
    assert seen(run_it.run(work)) == seen(run_it.run(work)) == [3]
    assert len(near.calls) == len(far.calls) == 1


def test_a_changed_input_reruns_what_follows_and_nothing_else(runner, node, graph, counted):
    source, follow = counted(lambda x: (x,)), counted(lambda a, k: (a + k,))
    run_it = runner(Source=node(source, {"x": INT}), Follow=node(follow, {"a": INT, "k": INT}))

    def work(k):
        return graph(
            s=("Source", {"x": 1}), f=("Follow", {"a": ["s", 0], "k": k}), out=("Show", {"value": ["f", 0]})
        )

    assert seen(run_it.run(work(1))) == [2] and seen(run_it.run(work(5))) == [6]
    assert (len(source.calls), len(follow.calls)) == (1, 2)


def test_a_source_that_is_shared_on_two_ways_is_no_cycle(runner, node, graph, counted):
    source, follow, both = counted(lambda x: (x,)), counted(lambda a: (a,)), counted(lambda a, b, c: (a + b + c,))
    run_it = runner(Source=node(source, {"x": INT}), Follow=node(follow, {"a": INT}),
                    Both=node(both, {"a": INT, "b": INT, "c": INT}))  # fmt: skip
    inputs = {"a": ["s", 0], "b": ["f", 0], "c": ["s", 0]}
    work = graph(both=("Both", inputs), f=("Follow", {"a": ["s", 0]}), s=("Source", {"x": 1}),
                 out=("Show", {"value": ["both", 0]}))  # fmt: skip
    for order in (["a", "b", "c"], ["b", "a", "c"], ["a", "c", "b"]):
        work["both"]["inputs"] = {name: inputs[name] for name in order}
        assert seen(run_it.run(work)) == [3]
        signed = [Signatures(DynamicPrompt(work), run_it.registry, Loop()).of("both") for _ in range(2)]
        assert signed[0] == signed[1], order
    assert [len(each.calls) for each in (source, follow, both)] == [1, 1, 1]


def test_equal_nodes_share_a_result_unless_they_ask_for_their_id(runner, node, graph, counted):
    plain, own = counted(lambda x: (x,)), counted(lambda x, me: (me,))
    run_it = runner(Plain=node(plain, {"x": INT}), Own=node(own, {"x": INT}, hidden={"me": "UNIQUE_ID"}))
    nodes = {f"p{i}": ("Plain", {"x": 1}) for i in (1, 2)} | {f"o{i}": ("Own", {"x": 1}) for i in (1, 2)}
    shows = {f"s_{name}": ("Show", {"value": [name, 0]}) for name in nodes}
    run = run_it.run(graph(**nodes, **shows))
    assert len(plain.calls) == 1 and len(own.calls) == 2
    assert seen(run, "s_o1") == ["o1"] and seen(run, "s_o2") == ["o2"]


@pytest.mark.parametrize(
    ("answers", "calls"),
    [((1, 1), 1), ((1, 2), 2), ((math.nan, math.nan), 2), ((float("nan"), float("nan")), 2)],
)
def test_is_changed_decides_about_running_again(runner, node, graph, answers, calls, counted):
    source, answer = counted(lambda x: (x,)), iter(answers)
    kind = node(source, {"x": INT}, IS_CHANGED=classmethod(lambda cls, x: next(answer)))
    run_it = runner(Source=kind)
    for _ in range(2):
        run_it.run(graph(s=("Source", {"x": 1}), out=("Show", {"value": ["s", 0]})))
    assert len(source.calls) == calls


def test_is_changed_that_raises_means_always(runner, node, graph, counted):
    source = counted(lambda x: (x,))

    def broken(cls, x):
        raise OSError("gone")

    run_it = runner(Source=node(source, {"x": INT}, IS_CHANGED=classmethod(broken)))
    for _ in range(2):
        run_it.run(graph(s=("Source", {"x": 1}), out=("Show", {"value": ["s", 0]})))
    assert len(source.calls) == 2


def test_is_changed_sees_constants_and_none_for_links(runner, node, graph):
    got = []
    kind = node(
        lambda a, b: (1,), {"a": INT, "b": INT}, IS_CHANGED=classmethod(lambda cls, a, b: got.append((a, b)))
    )
    work = graph(
        n=("PrimitiveInt", {"value": 1}), s=("S", {"a": ["n", 0], "b": 3}), out=("Show", {"value": ["s", 0]})
    )
    runner(S=kind).run(work)
    assert got == [(None, 3)]


def test_what_a_new_workflow_does_not_use_is_dropped(runner, node, graph, counted):
    source = counted(lambda x: (x,))
    run_it = runner(Source=node(source, {"x": INT}))
    for x in (1, 2, 1):
        run_it.run(graph(s=("Source", {"x": x}), out=("Show", {"value": ["s", 0]})))
    assert len(source.calls) == 3


def test_results_of_before_an_error_stay_cached(runner, node, graph, counted):
    source, fails = counted(lambda: (1,)), iter([True, False])

    def maybe(x):
        if next(fails):
            raise EditError("not yet")
        return (x,)

    run_it = runner(Source=node(source), Maybe=node(maybe, {"x": INT}))
    work = graph(s=("Source", {}), m=("Maybe", {"x": ["s", 0]}), out=("Show", {"value": ["m", 0]}))
    with pytest.raises(NodeFailed):
        run_it.run(work)
    assert seen(run_it.run(work)) == [1] and len(source.calls) == 1
