"""Prints the quality table and draws its contact sheet."""

from pathlib import Path

import numpy as np

from .bars import OURS, Table, Verdict, mean

COLUMNS = {
    "remove": ("psnr_mask", "gradient_ratio", "patch_distance", "autocorrelation", "lattice", "ssim_mask",
               "psnr_shadow", "psnr_rest"),
    "outpaint": ("psnr_mask", "gradient_ratio", "patch_distance", "autocorrelation", "lattice", "ssim_mask"),
    "tone": ("psnr", "ssim", "good_psnr"),
    "relight": ("psnr", "ssim", "good_psnr"),
    "sticker": ("psnr_subject", "ssim_subject"),
    "autoencoder": ("psnr",),
}  # fmt: skip
HEADINGS = {
    "psnr_mask": "PSNR", "ssim_mask": "SSIM", "gradient_ratio": "gradient", "patch_distance": "patches",
    "autocorrelation": "autocorr", "lattice": "lattice", "psnr_shadow": "shadow", "psnr_rest": "rest",
    "psnr": "PSNR", "ssim": "SSIM", "good_psnr": "already good", "psnr_subject": "PSNR", "ssim_subject": "SSIM",
    "fill_psnr": "PSNR", "fill_gradient": "gradient", "fill_lattice": "lattice",
}  # fmt: skip
HEADS = ("input", "mask", "baseline", "ours", "truth")
TILE, LABEL, HEADER = 200, 110, 24  # px


def lines(table: Table, verdicts: list[Verdict]) -> list[str]:
    """The whole report: a table per task with its bars, and the summary line at the end."""
    out = []
    for task in table.tasks():
        out += ["", *task_lines(table, task)]
        out += [line for v in verdicts if v.bar.task == task for line in verdict_lines(v)]
    return [*out, "", summary(table, verdicts)]


def task_lines(table: Table, task: str) -> list[str]:
    """One line per method: means, and for all but ours the paired difference on the task's first measure."""
    columns = COLUMNS[task]
    plain = [m for m in table.methods(task) if table.values(task, m, columns[0])]
    out = [f"{task:20}" + "".join(f"{HEADINGS[c]:>13}" for c in columns) + f"{'ours - this':>19}{'wins':>8}"]
    for method in plain:
        cells = "".join(f"{_number(mean(c, method)(table, task)):>13}" for c in columns)
        out.append(f"  {method:18}" + cells + _difference(table, task, columns[0], method))
    return out + _steps(table, task) + _swaps(table, task)


def _difference(table, task, measure, method) -> str:
    if method in (OURS, "truth") or task == "autoencoder":
        return ""
    gaps = np.array([a - b for a, b in table.paired(task, measure, OURS, method)])
    if len(gaps) == 0:
        return ""
    error = gaps.std(ddof=1) / len(gaps) ** 0.5 if len(gaps) > 1 else 0.0
    return f"{gaps.mean():>+10.2f} +- {error:5.2f}{f'{(gaps > 0).sum()}/{len(gaps)}':>8}"


def _steps(table, task) -> list[str]:
    """The net's fill before the texture copy, by number of steps."""
    out = []
    for method in table.methods(task):
        values = [mean(m, method)(table, task) for m in ("fill_psnr", "fill_gradient", "fill_lattice")]
        if values[0] is not None:
            psnr, gradient, lattice = map(_number, values)
            out.append(f"  fill, {method:20} PSNR {psnr}  gradient {gradient}  lattice {lattice}")
    return out


def _swaps(table, task) -> list[str]:
    names = [m for m in table.methods(task) if m.startswith("tau:")]
    cells = [f"{m[4:]} {_number(mean('swap_psnr', m)(table, task))}" for m in names]
    return [f"  PSNR with the τ of: {'  '.join(cells)}"] if cells else []


def verdict_lines(verdict: Verdict) -> list[str]:
    """The bar with its value, and under it the value of each photograph."""
    bar, relation = verdict.bar, "<=" if verdict.bar.at_most else ">="
    mark = "pass" if verdict.ok else ("FAIL" if verdict.kind == "must" else "below")
    if verdict.value is None:
        mark = "FAIL (not measured)" if verdict.kind == "must" else "not measured"
    value = f"{_number(verdict.value)} {bar.unit}".strip()
    out = [f"  {verdict.kind:4} {bar.text}: {value}, {relation} {verdict.limit:g}: {mark}"]
    each = {k: v for k, v in verdict.by_photograph.items() if v is not None}
    if verdict.kind == "must" and len(each) > 1:
        out += _wrapped([f"{name} {_number(value)}" for name, value in each.items()])
    return out


def _wrapped(cells, width=130) -> list[str]:
    out = ["       "]
    for cell in cells:
        if len(out[-1]) + len(cell) > width:
            out.append("       ")
        out[-1] += "  " + cell
    return out


def summary(table: Table, verdicts: list[Verdict]) -> str:
    """The last line of the report."""
    musts, aims = ([v for v in verdicts if v.kind == kind] for kind in ("must", "aim"))
    pairs = len({(r["photograph"], r["pair"]) for r in table.rows})
    short = sum(not v.ok for v in musts)
    return (
        f"{len(table.photographs())} photographs, {pairs} pairs: {len(musts) - short} of {len(musts)} musts met, "
        f"{short} short; {sum(v.ok for v in aims)} of {len(aims)} aims reached"
    )


def _number(value) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if abs(value) >= 0.005 or value == 0 else f"{value:.1e}"


def sheet(tiles, path: Path) -> None:
    """Writes the contact sheet: one line per task and photograph, input | mask | baseline | ours | truth."""
    from PIL import Image, ImageDraw

    from .baselines import SHOWN

    width, height = LABEL + len(HEADS) * TILE, HEADER + len(tiles) * TILE
    canvas = Image.new("RGB", (width, height), (214, 214, 214))
    draw = ImageDraw.Draw(canvas)
    for column, head in enumerate(HEADS):
        draw.text((LABEL + column * TILE + 6, 6), head, fill="black")
    for row, tile in enumerate(tiles):
        top = HEADER + row * TILE
        draw.text(
            (6, top + 6),
            f"{tile.task}\n{tile.photograph[:16]}\n\nbaseline:\n{SHOWN[tile.task]}",
            fill="black",
        )
        for column, picture in enumerate(tile.pictures):
            small = Image.fromarray((np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8))
            small = small.resize((TILE - 2, TILE - 2), Image.Resampling.LANCZOS)
            canvas.paste(small, (LABEL + column * TILE, top))
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.save(path, quality=90)
