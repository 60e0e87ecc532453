"""What a build came to, in numbers and as the plots of A.2: categories, longer sides, and what was rejected where."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import plots
from .layout import STAGES
from .ledger import write
from .prompts import CATEGORIES, OTHER

FOLDER = "statistics"
# Of the longer side, for a shorter side of 1024 px. The paper names one interval, [1280, 1665); the others are ours.
EDGES, EDGES_FOR = (1024, 1280, 1665, 2048, 2560), 1024


def counts(triplets: Sequence[Mapping], rejects: Sequence[Mapping], pictures: int, short_side: int) -> dict:
    """Of triplets: how many per category and per interval of the longer side. Of rejects: how many per stage."""
    edges = [round(edge * short_side / EDGES_FOR) for edge in EDGES]
    sides = Counter(_interval(max(row["width"], row["height"]), edges) for row in triplets)
    kinds = Counter(row["category"] for row in triplets)
    stages = Counter(row["stage"] for row in rejects)
    return {
        "pictures": pictures, "triplets": len(triplets), "rejected": {stage: stages[stage] for stage in STAGES},
        "categories": {name: kinds[name] for name in (*CATEGORIES, OTHER) if kinds[name] or name != OTHER},
        "longer_side": {_named(i, edges): sides[i] for i in range(len(edges))},
        "paper": {name: kind.count for name, kind in CATEGORIES.items()},
    }  # fmt: skip


def _interval(side: int, edges: Sequence[int]) -> int:
    return max(i for i, edge in enumerate(edges) if i == 0 or side >= edge)


def _named(i: int, edges: Sequence[int]) -> str:
    return f"[{edges[i]}, {edges[i + 1]})" if i + 1 < len(edges) else f"{edges[i]} and more"


def save(out: Path, told: dict) -> Path:
    """statistics.json, and a PNG of each plot. Returns the folder."""
    folder = out / FOLDER
    text = json.dumps(told, indent=2, ensure_ascii=False) + "\n"
    write(folder / "statistics.json", lambda file: file.write(text.encode()))
    drawn = {
        "categories": plots.pie(told["categories"], f"Categories of {told['triplets']} triplets"),
        "resolutions": plots.bars(told["longer_side"], "Longer side in pixels", "triplets"),
        "rejects": plots.bars(told["rejected"], f"Rejected, by stage, of {told['pictures']} pictures", "rejected"),
    }
    for name, picture in drawn.items():
        write(folder / f"{name}.png", lambda file, picture=picture: picture.save(file, "PNG"))
    return folder
