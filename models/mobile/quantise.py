"""Quantised copies of .tflite files, inputs and outputs left float, and files without the names of inner tensors."""

import contextlib
import io
from collections.abc import Iterable
from pathlib import Path

from ..errors import EditError
from ..files import replacing
from .packages import quantizer, quiet

NAMES = ("fp32", "fp16", "int8", "int8-weights", "int8-static")
MEANING = {
    "fp32": "as trained",
    "fp16": "weights in half precision: half the download, no faster",
    "int8": "8-bit weights, activations quantised as they come (dynamic): smallest and fastest on a CPU",
    "int8-weights": "8-bit weights, float arithmetic: as small, more accurate, no faster",
    "int8-static": "8-bit weights and activations, calibrated on photographs: for accelerators that take nothing else",
}
# what a component is made of when it loses too much, in this order
GENTLER = {"int8-static": "int8", "int8": "int8-weights", "int8-weights": "fp16", "fp16": "fp32"}


def check(name: str) -> str:
    """The name of a quantisation. EditError for an unknown one."""
    if name not in NAMES:
        raise EditError(f"The quantisation {name!r} is unknown; choose one of {', '.join(NAMES)}.")
    return name


def quantise(
    source: Path, target: Path, name: str, calibration: dict[str, Iterable[dict]] | None = None
) -> None:
    """Writes a quantised copy of a .tflite file.

    calibration: signature -> inputs by name, what int8-static is calibrated on. EditError where that is missing.
    """
    if check(name) == "fp32":
        target.write_bytes(source.read_bytes())
        return
    package = quantizer()
    tool = package.quantizer.Quantizer(str(source))
    _recipe(tool, package, name)
    with quiet(), contextlib.redirect_stderr(io.StringIO()):
        ranges = None
        if name == "int8-static":
            if not calibration:
                raise EditError("int8-static has to be calibrated; give photographs with --calibration.")
            ranges = tool.calibrate({k: list(v) for k, v in calibration.items()})
        tool.quantize(ranges).export_model(str(target), overwrite=True)


def _recipe(tool, package, name: str) -> None:
    """Fills in which operators get which numbers."""
    everything, kinds = ".*", package.qtyping.TFLOperationName
    algorithms = package.algorithm_manager.AlgorithmName
    if name == "int8":
        tool.add_dynamic_config(everything, kinds.ALL_SUPPORTED, 8)
        # XNNPACK has no such depthwise convolution: each would end a partition to save a few kilobytes
        tool.update_quantization_recipe(
            everything, kinds.DEPTHWISE_CONV_2D, algorithm_key=algorithms.NO_QUANTIZE
        )
    elif name == "int8-weights":
        tool.add_weight_only_config(everything, kinds.ALL_SUPPORTED, 8)
    elif name == "fp16":
        casting = algorithms.FLOAT_CASTING
        tool.add_weight_only_config(everything, kinds.ALL_SUPPORTED, 16, algorithm_key=casting)
    else:
        tool.add_static_config(everything, kinds.ALL_SUPPORTED, 8, 8)
        for kind in (kinds.INPUT, kinds.OUTPUT):
            tool.update_quantization_recipe(everything, kind, algorithm_key=algorithms.NO_QUANTIZE)


def without_names(path: Path) -> None:
    """Takes the names of inner tensors out of a file: a tenth of a megabyte that nothing reads. In place."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(str(path))
    for graph in model.subgraphs:
        kept = {int(i) for i in (*graph.inputs, *graph.outputs)}
        for index, tensor in enumerate(graph.tensors):
            if index not in kept:
                tensor.name = b""
    with replacing(path) as part:
        flatbuffer_utils.write_model(model, str(part))
