"""Faulty workflows: a server and the headless runner answer with the same dicts."""

import copy
import importlib

import pytest

import editkit

# Differ by nature: tracebacks, times, and the lists of files that combos show.
OWN = {"traceback", "input_config", "timestamp"}
GOOD = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
}


def changed(node_id: str, **inputs) -> dict:
    """GOOD with inputs of a node replaced; None takes an input away."""
    prompt = copy.deepcopy(GOOD)
    prompt[node_id]["inputs"].update(inputs)
    prompt[node_id]["inputs"] = {k: v for k, v in prompt[node_id]["inputs"].items() if v is not None}
    return prompt


def painted(name: str) -> dict:
    """An edit with a painted mask of that name."""
    options = {"shadow": False, "texture": True, "grow": 0, "feather": 4, "seed": 0, "engine": "torch"}
    edit = {"class_type": "EditKitRemoveObject", "inputs": {"image": ["1", 0], **options, "mask_paint": name}}
    return {**changed("2", images=["3", 0]), "3": edit}


FAULTY = {
    "no_outputs": {"1": GOOD["1"]},
    "unknown_class": {**GOOD, "3": {"class_type": "EditKitNoSuchNode", "inputs": {}}},
    "no_class": {**GOOD, "3": {"inputs": {}}},
    "missing_input": changed("1", width=None),
    "too_small": changed("1", width=0),
    "too_big": changed("1", width=10**6),
    "not_a_number": changed("1", width="wide"),
    "dangling_link": changed("2", images=["9", 0]),
    "missing_link": changed("2", images=None),
    "wrong_type": {
        **changed("2", images=["3", 0]),
        "3": {"class_type": "PrimitiveInt", "inputs": {"value": 1}},
    },
    "painted_outside": painted("../secret.png"),
    "painted_far_outside": painted("/etc/passwd"),
    "painted_and_gone": painted("editkit/gone.png"),
    "not_painted": painted(""),
    "bad_choice": {
        **changed("2", images=["4", 0]),
        "3": {"class_type": "ImageToMask", "inputs": {"image": ["1", 0], "channel": "violet"}},
        "4": {"class_type": "MaskToImage", "inputs": {"mask": ["3", 0]}},
    },
}


def strip(value):
    """Takes away what differs by nature, at any depth."""
    if isinstance(value, dict):
        return {k: strip(v) for k, v in value.items() if k not in OWN}
    return [strip(v) for v in value] if isinstance(value, list | tuple) else value


def runner_parts():
    """The headless runner's classes and its nodes; skips while there is no runner."""
    pytest.importorskip("editkit.headless.execute")
    modules = (
        importlib.import_module(f"editkit.headless.{name}") for name in ("execute", "errors", "registry")
    )
    execute, errors, registry = modules
    return execute.Runner(registry.node_classes()), errors


@pytest.mark.parametrize("fault", FAULTY)
def test_a_refused_workflow_is_refused_alike(server, fault):
    runner, errors = runner_parts()
    status, reply = server.queue(FAULTY[fault])
    assert status == 400
    with pytest.raises(errors.PromptRefused) as refused:
        runner.run(copy.deepcopy(FAULTY[fault]))
    assert strip(refused.value.response()) == strip(reply)


def failures() -> dict[str, dict]:
    """Workflows that start and then fail; ours only once the pack has the node."""
    alpha = {"class_type": "ImageToMask", "inputs": {"image": ["1", 0], "channel": "alpha"}}
    back = {"class_type": "MaskToImage", "inputs": {"mask": ["3", 0]}}
    cases = {"core": {**changed("2", images=["4", 0]), "3": alpha, "4": back}}
    if "EditKitRemoveObject" in editkit.NODE_CLASS_MAPPINGS:
        white = {"class_type": "EmptyImage", "inputs": {**GOOD["1"]["inputs"], "color": 0xFFFFFF}}
        mask = {"class_type": "ImageToMask", "inputs": {"image": ["3", 0], "channel": "red"}}
        inputs = editkit.NODE_CLASS_MAPPINGS["EditKitRemoveObject"].INPUT_TYPES()["required"]
        plain = {k: s[1]["default"] for k, s in inputs.items() if len(s) > 1 and "default" in s[1]}
        remove = {
            "class_type": "EditKitRemoveObject",
            "inputs": {**plain, "image": ["1", 0], "mask": ["4", 0]},
        }
        if "model" in inputs:
            remove["inputs"]["model"] = ["6", 0]
            cases["all_white"] = {"6": {"class_type": "EditKitLoadBlazeEdit", "inputs": {}}}
        cases.setdefault("all_white", {}).update(
            {**changed("2", images=["5", 0]), "3": white, "4": mask, "5": remove}
        )
    return cases


@pytest.mark.parametrize("case", failures())
def test_a_node_that_fails_is_reported_alike(server, case):
    runner, errors = runner_parts()
    entry = server.run(copy.deepcopy(failures()[case]))
    assert entry["status"]["status_str"] == "error"
    theirs = next(data for event, data in entry["status"]["messages"] if event == "execution_error")
    with pytest.raises(errors.NodeFailed) as failed:
        runner.run(copy.deepcopy(failures()[case]))
    ours = failed.value.details
    assert theirs.keys() - OWN == ours.keys() - OWN
    assert (ours["node_id"], ours["node_type"]) == (theirs["node_id"], theirs["node_type"])
    if not theirs["node_type"].startswith("EditKit"):
        return  # a stand-in may say in its own words what its model in ComfyUI leaves to an IndexError
    assert ours["exception_message"] == theirs["exception_message"]
    assert ours["exception_type"].split(".")[-1] == theirs["exception_type"].split(".")[-1]
