"""`demo`: the five shipped workflows on the sample photos, before and after."""

import time
from collections.abc import Mapping
from pathlib import Path

from . import folders, pictures, sheet, shipped
from .execute import Runner
from .files import check_writable
from .progress import bar

LABELS = {
    "remove": "Remove object (with its shadow)",
    "outpaint": "Outpaint",
    "tone": "Tone",
    "relight": "Relight",
    "sticker": "Sticker",
}


def demo(output: Path, registry: Mapping[str, type]) -> int:
    """Writes TASK_before.png, TASK_after.png and contact_sheet.png into the folder and prints where."""
    check_writable(output)
    works = {task: shipped.read(task) for task in shipped.FILES}  # all there, before the first one is run
    runner, rows = Runner(registry), []
    steps = bar(len(works), "demo")
    try:
        for task, work in works.items():
            start = time.perf_counter()
            before, after = output / f"{task}_before.png", output / f"{task}_after.png"
            pictures.save(before, pictures.read(_photo(work.prompt))[0][0])
            shipped.run_to(runner, work, after, task)
            rows.append((LABELS[task], [_opened(before), _opened(after)]))
            steps.update(1)
            print(f"{task}: {before.name} -> {after.name} ({time.perf_counter() - start:.1f} s)", flush=True)
    finally:
        steps.close()
    made = sheet.save(output / "contact_sheet.png", rows)
    print(f"All five edits side by side: {made.resolve()}")
    return 0


def _photo(prompt: dict) -> Path:
    return folders.picture(prompt[shipped.node(prompt, "image", "the sample photo")]["inputs"]["image"])


def _opened(path: Path):
    from PIL import Image

    with Image.open(path) as picture:
        picture.load()
        return picture
