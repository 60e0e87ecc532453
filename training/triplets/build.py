"""`data build`: the four stages, one after the other; what is done already is not done again."""

import argparse
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ...models.errors import EditError
from . import (
    checking,
    curation,
    editing,
    gathering,
    inputs,
    instructions,
    layout,
    ledger,
    prompts,
    statistics,
)
from .cli import COLUMN, MODEL
from .clip import Aesthetics, Clip
from .ledger import KEPT, Ledger
from .tools import Judge, Speaker, Tools
from .working import Pace, Voice

CARD = "build.json"


@dataclass(frozen=True)
class Crew:
    """Whoever is asked: None where nobody is."""

    writer: Voice | None
    seer: Voice | None
    judge: Judge | None
    clip: Clip | None
    aesthetics: Aesthetics | None


def run(a: argparse.Namespace, tools: Tools) -> dict:
    """Builds triplets, or goes on with it. Returns the summary; EditError, in one sentence, for what is not right.

    a: the flags of cli.parser(). tools: makers of editors, voices and judges.
    """
    layout.need_pyarrow()
    out = Path(a.out).expanduser()
    found = inputs.find(a.images, out)
    crew = gather_crew(a, tools)
    _need_all(a, found, crew)
    hashes = [_hash(a, tools, number) for number in range(len(a.editor))]
    with ledger.alone(out):
        ledger.check_card(out / CARD, _card(a, crew, hashes))
        ledger.sweep(out)
        pace = Pace(a.workers, a.patience)
        _stages(a, tools, crew, found, out, pace)
        return _finish(out, a.short_side, pace.left)


def _finish(out: Path, short_side: int, left: int) -> dict:
    """Writes what the stages came to, all of it, whatever an earlier run has written."""
    gathered = gathering.gather(out)
    layout.write_table(out, gathered.triplets)
    layout.tidy(out, gathered.triplets)
    layout.write_rejects(out, gathered.rejects)
    told = statistics.counts(gathered.triplets, gathered.rejects, gathered.pictures, short_side)
    statistics.save(out, told)
    rejected = {f"rejected by {stage}": count for stage, count in told["rejected"].items() if count}
    return {"pictures": gathered.pictures, "triplets": len(gathered.triplets), **rejected, "left": left}


def _stages(a, tools: Tools, crew: Crew, found: list[inputs.Picture], out: Path, pace: Pace) -> None:
    with ExitStack() as opened:
        one, two, three, four = (opened.enter_context(Ledger(gathering.place(out, s))) for s in layout.STAGES)
        edits = [opened.enter_context(Ledger(gathering.editor_place(out, n))) for n in range(1, len(a.editor) + 1)]
        curation.run(one, found, _curator(a, crew, out), pace)
        curated = one.of(KEPT)
        todo = _written(a, crew, two, curated, pace)
        tasks = editing.tasks(out, todo, {row["digest"]: row["picture"] for row in curated})
        for number, edited in enumerate(edits, start=1):
            _edit(a, tools, edited, tasks, number, out, pace)
        editing.choose(three, tasks, edits, crew.judge, out, pace)
        chosen = []
        for task, row in zip(tasks, todo, strict=True):
            won = three.rows.get(task.key, {})
            if won.get("status") == KEPT:
                target = row.get("target_caption", "")
                chosen.append(checking.Edited(task, row["category"], target, won["result"], won["editor"]))
        checking.check(four, chosen, _bars(a), crew.clip, out, a.format)


def _curator(a, crew: Crew, out: Path) -> curation.Curator:
    return curation.Curator(
        out, a.short_side, None if "aesthetic" in a.skip else a.least_aesthetic, a.format, a.tries,
        writer=None if "suitability" in a.skip else crew.writer, captioner=crew.seer if a.caption else None,
        score=crew.aesthetics.score if crew.aesthetics else None,
        captions=a.instructions == MODEL or "suitability" not in a.skip, several=a.instructions == COLUMN,
    )  # fmt: skip


def _written(a, crew: Crew, two: Ledger, curated: list[dict], pace: Pace) -> list[dict]:
    """The instructions of the curated pictures, written or given, that were kept."""
    if a.instructions == COLUMN:
        instructions.given(two, curated, crew.clip is not None and "clip-text" not in a.skip)
        present = {row["digest"] for row in curated}
        return [row for row in two.of(KEPT) if row["digest"] in present]
    items = instructions.items(curated, prompts.categories(a.categories), a.each, a.seed)
    instructions.write(two, items, crew.writer, a.tries, pace)
    rows = (two.rows.get(item.key) for item in items)
    return [row for row in rows if row and row["status"] == KEPT]


