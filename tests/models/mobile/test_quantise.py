import pytest
import torch

from editkit.models.errors import EditError
from editkit.models.mobile import accuracy, quantise, samples
from editkit.models.mobile.runtime import Network
from editkit.tests.bundles import SIZES

KINDS = ["fp32", "fp16", "int8", "int8-weights", "int8-static"]
NETWORKS = ["encoder", "denoiser", "decoder", "shadow", "relight"]


@pytest.fixture(scope="session")
def made(tiny, converted, tmp_path_factory):
    """made(name, kind): the path of a quantised file, made once; and the inputs that static ones were calibrated on."""
    folder, paths = tmp_path_factory.mktemp("quantised"), {}
    cases = [case for size in SIZES for case in samples.cases(tiny, size, per_task=1)]

    def calibration(name):
        out = {}
        for case in cases:
            for file, values in samples.inputs_of(case):
                if file == name:
                    key = "serving_default" if file in ("shadow", "relight") or case.size == 64 else "size_96"
                    out.setdefault(key, []).append(values)
        return out

    def make(name, kind):
        path = folder / f"{name}-{kind}.tflite"
        if path not in paths:
            calibrated = calibration(name) if kind == "int8-static" else None
            quantise.quantise(converted / f"{name}.tflite", path, kind, calibrated)
            paths[path] = calibration(name)["serving_default"][0]
        return path, paths[path]

    return make


def run(path, inputs):
    return Network(path, 1)("serving_default", **{k: torch.from_numpy(v) for k, v in inputs.items()})


def test_an_unknown_quantisation_is_named_with_those_that_exist(tmp_path):
    with pytest.raises(EditError, match="'int4' is unknown; choose one of fp32, fp16, int8, int8-weights, int8-st"):
        quantise.quantise(tmp_path / "a", tmp_path / "b", "int4")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("calibration", [None, {}])
def test_static_without_photographs_is_refused(converted, tmp_path, calibration):
    with pytest.raises(EditError, match="has to be calibrated.*--calibration"):
        quantise.quantise(converted / "decoder.tflite", tmp_path / "x.tflite", "int8-static", calibration)
    assert list(tmp_path.iterdir()) == []


def test_fp32_is_the_converted_file(converted, made):
    assert made("decoder", "fp32")[0].read_bytes() == (converted / "decoder.tflite").read_bytes()


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "fp32"])
def test_every_other_file_is_smaller(converted, made, kind):
    for name in NETWORKS:
        assert made(name, kind)[0].stat().st_size < (converted / f"{name}.tflite").stat().st_size


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NETWORKS)
def test_inputs_and_outputs_stay_float32(made, kind, name):
    from editkit.models.mobile.runtime import open_interpreter

    interpreter = open_interpreter(made(name, kind)[0], 1)
    for key in interpreter.get_signature_list():
        runner = interpreter.get_signature_runner(key)
        details = [*runner.get_input_details().values(), *runner.get_output_details().values()]
        assert {d["dtype"].__name__ for d in details} == {"float32"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_quantised_network_still_computes_the_same(made, kind):
    for name in NETWORKS:
        path, inputs = made(name, kind)
        wanted = run(made(name, "fp32")[0], inputs)
        for key, value in run(path, inputs).items():
            assert value.isfinite().all() and accuracy.psnr(wanted[key], value) > (28 if kind == "int8-static" else 40)


@pytest.mark.parametrize("kind", ["fp32", "int8"])
@pytest.mark.parametrize("name", ["encoder", "denoiser"])
def test_a_file_without_inner_names_is_smaller_and_computes_the_very_same(made, tmp_path, name, kind):
    path, inputs = made(name, kind)
    bare = tmp_path / "bare.tflite"
    bare.write_bytes(path.read_bytes())
    quantise.without_names(bare)
    assert bare.stat().st_size < path.stat().st_size and list(tmp_path.iterdir()) == [bare]
    wanted, found = run(path, inputs), run(bare, inputs)
    assert wanted.keys() == found.keys() and all(torch.equal(wanted[k], found[k]) for k in wanted)


def test_there_is_a_gentler_kind_for_every_one_but_fp32():
    kind, passed = "int8-static", []
    while kind in quantise.GENTLER:
        kind = quantise.GENTLER[kind]
        passed.append(kind)
    assert passed == ["int8", "int8-weights", "fp16", "fp32"]
    assert set(quantise.MEANING) == set(quantise.NAMES) == set(accuracy.COMPONENT) == set(accuracy.EDIT)
