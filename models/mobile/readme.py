"""README.md of a bundle, from its manifest: what a developer on Android, iOS or the web needs."""

from pathlib import Path

from . import operators

TEMPLATE = Path(__file__).resolve().parent / "bundle_readme.md"
DOES = {
    "encoder": "f_θ(concat[x, τ·m]), and the latent of the first guess",
    "denoiser": "one step: renoises and predicts the clean latent",
    "decoder": "latent to picture",
    "shadow": "gain map of the shadow that an object casts",
    "relight": "gain map of every shadow and cast of light",
}

RANDOM = "\n**Random weights**: good for measuring speed and size, and for nothing else.\n"


def text(data: dict) -> str:
    """The whole README."""
    out = TEMPLATE.read_text(encoding="utf-8")
    for name, value in _values(data).items():
        out = out.replace(f"@@{name}@@", str(value))
    return out


def _values(data: dict) -> dict[str, str]:
    model, guess = data["model"], data["model"]["first_guess"]
    accuracy = data["accuracy"]
    return {
        "MODEL": model["name"], "QUANT": data["quantisation"], "TASKS": ", ".join(data["tasks"]),
        "CREATED": data["created_by"], "LICENCE": data["licence"], "VERSION": data["format_version"],
        "UNTRAINED": "" if model["trained"] else RANDOM,
        "FILES": "\n".join(_file_row(f, accuracy["components"][f["name"]]) for f in data["files"]),
        "TENSORS": "\n".join(_tensor_row(f) for f in data["files"]),
        "SIZES": ", ".join(f"{s} x {s}" for s in data["canvas"]["sizes"]),
        "GUESS_IN": ", `guess`" if guess else "", "GUESS_OUT": ", `guess_latent`" if guess else "",
        "SCHEDULE": "\n".join(f"   | {n} | {_rows(rows)} |" for n, rows in data["schedule"]["steps"].items()),
        "TASK_ROWS": "\n".join(_task_row(name, task) for name, task in data["tasks"].items()),
        "KOTLIN_GUESS": ', "guess" to guess' if guess else "",
        "KOTLIN_OUT": '"features", "guess_latent"' if guess else '"features"',
        "SWIFT_GUESS": '\n    try runner.copy(guessLatent.data, toInputNamed: "guess_latent")' if guess else "",
        "ANDROID": data["tested"]["android"], "IOS": data["tested"]["ios"], "CPU": data["tested"]["cpu"],
        "XNNPACK": "; ".join(_partitions(name, d) for name, d in data["delegation"].items()),
        "DELEGATES": _delegates({k for f in data["operators"].values() for k in f}),
        "RESIDUAL": _db(accuracy["residual"]),
        "EDITS": "\n".join(
            f"| {task} | {_db(row['whole'])} | {_db(row['hole'])} | {_db(row['outside'])} |"
            for task, row in accuracy["edits"].items()
        ),
    }  # fmt: skip


def _file_row(file: dict, db: float | None) -> str:
    what = DOES[file["name"]]
    one, two = (f"{file['latency_ms'][n]:.1f} ms" for n in ("1", "2"))
    memory = "not measured" if file["memory_bytes"] is None else f"{file['memory_bytes'] / 1e6:.0f} MB"
    cells = (what, file["quantisation"], f"{file['bytes'] / 1e6:.2f}", f"{_db(db)} dB", one, two, memory)
    return f"| `{file['path']}` | {' | '.join(cells)} |"


def _tensor_row(file: dict) -> str:
    rows = []
    for one in file["signatures"]:
        sides = (", ".join(f"`{t['name']}` {t['shape']}" for t in one[side]) for side in ("inputs", "outputs"))
        rows.append(f"| `{file['path']}` | `{one['key']}` | {' | '.join(sides)} |")
    return "\n".join(rows)


def _rows(rows: list) -> str:
    return ", ".join(f"[{', '.join(f'{v:g}' for v in row)}]" for row in rows)


def _task_row(name: str, task: dict) -> str:
    cells = (
        task["tau"],
        task["mask"],
        task["steps"],
        task["working_size"],
        task["first_guess"],
        task["delivery"],
    )
    return f"| {name} | {' | '.join(str(c).replace('_', ' ') for c in cells)} |"


def _partitions(name: str, found: dict) -> str:
    outside = f", outside: {', '.join(found['outside'])}" if found["outside"] else ""
    return (
        f"{name} {found['xnnpack_partitions']} partition{'s' * (found['xnnpack_partitions'] != 1)}{outside}"
    )


def _delegates(found: set[str]) -> str:
    table = operators.delegates()
    taken = next(d["operators"] for d in table["delegates"] if "operators" in d)
    gpu = ", ".join(f"`{o}`" for o in operators.outside_gpu_list(found))
    rows = [f"| {d['delegate']} | {d['takes']} | {d['source']} |" for d in table["delegates"]]
    return "\n".join(
        [
            f"Known as of {table['version']}:",
            "",
            "| delegate | what is known | source |",
            "|---|---|---|",
            *rows,
            "",
            f"The GPU delegate's documented operators: {', '.join(taken)}. Of this bundle's, not among them: {gpu}.",
        ]
    )


def _db(value: float | None) -> str:
    return "equal" if value is None else f"{value:.1f}"
