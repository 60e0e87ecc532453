"""`python . bench quality`: scores every task on seeded triplets against every baseline.

Yields rows {"task", "method", "photograph", "pair", "measure", "value"}; verdicts are computed from them in bars.py.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from ..models import measures
from . import methods
from .baselines import BASELINES, SHOWN
from .methods import Kit, Result
from .triplets import Triplet

TASKS = ("remove", "outpaint", "tone", "relight", "sticker")
FILLS = ("remove", "outpaint")
MAPS = ("tone", "relight")
SHEET_PHOTOGRAPHS = 5


@dataclass
class Tile:
    """One line of the contact sheet."""

    task: str
    photograph: str
    pictures: list = field(default_factory=list)  # input, mask, baseline, ours, truth: float32 [s, s, 3]


def score(kit: Kit, triplet: Triplet) -> tuple[list[dict], Tile]:
    """Every row of one triplet, and its pictures for the sheet."""
    rows, shown = [], {}

    def keep(method, values):
        rows.extend(_row(triplet, method, measure, value) for measure, value in values.items())

    for name, method in offered(kit, triplet.task).items():
        shown[name] = result = method(triplet)
        keep(name, measured(triplet, result) | already_good(triplet, method))
    if triplet.task == "sticker":
        keep("ours", {"border_change": methods.border_change(kit, triplet, shown["ours"])})
    if triplet.task in FILLS:
        keep("truth", measures.fill_measures(triplet.y, triplet.y, triplet.hole))
    for name, values in ablations(kit, triplet):
        keep(name, values)
    return rows, _tile(triplet, shown)


def offered(kit: Kit, task: str) -> dict[str, Callable[[Triplet], Result]]:
    """Every method of a task by name: the classical ones, ours, its first guess alone, and for tone the network."""
    found = {name: partial(_classical, baseline) for name, baseline in BASELINES[task].items()}
    found |= {"ours": partial(methods.ours, kit), "first guess": partial(methods.first_guess, kit)}
    if task == "tone":
        found["network"] = partial(methods.tone_network, kit)
    return found


def _classical(baseline, triplet) -> Result:
    return Result(baseline(triplet))


def measured(triplet: Triplet, result: Result) -> dict[str, float]:
    """The measures of a delivered picture that its task asks for."""
    image, y = result.image, triplet.y
    if triplet.task in MAPS:
        return measures.whole_measures(image, y)
    if triplet.task == "sticker":
        return {"psnr_subject": measures.psnr(image, y, triplet.hole),
                "ssim_subject": measures.ssim(image, y, triplet.hole)}  # fmt: skip
    values = measures.fill_measures(image, y, triplet.hole)
    if triplet.task == "remove":
        rest = ~triplet.hole & ~triplet.shadow
        values["psnr_shadow"] = measures.psnr(image, y, triplet.shadow)
        values["psnr_rest"] = measures.psnr(image, y, rest)
        values["psnr_rest_input"] = measures.psnr(image, triplet.x, rest)
    if result.changed is not None:
        values["outside_changed"] = _largest_change(triplet, result)
    return values


def _largest_change(triplet, result) -> float:
    """Where nothing may differ from the input: outside `changed`, and in outpainting every kept pixel."""
    same = ~triplet.hole if triplet.task == "outpaint" else result.changed == 0
    return float(np.abs(result.image - triplet.x)[same].max(initial=0))


def already_good(triplet: Triplet, method: Callable[[Triplet], Result]) -> dict[str, float]:
    """What the method does to a picture that needs nothing (tone and relighting only)."""
    if triplet.task not in MAPS:
        return {}
    return {"good_psnr": measures.psnr(method(replace(triplet, x=triplet.y)).image, triplet.y)}


def ablations(kit: Kit, triplet: Triplet) -> Iterator[tuple[str, dict]]:
    """Rows that judge the network itself: other tasks' τ, and two steps against one."""
    from ..models.blazeedit.tasks import TASKS as KNOWN

    for other in KNOWN.values():
        result = methods.swapped(kit, triplet, other.tau)
        if result is not None:
            yield f"tau:{other.name}", {"swap_psnr": _main_psnr(triplet, result.image)}
    if triplet.task in FILLS:
        yield "1 step", _fill(triplet, methods.fill(kit, triplet, 1))
        yield "2 steps", _fill(triplet, methods.fill(kit, triplet, 2))
        if kit.undistilled is not None:
            yield "2 steps undistilled", _fill(triplet, methods.fill(kit, triplet, 2, kit.undistilled))


