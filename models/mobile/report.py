"""What an export is told as: a table of files, their operators, what delegates take, and a table of edits."""

from . import operators


def lines(made: dict) -> list[str]:
    """The printed report of `exporting.export`'s result."""
    data, out = made["manifest"], []
    out.append(
        f"{'file':18} {'quantisation':13} {'MB':>7} {'dB':>7} {'1 thread':>9} {'2 threads':>10} {'memory':>8}  XNNPACK"
    )
    for row in made["table"]:
        out.append(_row(row))
    out.append(f"{'all files':32} {sum(row['bytes'] for row in made['table']) / 1e6:7.2f}")
    out += ["", *_operators(data["operators"]), *_delegates(data["operators"])]
    out += [
        "",
        f"{'edit':18} {'whole':>8} {'in mask':>8} {'outside':>8}   dB against torch, the lowest of the samples",
    ]
    for task, row in data["accuracy"]["edits"].items():
        out.append(f"{task:18} {_db(row['whole']):>8} {_db(row['hole']):>8} {_db(row['outside']):>8}")
    out.append(f"residual of the denoiser: {_db(data['accuracy']['residual']).strip()} dB")
    return out


def _operators(found: dict[str, dict[str, int]]) -> list[str]:
    """Every operator of every file with its count."""
    return [f"{name}: {', '.join(f'{op} {n}' for op, n in ops.items())}" for name, ops in found.items()]


def _delegates(found: dict[str, dict[str, int]]) -> list[str]:
    """What is known of delegates other than XNNPACK."""
    table = operators.delegates()
    outside = operators.outside_gpu_list({op: 1 for ops in found.values() for op in ops})
    unknown = [d for d in table["delegates"] if d["takes"].startswith("not known")]
    out = [f"{d['delegate']}: not known ({d['source']})" for d in unknown]
    return [f"GPU delegate, as documented ({table['version']}): not named are {', '.join(outside) or 'none'}", *out]


def _row(row: dict) -> str:
    outside = f", outside: {', '.join(row['outside'])}" if row["outside"] else ""
    partitions = f"{row['partitions']} partition{'s' * (row['partitions'] != 1)}{outside}"
    one, two = (f"{row['latency_ms'][n]:.1f} ms" for n in ("1", "2"))
    memory = "-" if row["memory_bytes"] is None else f"{row['memory_bytes'] / 1e6:.0f} MB"
    name, size = f"{row['name']}.tflite", row["bytes"] / 1e6
    return (
        f"{name:18} {row['quantisation']:13} {size:7.2f} {_db(row['db'])} {one:>9} {two:>10} {memory:>8}  {partitions}"
    )


def _db(value: float | None) -> str:
    return "  equal" if value is None or value == float("inf") else f"{value:7.1f}"
