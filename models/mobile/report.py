"""What an export is told as: a table of files and one of edits."""


def lines(made: dict) -> list[str]:
    """The printed report of `exporting.export`'s result."""
    data, out = made["manifest"], []
    out.append(
        f"{'file':18} {'quantisation':13} {'MB':>7} {'dB':>7} {'1 thread':>9} {'2 threads':>10} {'memory':>8}  XNNPACK"
    )
    for row in made["table"]:
        out.append(_row(row))
    out.append(f"{'all files':32} {sum(row['bytes'] for row in made['table']) / 1e6:7.2f}")
    out += [
        "",
        f"{'edit':18} {'whole':>8} {'in mask':>8} {'outside':>8}   dB against torch, lowest of three",
    ]
    for task, row in data["accuracy"]["edits"].items():
        out.append(f"{task:18} {_db(row['whole']):>8} {_db(row['hole']):>8} {_db(row['outside']):>8}")
    out.append(f"residual of the denoiser: {_db(data['accuracy']['residual']).strip()} dB")
    return out


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
