"""All networks of a bundle in one .tflite file, a signature each: for apps that would rather ship a single asset."""

from pathlib import Path

from ..errors import EditError
from ..files import replacing
from .manifest import Manifest
from .packages import quiet

NAME = "blazeedit.tflite"


def join(bundle: Path, draft: Manifest) -> None:
    """Joins the files of a bundle into one and takes them away; the draft's paths and signature keys follow.

    A signature is called after its network (`encoder`), of further canvas sizes with the size (`encoder_512`).
    Weights stay as they are, so each network keeps its own quantisation.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    whole = None
    for entry in draft.data["files"]:
        model = flatbuffer_utils.read_model(str(bundle / entry["path"]))
        _rename(model, entry)
        whole = model if whole is None else _appended(whole, model)
    with replacing(bundle / NAME) as part:
        with quiet():
            flatbuffer_utils.write_model(whole, str(part))
        for entry in draft.data["files"]:
            (bundle / entry["path"]).unlink()
            entry["path"] = NAME


def _rename(model, entry: dict) -> None:
    """Gives a file's signatures, and the manifest's, names that are unlike those of the other files."""
    if len(model.subgraphs) != len(entry["signatures"]):
        raise EditError(f"{entry['path']} holds inner graphs, which one file for all cannot; leave --single-file out.")
    name, (first, *others) = entry["name"], entry["signatures"]
    names = {first["key"]: name} | {other["key"]: f"{name}_{other['size']}" for other in others}
    for definition in model.signatureDefs:
        definition.signatureKey = names[definition.signatureKey.decode()].encode()
    for signature in entry["signatures"]:
        signature["key"] = names[signature["key"]]


def _appended(whole, model):
    """`whole` with the graphs, operator codes, buffers and signatures of `model` behind its own."""
    graphs, codes, buffers = len(whole.subgraphs), len(whole.operatorCodes), len(whole.buffers)
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            tensor.buffer += buffers
        for operator in graph.operators:
            operator.opcodeIndex += codes
    for definition in model.signatureDefs:
        definition.subgraphIndex += graphs
    whole.subgraphs += model.subgraphs
    whole.operatorCodes += model.operatorCodes
    whole.buffers += model.buffers
    whole.signatureDefs += model.signatureDefs
    return whole
