"""What the converted files consist of: nothing that a phone's delegates cannot take."""

import shutil

import pytest

from editkit.models.errors import EditError
from editkit.models.mobile import convert, manifest, operators, report
from editkit.tests.bundles import SIZES

NETWORKS = ["encoder", "denoiser", "decoder", "shadow", "relight"]


def graphs_of(path):
    from ai_edge_litert.tools import flatbuffer_utils

    return flatbuffer_utils.read_model(str(path))


def stored_bytes(path) -> int:
    """Bytes of all constants in a file."""
    return sum(len(b.data) for b in graphs_of(path).buffers if b.data is not None)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("kind", ["fp32_bundle", "int8_bundle"])
def test_no_tensor_has_more_than_four_axes(request, kind, name):
    for graph in graphs_of(request.getfixturevalue(kind) / f"{name}.tflite").subgraphs:
        assert max(len(t.shape) for t in graph.tensors if t.shape is not None) <= 4
        assert all(side > 0 for t in graph.tensors if t.shape is not None for side in t.shape)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_operator_is_built_in_and_none_broadcasts_or_gathers(fp32_bundle, name):
    report = operators.inspect(fp32_bundle / f"{name}.tflite")
    assert report.refused == [] and sum(report.operators.values()) > 10
    refused = ("BROADCAST_TO", "GATHER", "GATHER_ND", "FLEX", "CUSTOM", "STABLEHLO", "?")
    assert [o for o in report.operators if o.startswith(refused)] == []


@pytest.mark.parametrize("name", NETWORKS)
def test_xnnpack_takes_a_whole_fp32_file_as_one_partition(fp32_bundle, name):
    report = operators.inspect(fp32_bundle / f"{name}.tflite")
    assert (report.partitions, report.outside) == (1, [])


def test_two_canvas_sizes_share_their_weights(converted, tiny, tmp_path):
    module = convert.modules(tiny)["decoder"]
    convert.convert("decoder", module, tiny, SIZES[:1], tmp_path / "one.tflite")
    one, two = tmp_path / "one.tflite", converted / "decoder.tflite"
    assert len(graphs_of(one).subgraphs) < len(graphs_of(two).subgraphs)
    assert stored_bytes(two) < 1.1 * stored_bytes(one)
    weights = 4 * sum(p.numel() for p in module.parameters())
    assert stored_bytes(one) >= weights, "the weights are in the file"


@pytest.mark.parametrize("name", ["encoder", "denoiser"])
def test_the_weights_of_a_file_with_two_sizes_are_stored_once(converted, tiny, name):
    weights = 4 * sum(p.numel() for p in convert.modules(tiny)[name].parameters())
    assert stored_bytes(converted / f"{name}.tflite") < 1.3 * weights


@pytest.mark.parametrize("sizes", [[48], [32], [0], [-64], [2080], [64, 100]])
def test_a_canvas_that_no_network_takes_is_refused_with_its_number(sizes):
    with pytest.raises(EditError, match=f"canvas of {sizes[-1]} px cannot be exported; use multiples of 32"):
        convert.check_sizes(sizes)


def test_sizes_said_twice_are_made_once():
    assert convert.check_sizes([256, 64, 256]) == [256, 64]


def test_a_network_that_the_converter_refuses_is_named(converted, tiny, tmp_path):
    class Shapeless(type(convert.modules(tiny)["decoder"])):
        def forward(self, latent):
            return {"image": latent[latent > 0]}  # as many as there are: no static shape

    with pytest.raises(EditError, match="decoder could not be converted"):
        convert.convert("decoder", Shapeless(tiny), tiny, [64], tmp_path / "x.tflite")


def test_a_file_that_does_not_load_is_reported(fp32_bundle, tmp_path, monkeypatch):
    path = shutil.copy(fp32_bundle / "decoder.tflite", tmp_path / "decoder.tflite")
    monkeypatch.setattr(operators, "_operators", lambda _path: ({"ADD": 1}, []))
    path.write_bytes(path.read_bytes()[:1000])
    assert any("does not load" in reason for reason in operators.inspect(path).refused)


def test_what_the_gpu_list_lacks_is_named():
    assert operators.outside_gpu_list({"ADD": 3, "BATCH_MATMUL": 1, "CONV_2D": 2}) == ["BATCH_MATMUL"]
    assert all(d["delegate"] and d["takes"] and d["source"] for d in operators.delegates()["delegates"])


def test_the_report_lists_every_operator_and_what_delegates_are_not_known_to_take(fp32_bundle):
    data = manifest.read(fp32_bundle).data
    text = "\n".join(report._operators(data["operators"]) + report._delegates(data["operators"]))
    for name, found in data["operators"].items():
        assert f"{name}: " in text and all(f"{op} {n}" in text for op, n in found.items())
    assert "SOFTMAX" not in text.split("not named are")[1] and "RSQRT" in text.split("not named are")[1]
    assert "Edge TPU / Google Tensor: not known" in text
