"""Prints what `python . bench mobile` measured: the paper's tables, one table per bundle, and the bars."""

import re

from . import idle
from .mobile import PAPER_MS
from .mobile_jobs import TORCH

TABLE_1 = (  # of the paper
    ("SnapFusion", "CLIP-ViT-H", "848M"),
    ("MobileDiffusion", "CLIP-ViT-L", "386M"),
    ("SnapGen", "CLIP-ViT-L, CLIP-ViT-G, Gemma-2-2B", "379M"),
    ("BlazeEdit, the paper's", "None", "189M"),
)
COLUMNS = {"encoder": "Encoder", "decoder": "Decoder", "denoiser": "Denoiser (2 steps)", "edit": "Overall"}
HEADS = ("shadow", "relight")
MEDIAN, MINIMUM = "median", "minimum"
Values = dict[tuple[str, str], float]


def lines(rows: list[dict]) -> list[str]:
    """The whole report; the last line is the summary."""
    found = {(r["part"], r["what"]): r["value"] for r in rows}
    out = _table_1(found) + _table_2(found) + _fractions(found)
    for bundle in _bundles(found):
        out += _files(found, bundle) + _edits(found, bundle)
    return [*out, *_exports(found), *_bars(rows), "", *_idle(found), summary(rows)]


def _table_1(found: Values) -> list[str]:
    parts = {what: n for (part, what), n in found.items() if part == "parameters"}
    own = {what.removesuffix(" denoiser"): n for what, n in parts.items() if what.endswith(" denoiser")}
    ours = [(name, "None", f"{n:.1f}M") for name, n in own.items()]
    rows = [f"{name:24} {text:36} {size:>15}" for name, text, size in (*TABLE_1, *ours)]
    measured = next(iter(own))
    cells = ", ".join(
        f"{what.removeprefix(measured).strip()} {n:.2f}M"
        for what, n in parts.items()
        if what.startswith(measured + " ")
    )
    head = f"{'Model':24} {'Text Encoder':36} {'Denoiser #Params':>15}"
    return ["Parameters (the paper's Table 1)", head, *rows, f"{measured}: {cells}", ""]


def _table_2(found: Values) -> list[str]:
    canvas, rounds = found["speed", "canvas"], found["speed", "rounds"]
    out = [
        f"Latency in ms (the paper's Table 2): minimum (median) of {rounds:g} interleaved rounds, canvas {canvas:g} px",
        _cells("Device", [*COLUMNS.values(), *HEADS]),
        _cells("Pixel 10 (Edge TPU) *", [f"{PAPER_MS[c]}" for c in COLUMNS]),
    ]
    for variant, on in _variants(found):
        out.append(_cells(f"this CPU, {_called(variant)}, {on}", [
            _pair(found, f"{variant} {c}, {on}") for c in (*COLUMNS, *HEADS)
        ]))  # fmt: skip
        if variant != TORCH:
            out.append(_cells("  times faster than torch", [
                _number(found.get(("speed", f"{variant} {c}, {on}, faster than torch")), "x")
                for c in (*COLUMNS, *HEADS)
            ]))  # fmt: skip
    return [*out, "* the paper's own numbers, on other hardware and of its own model: not comparable", ""]


def _fractions(found: Values) -> list[str]:
    peaks = [f"{k[1]} {n:.0f} GFLOP/s" for k, n in found.items() if k[0] == "peak" and " gemm" in k[1]]
    work = [_number(found.get(("peak", f"{c}, work")), "") for c in (*COLUMNS, *HEADS)]
    out = ["Fraction of the peak of matrix products in the same rounds (over 100 %: these were disturbed)",
           "; ".join(peaks), _cells("", [*COLUMNS.values(), *HEADS]), _cells("work, GFLOP", work)]  # fmt: skip
    for variant, on in _variants(found):
        shares = [found.get(("peak", f"{variant} {c}, {on}, of its peak")) for c in (*COLUMNS, *HEADS)]
        out.append(_cells(f"{_called(variant)}, {on}", [_number(s and 100 * s, "%") for s in shares]))
    return [*out, ""]


def _files(found: Values, bundle: str) -> list[str]:
    """One line per file: megabytes, dB, milliseconds per number of threads, memory."""
    counts = [on for variant, on in _variants(found) if variant == bundle]
    head = "".join(f"{f'ms, {on}':>15}" for on in counts)
    out = [f"{f'bundle {bundle}':28}{'MB':>8}{'dB':>9}{head}{'peak memory, MB':>18}"]
    measured = [what.split(" ") for part, what in found if part == "memory"]
    files = [name for kind, name in measured if kind == bundle]
    for name in files:
        db, made = _accuracy(found, bundle, name)
        steps = 2 if name == "denoiser" else 1
        times = [found.get(("speed", f"{bundle} {name}, {on}, {MINIMUM}")) for on in counts]
        cells = "".join(f"{_number(t and t / steps, ''):>15}" for t in times)
        label = name + (", one step" if steps > 1 else "") + made
        size, memory = found["size", f"{bundle} {name}"], found["memory", f"{bundle} {name}"]
        out.append(f"  {label:26}{size:8.2f}{_number(db, ''):>9}{cells}{memory:18.1f}")
    whole = "".join(
        f"{_number(found.get(('speed', f'{bundle} edit, {on}, {MINIMUM}')), ''):>15}" for on in counts
    )
    residual = _number(found.get(("accuracy", f"{bundle} residual of the denoiser")), "")
    out.append(f"  {'all files; an edit':26}{found['size', f'{bundle} all files']:8.2f}{'':9}{whole}")
    return [*out, f"  {'residual of the denoiser':26}{'':8}{residual:>9}"]


