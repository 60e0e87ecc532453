"""How a language model's answers are read: one JSON object, and what may be wrong with it, in words."""

import json
import re

MOST_WORDS = 60  # of an instruction; the paper has no limit, longer ones are descriptions


class Fault(Exception):
    """An answer that cannot be used; the words go back to the model."""


def verdict(answer: str, name: str) -> tuple[bool, str]:
    """(yes or no, why) of {name: true or false, "reason": …}. Fault for anything else."""
    found = _json(answer)
    if not isinstance(found.get(name), bool):
        raise Fault(f"“{name}” is not true or false")
    return found[name], _line(found.get("reason")) or "no reason given"


def written(answer: str, category: str, caption: str) -> tuple[str, str] | str:
    """(instruction, target caption), or in words why the picture is not suitable. Fault for another answer."""
    found = _json(answer)
    said = _line(found.get("category"))
    if said.lower() != category:
        raise Fault(f"its category is “{said}” and not “{category}”")
    if found.get("suitable") is False:
        return _line(found.get("reason")) or "no reason given"
    instruction, target = _line(found.get("instruction")), _line(found.get("target_caption"))
    for name, text in (("instruction", instruction), ("target_caption", target)):
        if not re.search(r"\w", text):
            raise Fault(f"its {name} is empty")
    if len(instruction.split()) > MOST_WORDS:
        raise Fault(f"its instruction has {len(instruction.split())} words; one short sentence was asked for")
    if target.lower() == " ".join(caption.split()).lower():
        raise Fault("its target_caption is the caption before the edit")
    return instruction, target


def _json(answer: str) -> dict:
    """The first JSON object of an answer, without what a model thought before it."""
    text = re.sub(r"<think>.*?(?:</think>|$)", " ", answer, flags=re.DOTALL | re.IGNORECASE)
    decoder = json.JSONDecoder()
    for start in (m.start() for m in re.finditer(r"\{", text)):
        try:
            found, _ = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            return found
    raise Fault("it holds no JSON object that can be read")


def _line(value) -> str:
    """A string on one line; nothing for what is no string."""
    return " ".join(value.split()) if isinstance(value, str) else ""
