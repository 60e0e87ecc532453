"""Thirty small pictures out of the sample photographs, and a language model on loopback that answers as is planted."""

import csv
import functools
import json
import re
import time
from pathlib import Path

import numpy as np
from PIL import Image

from editkit.tests.loopback_judge import Silent, brighter

ROOT = Path(__file__).resolve().parents[3]
WORKFLOWS = ROOT / "workflows/api"
SIDE, LATE, PATIENT = 96, 3.0, 2  # pixels; seconds, and how many of them a client waits
COUNT = 30
# What becomes of a scene. All others go through.
SCORE, SMALL, BROKEN, COPY, UNFIT, BADLY_AT_FIRST, NO_JSON, WRONG_KIND, EMPTY, WRONG, DECLINED, FLAT = range(18, 30)
KINDS = {"suitable": "practising photo edits", "check": "Check an instruction"}
SLOW, DROPPED, BUSY, REFUSED, NEVER, BABBLED = range(6)


@functools.cache
def pictures() -> list[Image.Image]:
    """COUNT crops of the sample photographs, SIDE px high."""
    made = []
    photos = [Image.open(p).convert("RGB") for p in sorted((ROOT / "workflows/media").glob("*.jpg"))]
    small = [photo.resize((3 * SIDE, 2 * SIDE), Image.Resampling.LANCZOS) for photo in photos]
    for number in range(COUNT):
        photo, draw = small[number % len(small)], np.random.default_rng(number)
        left, top = (int(draw.integers(high)) for high in (SIDE, SIDE))
        crop = photo.crop((left, top, left + SIDE + 32 * (number % 2), top + SIDE))
        made.append(crop.point(lambda v: int(v * 0.6)))  # dark, so that correcting the tone has something to do
    return made


def caption(number: int) -> str:
    return f"Scene {number:02d}: a quiet place with a thing in it, under a clear sky."


def write(folder: Path, count: int = COUNT) -> Path:
    """The pictures with captions.csv: image, caption, aesthetic; some of them planted to be rejected."""
    folder.mkdir(parents=True)
    with (folder / "captions.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("image", "caption", "aesthetic"))
        for number, picture in enumerate(pictures()[:count]):
            name = f"{number:02d}.png"
            if number == SMALL:
                picture = picture.resize((SIDE - 1, SIDE - 1))
            if number == FLAT:
                picture = Image.new("RGB", (SIDE, SIDE), (90, 90, 90))
            picture.save(folder / name)
            if number == BROKEN:
                (folder / name).write_bytes((folder / name).read_bytes()[:500])
            if number == COPY:
                (folder / name).write_bytes((folder / "06.png").read_bytes())
            table.writerow((name, caption(number), 4.5 if number == SCORE else 4.6))
    return folder


def number_of(question: str) -> int:
    """Which scene a question is about: the last caption in it, after those of the examples."""
    return int(re.findall(r"Caption: Scene (\d\d):", question)[-1])


class Language:
    """A script for Loopback. healed: it answers everybody. asked: (scene, what) of each question, in their order."""

    def __init__(self, healed: bool = False):
        self.healed, self.asked = healed, []

    def __call__(self, request):
        question = request.question
        number = number_of(question)
        kind = next((k for k, words in KINDS.items() if words in question), "write")
        before = self.asked.count((number, kind))
        self.asked.append((number, kind))
        if not self.healed and (trouble := self.trouble(number, kind, before)) is not None:
            return trouble
        return {"suitable": self.suitable, "check": self.check, "write": self.write}[kind](number, question, before)

    def trouble(self, number: int, kind: str, before: int):
        """Late, cut off, busy, refusing or never answering: what is asked of a few scenes' instructions."""
        if kind != "write":
            return None
        if number == NEVER:
            raise Silent
        if number == SLOW and before == 0:
            time.sleep(LATE)
        if number == DROPPED and before == 0:
            raise Silent
        if number == BUSY and before == 0:
            return 503, b"busy", {"Retry-After": "0"}
        if number == REFUSED:
            return 400, b"the content policy", {}
        return None

    def suitable(self, number, question, before):
        return json.dumps({"suitable": number != UNFIT, "reason": "one plain wall"})

    def check(self, number, question, before):
        return "<think>{}</think>" + json.dumps({"good": number != WRONG, "reason": "it names a dog that is not there"})

    def write(self, number, question, before):
        category = re.search(r"Kind of edit: (\w+)", question)[1]
        made = {"suitable": True, "category": category, "instruction": f"Do {category} to scene {number:02d}.",
                "target_caption": f"Scene {number:02d} after {category}."}  # fmt: skip
        if number == NO_JSON or (number == BADLY_AT_FIRST and before < 2):
            return "Sure! I would make the thing blue. {"
        made |= {"category": "replace" if category != "replace" else "add"} if number == WRONG_KIND else {}
        made |= {"instruction": " … "} if number == EMPTY else {}
        if number == DECLINED:
            made = {"suitable": False, "category": category, "reason": "nothing there is alive"}
        return f"Here it is:\n```json\n{json.dumps(made)}\n```"


def judge(request):
    """Prefers the brighter of two edits, in every third scene the darker, and makes nothing of one."""
    number = int(re.search(r"scene (\d\d)", request.question)[1])
    if number == BABBLED:
        return "Both have their charm."
    choice = brighter(request)[0]
    return f"{choice if number % 3 else 3 - int(choice)}. That is the better one."


def flags(images, out, llm, seer=None, *more) -> list[str]:
    """The command line of a build with the two editors that ship with small weights."""
    said = ["build", "--images", images, "--out", out, "--short-side", SIDE, "--instruction-title", "none"]
    said += ["--editor", WORKFLOWS / "tone.json", "--editor", WORKFLOWS / "relight.json"]
    said += ["--llm", llm, "--llm-model", "writer", "--judge", seer or llm, "--judge-model", "seer"]
    return [str(word) for word in (*said, "--retries", 1, *more)]


