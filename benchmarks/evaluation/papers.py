"""Which metrics each benchmark has, and the tables of the papers that its report takes the shape of.

The printed numbers are in printed.json, as the papers have them; a cell of ours is a metric over some of the samples.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from .metrics.catalogue import METRICS, VIE

PRINTED = Path(__file__).with_name("printed.json")
Rows = list[dict]


@dataclass(frozen=True)
class Cell:
    """One number of ours: the mean of a metric over the rows of a category ("" for all; "each" for the mean of the
    categories' means, as GEdit-Bench averages)."""

    metric: str
    category: str = ""


@dataclass(frozen=True)
class Table:
    """A paper's table. columns: their titles; ours: (the row's name, its cells); printed: the name in printed.json.

    wanted: which rows count; note: a sentence about what differs between the paper's numbers and ours.
    """

    title: str
    columns: tuple[str, ...]
    ours: tuple[tuple[str, tuple[Cell, ...]], ...]
    printed: str = ""
    note: str = ""
    wanted: Callable[[dict], bool] = lambda row: True


@dataclass(frozen=True)
class Benchmark:
    """words: whether its edits are told in words alone, so that they must reach the workflow."""

    name: str
    title: str
    metrics: tuple[str, ...]
    tables: tuple[Table, ...]
    words: bool = True
    headline: str = ""  # the metric by which samples are shown and compared first


@lru_cache(maxsize=1)
def printed() -> dict:
    """{name: {"source": …, "rows": [[method, number or None, …], …]}}."""
    return json.loads(PRINTED.read_text(encoding="utf-8"))


def _columns(*metrics: str) -> tuple[str, ...]:
    return tuple(f"{METRICS[name].title} {METRICS[name].arrow}" for name in metrics)


def _one_row(*metrics: str) -> tuple[tuple[str, tuple[Cell, ...]], ...]:
    return (("this workflow", tuple(Cell(name) for name in metrics)),)


_PIE = ("psnr_outside", "mse_outside", "clip_whole", "clip_edited")
_PIE_MORE = ("structure_distance", "lpips_outside", "ssim_outside")
_TARGET = ("clip_i_target", "clip_out", "l1_target", "dino_target")
_SOURCE = ("clip_i_source", "clip_out", "dino_source", "vie_weighted")
_MAGIC = ("l1_target", "clip_i_target", "dino_target")
SECONDS = "seconds"

GEDIT = {
    "background_change": "BG Change", "color_alter": "Color Alt.", "material_alter": "Mat. Mod.",
    "motion_change": "Motion", "ps_human": "Port.", "style_change": "Style", "subject-add": "Add",
    "subject-remove": "Remove", "subject-replace": "Replace", "text_change": "Text", "tone_transfer": "Tone",
}  # fmt: skip
ANYBENCH = {
    "remove": "remove", "replace": "replace", "add": "add", "color_alter": "color", "appearance_alter": "appearance",
    "material_change": "material", "action_change": "action", "textual_change": "textual", "counting": "counting",
    "background_change": "background", "tone_transfer": "tone", "style_change": "style",
    "implicit_change": "implicit", "relation": "relation",
}  # fmt: skip
_ANY_ROWS = {"clip_i_target": "CLIPim", "clip_out": "CLIPout", "l1_target": "L1", "dino_target": "DINO"}
KONTEXT = ("Instruction Editing - Local", "Instruction Editing - Global", "Text Editing", "Character Reference",
           "Style Reference")  # fmt: skip


def _pie() -> Benchmark:
    note = (
        "The paper's MSE of its few-step and one-step rows cannot come of the same definition as its PSNR: a mean PSNR "
        "of 23.33 dB needs a mean MSE of at least 46.5×10⁻⁴. Ours is PIE-Bench's own."
    )
    swift = Table("SwiftEdit's Table 1", (*_columns(*_PIE), "Runtime ↓ (s)"),
                  (("this workflow", (*(Cell(n) for n in _PIE), Cell(SECONDS))),), "swiftedit_1", note)  # fmt: skip
    more = Table("PIE-Bench's further metrics", _columns(*_PIE_MORE), _one_row(*_PIE_MORE))
    return Benchmark("pie-bench", "PIE-Bench", (*_PIE, *_PIE_MORE), (swift, more), words=False, headline="clip_edited")


def _magicbrush() -> Benchmark:
    note = "Means over the turns; of a multi-turn run over each session's last one (MagicBrush's final turn)."
    tables = (
        Table("EditMGT's Table 1, MagicBrush", _columns(*_TARGET), _one_row(*_TARGET), "editmgt_1_magicbrush", note,
              lambda row: row["final"]),
        Table("ICEdit's Table 2", _columns(*_MAGIC), _one_row(*_MAGIC), "icedit_2", "", lambda row: row["final"]),
    )  # fmt: skip
    return Benchmark("magicbrush", "MagicBrush", (*_TARGET, "l2_target", "l1_edit"), tables, headline="clip_i_target")


def _emu() -> Benchmark:
    against = ("clip_i_target", "clip_out", "l1_target", "dino_target")
    tables = (
        Table("ICEdit's Table 1", _columns(*_SOURCE), _one_row(*_SOURCE), "icedit_1",
              "Against the source. The paper's GPT column is GPT-4o with a threshold that it does not tell."),
        Table("EditMGT's Table 1, Emu Edit", _columns(*against), _one_row(*against), "editmgt_1_emu",
              "Against edited_image (Emu Edit's own results) where the folder has it, as AnyBench's code does. EditMGT "
              "follows MagicBrush's protocol (C.5), which compares with a true result; the test set itself has none."),
    )  # fmt: skip
    metrics = tuple(dict.fromkeys((*_SOURCE, "l1_source", *against, *VIE)))
    return Benchmark("emu-edit", "Emu Edit test", metrics, tables, headline="clip_out")


def _anybench() -> Benchmark:
    rows = tuple(
        (f"this workflow {title} {METRICS[name].arrow}", tuple(Cell(name, kind) for kind in ANYBENCH))
        for name, title in _ANY_ROWS.items()
    )
    others = ("movement", "outpaint", "resize", "rotation_change")
    camera = tuple((row, tuple(Cell(cells[0].metric, kind) for kind in others)) for row, cells in rows)
    tables = (
        Table("EditMGT's Tables 6 and 7", tuple(ANYBENCH.values()), rows, "editmgt_6_7"),
        Table("Kinds that EditMGT leaves out", others, camera),
    )
    return Benchmark("anybench", "AnyBench", _TARGET, tables, headline="clip_i_target")


def _gedit() -> Benchmark:
    cells = (*(Cell("vie_overall", kind) for kind in GEDIT), Cell("vie_overall", "each"))
    note = (
        "The paper's judge is GPT-4o with VIEScore's prompts; ours is the one that you named, with ICEdit's prompts "
        "(Figs. 15 and 16), so only numbers of one judge compare."
    )
    parts = tuple((METRICS[n].title, (*(Cell(n, kind) for kind in GEDIT), Cell(n, "each"))) for n in VIE[:2])
    tables = (
        Table("EditMGT's Table 2: overall", (*GEDIT.values(), "Avg"), (("this workflow", cells),), "editmgt_2", note),
        Table("Its two halves", (*GEDIT.values(), "Avg"), parts),
        Table("Overall of the intersection", (*GEDIT.values(), "Avg"), (("this workflow", cells),), "", "",
              lambda row: "intersection" in row["marks"].split()),
    )  # fmt: skip
    return Benchmark("gedit-bench", "GEdit-Bench", VIE[:3], tables, headline="vie_overall")


def _kontext() -> Benchmark:
    shown = ("face_source", "vie_sc", "vie_pq", "vie_overall", "clip_i_source", "dino_source")
    rows = tuple((kind or "all", tuple(Cell(name, kind) for name in shown)) for kind in (*KONTEXT, ""))
    note = (
        "The paper prints no numbers for KontextBench: it has Elo scores of people and a plot of AuraFace similarity "
        "on character references (Fig. 8)."
    )
    return Benchmark("kontext-bench", "KontextBench", (*shown, "vie_weighted"),
                     (Table("By category", _columns(*shown), rows, "", note),), headline="vie_overall")  # fmt: skip


def _folder() -> Benchmark:
    target = ("l1_target", "psnr_target", "ssim_target", "lpips_target", "clip_i_target", "dino_target", "l1_edit")
    kept = ("psnr_outside", "mse_outside", "ssim_outside", "lpips_outside", "structure_distance")
    words = ("clip_out", "clip_whole", "clip_edited", "vie_sc", "vie_pq", "vie_overall")
    tables = (
        Table("How near the target", _columns(*target), _one_row(*target)),
        Table("What was not to be edited", _columns(*kept), _one_row(*kept)),
        Table("What was asked for", _columns(*words), _one_row(*words)),
        Table("How near the source", (*_columns("l1_source", "clip_i_source", "dino_source", "face_source"),
              "Seconds ↓"), (("this workflow", tuple(Cell(n) for n in ("l1_source", "clip_i_source", "dino_source",
              "face_source", SECONDS))),)),
    )  # fmt: skip
    metrics = (*target, *kept, *words, "vie_weighted", "l1_source", "clip_i_source", "dino_source", "face_source")
    return Benchmark("folder", "Edits of a folder", metrics, tables, words=False, headline="l1_target")


BENCHMARKS = {made.name: made for made in (_pie(), _magicbrush(), _emu(), _anybench(), _gedit(), _kontext(), _folder())}
