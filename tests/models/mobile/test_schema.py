"""The small validator says of every manifest what a complete one says."""

import copy
import json

import pytest

from editkit.models.mobile import manifest, schema

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed (requirements-test.txt)")


@pytest.fixture(scope="session")
def good(fp32_bundle):
    return json.loads((fp32_bundle / "manifest.json").read_text(encoding="utf-8"))


def put(*path, value):
    """Sets what lies at a path."""

    def change(data):
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = value

    return change


def drop(*path):
    def change(data):
        for key in path[:-1]:
            data = data[key]
        del data[path[-1]]

    return change


TENSOR = ("files", 0, "signatures", 0, "inputs", 0)
DAMAGED = {
    "no tasks": drop("tasks"),
    "a file without a hash": drop("files", 0, "sha256"),
    "a model without parameters": drop("model", "parameters"),
    "an edit without its picture": drop("golden", "tone", "image"),
    "a gain without its mask": drop("golden", "remove", "gain", "mask"),
    "a tensor without a shape": drop(*TENSOR, "shape"),
    "an unknown key": put("colour", value="red"),
    "an unknown key of a file": put("files", 1, "note", value=""),
    "an unknown key of a task": put("tasks", "tone", "speed", value=1),
    "another format": put("format", value="zip"),
    "a version in words": put("format_version", value="1"),
    "a version that is true": put("format_version", value=True),
    "the next version": put("format_version", value=2),
    "a short hash": put("files", 0, "sha256", value="ab12"),
    "a hash in capitals": put("files", 0, "sha256", value="A" * 64),
    "a hash that is no text": put("model", "weights_sha256", value=0),
    "a path that climbs": put("files", 0, "path", value="../encoder.tflite"),
    "a path from the root": put("files", 0, "path", value="/etc/passwd"),
    "a path with a backslash": put("files", 0, "path", value="a\\b.tflite"),
    "an empty path": put("golden_files", 0, "path", value=""),
    "a golden path that climbs inside": put("golden_files", 0, "path", value="golden/../../x.png"),
    "a guess that climbs": put("golden", "tone", "guess", value="../../x.png"),
    "a guess's latent from the root": put("golden", "tone", "guess_latent", value="/x.f32"),
    "a size below zero": put("canvas", "sizes", value=[-64]),
    "no sizes": put("canvas", "sizes", value=[]),
    "sizes that are no list": put("canvas", "sizes", value=64),
    "a size in halves": put("canvas", "sizes", value=[64.5]),
    "a size that is true": put("canvas", "sizes", value=[True]),
    "bytes below zero": put("golden_files", 0, "bytes", value=-1),
    "an empty file": put("files", 0, "bytes", value=0),
    "a shape of zero": put(*TENSOR, "shape", value=[1, 0, 64, 3]),
    "another number type": put(*TENSOR, "dtype", value="int8"),
    "another layout": put(*TENSOR, "layout", value="NCHW"),
    "a range of one": put(*TENSOR, "range", value=[0]),
    "a range of three": put(*TENSOR, "range", value=[0, 1, 2]),
    "a range of words": put(*TENSOR, "range", value=["0", "1"]),
    "another padding": put("canvas", "padding", value="zeros"),
    "an unknown quantisation": put("quantisation", value="int4"),
    "a schedule row of two": put("schedule", "steps", "1", value=[[1.0, 0.0]]),
    "a schedule without rows": put("schedule", "steps", "1", value=[]),
    "a tau of zero": put("tasks", "tone", "tau", value=0),
    "a tau above one": put("tasks", "tone", "tau", value=1.01),
    "a mask of another word": put("tasks", "tone", "mask", value="maybe"),
    "two files only": lambda data: data.update(files=data["files"][:2]),
    "files by name": put("files", value={}),
    "readiness in words": put("mobile_ready", value="yes"),
    "readiness as one": put("mobile_ready", value=1),
    "a constant in words": put("constants", "blank", value="half"),
    "an accuracy in words": put("accuracy", "residual", value="good"),
    "operators in halves": put("operators", "encoder", "ADD", value=1.5),
    "no manifest but a list": None,
}
FINE = {
    "as it is": lambda data: None,
    "an equal result": put("accuracy", "residual", value=None),
    "memory that was measured": put("files", 0, "memory_bytes", value=12_000_000),
    "a further task": lambda data: data["tasks"].update(sepia=data["tasks"]["tone"]),
    "a further constant": put("constants", "more", value=3),
    "a whole number where any is fine": put("tasks", "tone", "tau", value=1),
}


def both(data) -> tuple[bool, bool]:
    """Whether the small validator takes it, and whether jsonschema does."""
    rules = manifest.schema()
    return schema.problem(data, rules) is None, jsonschema.Draft202012Validator(rules).is_valid(data)


def test_the_published_schema_is_json_schema_2020_12():
    rules = manifest.schema()
    assert rules["$schema"].endswith("2020-12/schema")
    jsonschema.Draft202012Validator.check_schema(rules)


def test_every_word_of_the_schema_is_one_that_the_small_validator_knows():
    known = {"$schema", "$id", "$defs", "$ref", "title", "description", "type", "enum", "const", "properties",
             "required", "additionalProperties", "items", "minItems", "maxItems", "pattern", "minimum", "maximum",
             "exclusiveMinimum"}  # fmt: skip

    def words(rule):
        yield from rule
        for key in ("properties", "$defs"):
            for inner in rule.get(key, {}).values():
                yield from words(inner)
        for key in ("items", "additionalProperties"):
            if isinstance(rule.get(key), dict):
                yield from words(rule[key])

    assert set(words(manifest.schema())) <= known


@pytest.mark.parametrize("name", FINE)
def test_a_good_manifest_is_accepted_by_both(good, name):
    data = copy.deepcopy(good)
    FINE[name](data)
    assert both(data) == (True, True)


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_manifest_is_refused_by_both(good, name):
    data = copy.deepcopy(good) if DAMAGED[name] else [good]
    if DAMAGED[name]:
        DAMAGED[name](data)
    assert both(data) == (False, False)


def test_a_whole_number_written_with_a_fraction_is_refused_by_ours_alone(good):
    data = copy.deepcopy(good)
    data["canvas"]["sizes"] = [64.0, 96]
    assert both(data) == (False, True)


def test_the_problem_names_the_place(good):
    data = copy.deepcopy(good)
    data["files"][2]["signatures"][1]["inputs"][0]["shape"][3] = "six"
    said = schema.problem(data, manifest.schema())
    assert said == "manifest.files[2].signatures[1].inputs[0].shape[3] is not of type integer"