def _edit(a, tools: Tools, edits: Ledger, tasks: list[editing.Task], number: int, out: Path, pace: Pace) -> None:
    if all(task.key in edits.rows for task in tasks):
        return
    with _editor(a, tools, number - 1) as editor:
        editing.edit(edits, tasks, editor, number, out, _title(a), pace)


def _title(a) -> str:
    return "" if a.instruction_title == "none" else a.instruction_title


def _editor(a, tools: Tools, number: int):
    """Opens an editor; EditError for a workflow without the titles that are needed."""
    file, *sets = a.editor[number]
    servers = a.server or [None]
    needed = [_title(a)] if _title(a) else []
    return tools.editor(Path(file), servers[number % len(servers)], sets, needed)


def _hash(a, tools: Tools, number: int) -> str:
    with _editor(a, tools, number) as editor:
        return editor.workflow_hash


def _bars(a) -> checking.Bars:
    return checking.Bars(None if "clip-text" in a.skip else a.clip_text, a.clip_image, a.least_change)


def gather_crew(a, tools: Tools) -> Crew:
    """Everybody that the flags name. EditError for an address, a folder or a key that is not right."""
    writer = seer = judge = None
    if a.llm:
        writer = Voice(tools.voice(_speaker(a, a.llm, a.llm_model, a.llm_key, a.temperature), False))
    if a.judge:
        seer = Voice(tools.voice(_speaker(a, a.judge, a.judge_model, a.judge_key, 0.0), True))
        judge = tools.judge(seer, a.both_orders)
    clip = Clip(Path(a.clip).expanduser()) if a.clip else None
    aesthetics = None
    if a.aesthetic_head and "aesthetic" not in a.skip:
        own = Clip(Path(a.aesthetic_clip).expanduser()) if a.aesthetic_clip else clip
        if own is None:
            raise EditError("--aesthetic-head scores CLIP's vectors; name its CLIP with --aesthetic-clip or --clip.")
        aesthetics = Aesthetics(own, Path(a.aesthetic_head).expanduser())
    return Crew(writer, seer, judge, None if "clip" in a.skip else clip, aesthetics)


def _speaker(a, place: str, model: str, key: str, temperature: float) -> Speaker:
    return Speaker(place, model, key, a.timeout, a.retries, a.tokens, temperature)


def _need_all(a, found: list[inputs.Picture], crew: Crew) -> None:
    """EditError that names everything that is missing: no check is left out unless it is said so."""
    column, scored = a.instructions == COLUMN, crew.aesthetics or any(p.aesthetic is not None for p in found)
    texts = crew.clip is None or "clip-text" in a.skip or any(p.target_caption for p in found)
    wanted = [
        (column or crew.writer, "a language model for instructions (--llm URL or FOLDER, or --instructions column)"),
        (not column or any(p.instruction for p in found), "a column instruction in the table of --images"),
        ("suitability" in a.skip or crew.writer, "a language model for suitability (--llm, or --skip suitability)"),
        ("aesthetic" in a.skip or scored, "aesthetic scores (a column, or --aesthetic-head; or --skip aesthetic)"),
        ("clip" in a.skip or crew.clip, "CLIP for the checks (--clip FOLDER, or --skip clip)"),
        (not column or texts, "a column target_caption for CLIP's text check (or --skip clip-text)"),
        (len(a.editor) == 1 or crew.judge, "a judge of the editors' results (--judge URL or FOLDER)"),
        (not a.caption or crew.seer, "a model that sees, for --caption (--judge URL or FOLDER)"),
        (not a.server or len(a.server) in (1, len(a.editor)), "a --server for each --editor, or one for all"),
    ]
    missing = [what for there, what in wanted if not there]
    if missing:
        raise EditError(f"The build still needs {'; '.join(missing)}.")


def _card(a, crew: Crew, hashes: list[str]) -> dict:
    """What the rows depend on. How long and how often somebody is asked may change from run to run."""
    names = ("short_side", "least_aesthetic", "instructions", "categories", "each", "seed", "tries", "caption",
             "format", "instruction_title", "both_orders", "clip_text", "clip_image", "least_change")  # fmt: skip
    told = {name: getattr(a, name) for name in names} | {"skip": sorted(set(a.skip)), "editors": hashes}
    told |= {"llm": crew.writer.name if crew.writer else None, "judge": crew.judge.name if crew.judge else None}
    folder = lambda path: Path(path).name if path else None  # noqa: E731 - a folder may be moved
    return told | {"clip": folder(a.clip), "aesthetic_head": folder(a.aesthetic_head)}