def _main_psnr(triplet, image) -> float:
    return measures.psnr(image, triplet.y, None if triplet.task in MAPS else triplet.hole)


def _fill(triplet, image) -> dict[str, float]:
    return {"fill_psnr": measures.psnr(image, triplet.y, triplet.hole),
            "fill_gradient": measures.gradient_ratio(image, triplet.y, triplet.hole),
            "fill_lattice": measures.lattice(image, triplet.hole)}  # fmt: skip


def reconstruction_rows(kit: Kit, triplet: Triplet) -> list[dict]:
    """Held-out reconstruction by the autoencoder, on the crop itself."""
    found = methods.reconstructions(kit, triplet.y)
    judged = replace(triplet, task="autoencoder")
    return [_row(judged, name, "psnr", measures.psnr(image, triplet.y)) for name, image in found.items()]


def _row(triplet, method, measure, value) -> dict:
    value = float(value)
    return {"task": triplet.task, "method": method, "photograph": triplet.photograph, "pair": triplet.pair,
            "measure": measure, "value": value if np.isfinite(value) else None}  # fmt: skip


def _tile(triplet, shown) -> Tile:
    mask = np.repeat(triplet.hole[..., None].astype(np.float32), 3, 2)
    ours = shown["ours"]
    height, width = triplet.hole.shape
    picture = over_checkers(ours.rgba)[:, :, :3] if ours.rgba is not None else ours.image
    if ours.rgba is not None:
        top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
        picture = picture[top : top + height, left : left + width]
    baseline, truth = shown[SHOWN[triplet.task]].image, triplet.y
    if triplet.task == "sticker":
        baseline, truth = (over_checkers(np.concatenate([v, mask[..., :1]], 2)) for v in (baseline, truth))
    return Tile(triplet.task, triplet.photograph, [triplet.x, mask, baseline, picture, truth])


def over_checkers(rgba: np.ndarray) -> np.ndarray:
    """A transparent picture on a grey checkerboard, float32 [h, w, 3]."""
    y, x = np.indices(rgba.shape[:2]) // 12
    board = np.where((y + x) % 2, 0.78, 0.62)[..., None].astype(np.float32)
    return rgba[..., :3] * rgba[..., 3:] + board * (1 - rgba[..., 3:])


def run(kit: Kit, triplets, tasks, total: int | None = None) -> tuple[list[dict], list[Tile]]:
    """Scores every triplet with a progress bar.

    Returns the rows, and the sheet's tiles: the first crop of the first five photographs, by task.
    """
    from tqdm import tqdm

    rows, tiles, seen = [], [], set()
    bar = tqdm(triplets, total=total, unit="edit", desc="quality", dynamic_ncols=True)
    for triplet in bar:
        bar.set_postfix_str(f"{triplet.photograph} {triplet.task}", refresh=False)
        new, tile = score(kit, triplet)
        rows += new
        shown = dict.fromkeys([*(t.photograph for t in tiles), triplet.photograph])
        if triplet.pair == 0 and len(shown) <= SHEET_PHOTOGRAPHS:
            tiles.append(tile)
        crop = triplet.photograph, triplet.pair
        if crop not in seen:
            seen.add(crop)
            rows += reconstruction_rows(kit, triplet)
    tiles.sort(key=lambda tile: tasks.index(tile.task))
    return rows, tiles
