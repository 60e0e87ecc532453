"""A race's stopwatch: what it asks of a GPU, and what it says where the host tells nothing."""

import gc
from types import SimpleNamespace

import pytest
import torch

from editkit.headless.graph import DynamicPrompt
from editkit.models.race.table import memory
from editkit.nodes.host import laps

GIB = 2**30
PROMPT = {
    "photo": {"class_type": "LoadImage", "inputs": {}},
    "one": {"class_type": "EditKitTone", "inputs": {"image": ["photo", 0]}},
    "save": {"class_type": "Decode", "inputs": {"latent": ["one", 0]}, "_meta": {"title": "Decode"}},
    "race": {"class_type": "EditKitEditRace", "inputs": {"image": ["photo", 0], "result_1": ["save", 0]}},
}


@pytest.fixture
def graph():
    made = DynamicPrompt(PROMPT)
    made.executed.append("photo")
    return made


def raced(graph, image):
    """One lap: asked for, run, and there."""
    watch = laps.watch(graph, "race")
    assert watch.next(graph, {"result_1": None}) == ["result_1"]
    assert watch.next(graph, {"result_1": None}) == ["result_1"]  # asked again, as for each item of a list
    graph.executed += ["one", "save"]
    assert watch.next(graph, {"result_1": image}) == []
    return watch.lap("result_1", image)


def test_on_a_gpu_the_peak_is_torchs_and_the_clock_waits_for_it(graph, monkeypatch):
    calls = []
    fake = SimpleNamespace(
        synchronize=lambda device: calls.append("wait"), reset_peak_memory_stats=lambda device: calls.append("reset"),
        max_memory_allocated=lambda device: 3 * GIB,
    )  # fmt: skip
    monkeypatch.setattr(laps, "load_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(laps.torch, "cuda", fake)
    lap = raced(graph, torch.zeros(1))
    assert calls == ["wait", "reset", "wait"]
    assert memory(lap) == "3.00 GiB GPU" and lap.exact


def test_without_one_the_peak_is_the_processs_and_an_old_one_bounds_it(graph, monkeypatch):
    peaks = iter([GIB, 2 * GIB, 2 * GIB, 2 * GIB])
    monkeypatch.setattr(laps, "process_peak", lambda: next(peaks))
    assert memory(raced(graph, torch.zeros(1))) == "2.00 GiB"
    assert memory(raced(DynamicPrompt(PROMPT), torch.zeros(1))) == "<= 2.00 GiB"


def test_the_processs_peak_is_at_least_what_it_holds():
    assert laps.process_peak() > 50 * 2**20


def test_where_the_host_does_not_tell_what_ran_the_time_says_so(graph, monkeypatch):
    monkeypatch.setattr(laps, "finished", lambda graph: None)
    lap = raced(graph, torch.zeros(1))
    assert lap.seconds is not None and lap.bound == "~" and not lap.exact and "not known" in lap.note


def test_a_system_is_called_after_its_last_node_of_the_pack(graph):
    assert laps.names(graph, "race", ["result_1"]) == ["Tone"]
    plain = {**PROMPT, "save": {**PROMPT["save"], "inputs": {"latent": ["photo", 0]}}}
    assert laps.names(DynamicPrompt(plain), "race", ["result_1"]) == ["Decode"]


def test_nothing_is_kept_of_a_run_that_is_over_nor_of_a_picture_that_is_gone():
    graph, image = DynamicPrompt(PROMPT), torch.zeros(1)
    raced(graph, image)
    assert graph in laps._running and image in laps._made
    runs, pictures = len(laps._running), len(laps._made)
    del graph, image
    gc.collect()
    assert (len(laps._running), len(laps._made)) == (runs - 1, pictures - 1)
