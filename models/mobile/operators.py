"""Which operators a file consists of, what XNNPACK takes of them, and what other delegates are known to take."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from .packages import first_line, litert

DELEGATES = Path(__file__).resolve().parent / "delegates.json"


@dataclass(frozen=True)
class Report:
    """Of one file: operators with counts, XNNPACK's partitions, what is left outside, why it is refused."""

    operators: dict[str, int]
    partitions: int
    outside: list[str]
    refused: list[str]  # Flex and custom operators, or the runtime's reason for not loading the file


def inspect(path: Path) -> Report:
    """Opens a file with the runtime and lists what is in it. A file that does not load is reported, not raised."""
    operators, foreign = _operators(path)
    module = litert()
    try:
        interpreter = module.Interpreter(model_path=str(path), num_threads=1)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        return Report(operators, 0, [], [*foreign, f"does not load: {first_line(error)}"])
    partitions, outside = _partitions(interpreter)
    return Report(operators, partitions, outside, foreign)


def _partitions(interpreter) -> tuple[int, list[str]]:
    """How many partitions XNNPACK took, and the operators that are left to the plain kernels.

    The runtime lists the original operators and, after them, the delegate's nodes: what runs is found backwards from
    the outputs, a tensor coming from a delegate where one makes it.
    """
    details = interpreter._get_ops_details()  # the only way to see the partitions from Python
    makers = {int(t): d for d in details for t in d["outputs"] if int(t) >= 0}  # delegates come last and win
    wanted = [int(d["index"]) for d in interpreter.get_output_details()]
    seen, run = set(wanted), {}
    while wanted:
        maker = makers.get(wanted.pop())
        if maker is None or maker["index"] in run:
            continue
        run[maker["index"]] = maker["op_name"]
        new = {int(t) for t in maker["inputs"] if int(t) >= 0} - seen
        seen |= new
        wanted += new
    names = list(run.values())
    return names.count("DELEGATE"), sorted(set(names) - {"DELEGATE"})


def _operators(path: Path) -> tuple[dict[str, int], list[str]]:
    """Operators by name with counts over all signatures, and those that need more than the built-in runtime."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    model = flatbuffer_utils.read_model(str(path))
    count, foreign = Counter(), set()
    for graph in model.subgraphs:
        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex]
            name = names.get(max(code.builtinCode, code.deprecatedBuiltinCode), "?")
            if code.customCode:
                name = f"{'FLEX' if code.customCode.startswith(b'Flex') else 'CUSTOM'} {code.customCode.decode()}"
                foreign.add(name)
            elif name.startswith("STABLEHLO"):
                foreign.add(name)
            count[name] += 1
    return dict(count.most_common()), sorted(foreign)


def delegates() -> dict:
    """The versioned table of what GPU delegates and NPUs take, with its sources."""
    return json.loads(DELEGATES.read_text(encoding="utf-8"))


def outside_gpu_list(found: dict[str, int]) -> list[str]:
    """Which operators of a file are not among those that the GPU delegate's documentation names."""
    listed = next(set(d["operators"]) for d in delegates()["delegates"] if "operators" in d)
    return sorted(set(found) - listed)