def _accuracy(found: Values, bundle: str, name: str) -> tuple[float | None, str]:
    """A file's dB, and what it is made of where that is not the bundle's quantisation."""
    start = f"{bundle} {name}"
    for (part, what), value in found.items():
        if part == "accuracy" and (what == start or what.startswith(f"{start} in ")):
            return value, what[len(start) :]
    return None, ""


def _edits(found: Values, bundle: str) -> list[str]:
    """dB of whole edits per task, in the hole and outside it."""
    out = [f"  {'edit, lowest dB':26}{'whole':>8}{'in the hole':>13}{'outside':>9}"]
    start = f"{bundle} edit "
    edits = [what[len(start) :] for part, what in found if part == "accuracy" and what.startswith(start)]
    for task in dict.fromkeys(what.partition(",")[0] for what in edits):
        whole, hole, outside = (
            _number(found.get(("accuracy", f"{start}{task}, {where}")), "")
            for where in ("whole", "in the hole", "outside the hole")
        )
        out.append(f"  {task:26}{whole:>8}{hole:>13}{outside:>9}")
    return [*out, ""]


def _exports(found: Values) -> list[str]:
    kinds = dict.fromkeys(what.partition(",")[0] for part, what in found if part == "export")
    both = [(k, found["export", f"{k}, seconds"], found["export", f"{k}, peak memory"]) for k in kinds]
    out = [f"export of {kind}: {seconds:.0f} s, {size:.2f} GB" for kind, seconds, size in both]
    return [*out, ""] if out else []


def _bars(rows: list[dict]) -> list[str]:
    out = []
    for r in (r for r in rows if r["kind"] != "info"):
        mark = {None: "not judged", True: "pass", False: "FAIL" if r["kind"] == "must" else "below"}[r["ok"]]
        bound = f"{r['kind']:4} {'<=' if r['at_most'] else '>='} {r['limit']:g} {r['unit']}: {mark}"
        out.append(f"{r['part']:9} {r['what']:44} {r['value']:>10.3f} {r['unit']:3} {bound}")
    return out


def _idle(found: Values) -> list[str]:
    """Whether the numbers may be quoted."""
    shares = {what.partition(", ")[2]: n for (part, what), n in found.items() if "used by others" in what}
    each = ", ".join(f"{phase} {n:.0f} %" for phase, n in shares.items())
    if ("machine", "idle") not in found:
        return [
            "Whether the machine was idle is not known here: quote these ratios only if you know that it was."
        ]
    if found["machine", "idle"]:
        return [f"The machine was idle: others used at most {max(shares.values()):.0f} % of a core ({each})."]
    worst = max(shares.values())
    return [f"BUSY: {worst:.0f} % of a core was used by others ({each}); these ratios are not to be quoted.",
            f"Speed is judged when others use at most {100 * idle.LIMIT:.0f} %."]  # fmt: skip


def summary(rows: list[dict]) -> str:
    """The last line of the report."""
    musts, aims = ([r for r in rows if r["kind"] == kind] for kind in ("must", "aim"))
    met, short = (sum(r["ok"] is verdict for r in musts) for verdict in (True, False))
    open_ = len(musts) - met - short
    why = f", {open_} not judged (speed, as the machine was not known to be idle)" if open_ else ""
    reached = sum(r["ok"] is True for r in aims)
    return f"{met} of {len(musts)} musts met, {short} short{why}; {reached} of {len(aims)} aims reached"


def _variants(found: Values) -> list[tuple[str, str]]:
    """(variant, "n threads") of every timed edit, in the order of the run."""
    pattern = re.compile(rf"(\S+) edit, (\d+ threads?), {MINIMUM}")
    matches = (pattern.fullmatch(what) for part, what in found if part == "speed")
    return [match.groups() for match in matches if match]


def _bundles(found: Values) -> list[str]:
    return list(dict.fromkeys(variant for variant, _ in _variants(found) if variant != TORCH))


def _called(variant: str) -> str:
    return "torch eager" if variant == TORCH else f"LiteRT {variant}"


def _pair(found: Values, what: str) -> str:
    low, middle = (found.get(("speed", f"{what}, {m}")) for m in (MINIMUM, MEDIAN))
    return "-" if low is None else f"{_number(low, '')} ({_number(middle, '')})"


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    return (f"{value:.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}") + unit


def _cells(name: str, cells: list[str]) -> str:
    return f"{name:38}" + "".join(f"{cell:>19}" for cell in cells)
