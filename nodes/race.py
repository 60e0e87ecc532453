"""Edit Race: one picture, one mask and one instruction through up to five systems, measured and ranked."""

from ..models import masks
from ..models.errors import EditError
from ..models.race import contact, ranking
from ..models.race.entries import Entry
from ..models.race.measuring import measure
from ..models.race.table import table
from .compare import CATEGORY
from .host import laps, previews, race
from .host.progress import reporter
from .icedit_filter import JUDGE
from .unpacking import packed, picture, region, repeated

MOST = 5
RESULTS = tuple(f"result_{number}" for number in range(1, MOST + 1))


class EditRace:
    DESCRIPTION = (
        "Runs up to five systems one after the other, each result wired in, and compares them: a sheet, a table of "
        "change, preservation, seconds and memory, and the best by a rule that leaving the picture alone cannot win."
    )
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["benchmark", "compare models", "contact sheet", "metrics", "psnr", "ssim", "best of"]
    RETURN_TYPES = ("IMAGE", "STRING", "INT", "IMAGE", "STRING")
    RETURN_NAMES = ("image", "name", "number", "sheet", "table")
    OUTPUT_TOOLTIPS = (
        "The best result, as it came; the original where nobody wins.",
        "The best one's name; empty where nobody wins.",
        "The number of its input, from 1; 0 where nobody wins.",
        "The original and all results with their numbers.",
        "Everything measured, as a Markdown table.",
    )
    FUNCTION = "run"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        result = ("IMAGE", {"lazy": True, "tooltip":
                            "What one system made of the picture. They run one by one, to be timed."})  # fmt: skip
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "The picture before the edit, as every system was given it."}),
                "instruction": ("STRING", {"default": "", "tooltip":
                                           "What was asked for: the sheet's title, and what a judge goes by."}),
                "names": ("STRING", {"default": "", "tooltip":
                                     "The results' names in order, between commas; one left out is the title of the "
                                     "system's last EditKit node."}),
                "rule": ([*ranking.RULES], {"tooltip":
                         "Who wins. edit and preservation: the judge's marks, or without one how much changed inside, "
                         "times how much of the outside is left."}),
                "floor": ("FLOAT", {"default": 0.02, "min": 0.0, "max": 1.0, "step": 0.005, "tooltip":
                                    "Nobody wins who changed less than this inside the mask, as a mean of 0 to 1."}),
            },
            "optional": {
                "mask": ("MASK", {"tooltip": "White is where the edit belongs. Left open: the whole picture, and "
                                  "nothing is said of the outside."}),
                "judge": (JUDGE, {"tooltip": "Judge (Endpoint), Judge (Local Model), or Judge (CLIP Score)."}),
                **dict.fromkeys(RESULTS, result),
            },
            "hidden": {"unique_id": "UNIQUE_ID", "dynprompt": "DYNPROMPT", "prompt": "PROMPT",
                       "extra_pnginfo": "EXTRA_PNGINFO"},
        }  # fmt: skip

    def check_lazy_status(self, *, instruction, rule, unique_id, dynprompt, mask=None, judge=None, **inputs):
        wired = _wired(inputs)
        ranking.check(rule, judge is not None, _given(mask) is not None)
        race.check(judge, instruction)
        return laps.watch(dynprompt, unique_id).next(dynprompt, wired)

    def run(
        self, *, image, instruction, names, rule, floor, unique_id, dynprompt, mask=None, judge=None, prompt=None,
        extra_pnginfo=None, **inputs,
    ):  # fmt: skip
        wired = _wired(inputs)
        original, edits = _batches(picture(image)[0], {name: picture(value)[0] for name, value in wired.items()})
        mask = None if _given(mask) is None else masks.fit(mask, *original.shape[-2:], batch=len(original))
        watch = laps.watch(dynprompt, unique_id)
        called = _names(names, laps.names(dynprompt, unique_id, list(wired)), wired)
        marks = race.marks(judge, original, edits, instruction, reporter())
        entries = []
        for name, edit, mark in zip(wired, edits, marks, strict=True):
            change, lap = measure(original, edit, mask), watch.lap(name, wired[name])
            entries.append(Entry(RESULTS.index(name) + 1, called[name], change, lap, mark))
        found = ranking.rank(entries, rule, floor)
        said = table(entries, found, (original.shape[-1], original.shape[-2]), rule, mask is not None)
        first = [edit[0] for edit in edits]
        detail = None if mask is None else mask[0]
        sheet = packed(contact.sheet(original[0], first, entries, found, instruction, detail))
        shown = previews.save(sheet, "race", previews.metadata(prompt, extra_pnginfo))
        best = None if found.winner is None else entries[found.winner]
        won = (image, "", 0) if best is None else (wired[RESULTS[best.number - 1]], best.name, best.number)
        return {"ui": {"images": shown, "text": [said]}, "result": (*won, sheet, said)}


def _wired(inputs: dict) -> dict:
    """The results that are wired, in order; None for one that has not run. EditError without any."""
    wired = {name: inputs[name] for name in RESULTS if name in inputs}
    if not wired:
        raise EditError("No result is wired to the race; wire at least one system's picture to result_1.")
    return wired


def _batches(original, edits: dict) -> tuple:
    """The original and every edit as batches of one length. EditError naming the result that does not fit."""
    longest = max(edits.values(), key=len)
    before, _, _ = repeated(original, None, longest)
    made = []
    for name, edit in edits.items():
        if len(edit) not in (1, len(before)):
            raise EditError(f"{name} brings {len(edit)} pictures to a race over {len(before)}; give one for each.")
        made.append(edit.expand(len(before), -1, -1, -1))
    return before, made


def _given(mask):
    """The mask, or None without one. EditError for one that is black all over."""
    mask = region(mask)
    if mask is not None and not bool((mask > 0).any()):
        raise EditError("The mask is black everywhere; make white what the systems were asked to edit, or unwire it.")
    return mask


def _names(given: str, titles: list[str], wired: dict) -> dict[str, str]:
    """Result -> its name: its part of the widget, or its node's title."""
    parts = given.split(",")
    own = {name: parts[number].strip() if number < len(parts) else "" for number, name in enumerate(RESULTS)}
    return {name: own[name] or title for name, title in zip(wired, titles, strict=True)}


NODE_CLASS_MAPPINGS = {"EditKitEditRace": EditRace}
NODE_DISPLAY_NAME_MAPPINGS = {"EditKitEditRace": "Edit Race"}
