"""What language and vision models are asked, in our own words: suitability, captions, instructions, checks.

The paper prints neither its questions nor its examples (A.1); it says what they ask for, which these do.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from ...models.errors import EditError


@dataclass(frozen=True)
class Example:
    """A caption, an instruction for it, and the caption of the result."""

    caption: str
    instruction: str
    target_caption: str


@dataclass(frozen=True)
class Category:
    """A kind of edit. count: how many CrispEdit-2M has of it (A.2), the share in which it is drawn here."""

    count: int
    rule: str
    examples: tuple[Example, ...]


CATEGORIES = {
    "add": Category(
        300_000,
        "Put one new thing into the scene. Say what it is and where it goes; it must fit the scene's size and light. "
        "Nothing that is there may go or change.",
        (
            Example(
                "An empty wooden bench beside a gravel path, autumn trees behind it.",
                "Lay a folded red blanket on the left end of the bench.",
                "A wooden bench with a folded red blanket on its left end beside a gravel path, autumn trees behind.",
            ),
            Example(
                "A kitchen counter with a kettle and a window above the sink.",
                "Set a small pot of basil on the window sill.",
                "A kitchen counter with a kettle, and a small pot of basil on the sill of the window above the sink.",
            ),
        ),
    ),
    "replace": Category(
        300_000,
        "Exchange one thing that the caption names for another of about its size, in the same place. The rest stays.",
        (
            Example(
                "A brown dachshund asleep on a grey sofa.",
                "Replace the dachshund with a ginger cat.",
                "A ginger cat asleep on a grey sofa.",
            ),
            Example(
                "A bicycle leans on a whitewashed wall under a blue shutter.",
                "Swap the bicycle for an old wooden ladder.",
                "An old wooden ladder leans on a whitewashed wall under a blue shutter.",
            ),
        ),
    ),
    "remove": Category(
        300_000,
        "Take away one thing that the caption names, with its shadow, and let the ground behind it show. Name it so "
        "that it cannot be mistaken. It must not be the whole subject of the picture.",
        (
            Example(
                "Two rowing boats on a calm lake, a buoy in the foreground.",
                "Take the buoy out of the water.",
                "Two rowing boats on a calm lake.",
            ),
            Example(
                "A desk with a laptop, a mug and a lamp in front of a brick wall.",
                "Remove the mug from the desk.",
                "A desk with a laptop and a lamp in front of a brick wall.",
            ),
        ),
    ),
    "color": Category(
        500_000,
        "Change the colour of one thing that the caption names, and only its colour: its shape, material and place, "
        "and everything else, stay as they are. The colour must be another one than it has.",
        (
            Example(
                "A yellow tram turns a corner between grey houses.",
                "Make the tram dark green.",
                "A dark green tram turns a corner between grey houses.",
            ),
            Example(
                "A woman in a white raincoat holds a black umbrella.",
                "Change the colour of the umbrella to bright orange.",
                "A woman in a white raincoat holds a bright orange umbrella.",
            ),
        ),
    ),
    "background": Category(
        200_000,
        "Put the same subject before another background. The subject keeps its pose, look and size. There must be a "
        "clear subject in front.",
        (
            Example(
                "A terracotta vase with dried grass before a plain wall.",
                "Move the vase to a beach at dusk.",
                "A terracotta vase with dried grass on a beach at dusk.",
            ),
            Example(
                "A border collie sits on a pavement before shop windows.",
                "Change the background to a snowy mountain pasture.",
                "A border collie sits on a snowy mountain pasture.",
            ),
        ),
    ),
    "style": Category(
        400_000,
        "Render the whole picture in another style or medium. What it shows, and where, stays the same.",
        (
            Example(
                "A lighthouse on a cliff above a rough sea.",
                "Turn this into a woodcut in black and one blue.",
                "A woodcut in black and one blue of a lighthouse on a cliff above a rough sea.",
            ),
            Example(
                "A market stall with lemons, figs and a striped awning.",
                "Redraw the scene as a loose watercolour.",
                "A loose watercolour of a market stall with lemons, figs and a striped awning.",
            ),
        ),
    ),
    "motion": Category(
        34_000,
        "Change the pose, gesture, expression or movement of a person or an animal that the caption names. It must be "
        "something alive that can move so; things that stand still are not suitable. Who it is, and the scene, stay.",
        (
            Example(
                "A boy in a green jumper stands on a jetty, hands in his pockets.",
                "Let the boy wave with his right hand.",
                "A boy in a green jumper stands on a jetty and waves with his right hand.",
            ),
            Example(
                "A horse grazes beside a stone wall.",
                "Make the horse lift its head and look at the camera.",
                "A horse beside a stone wall lifts its head and looks at the camera.",
            ),
        ),
    ),
}
OTHER = "other"  # of instructions from a column without a category
ALIASES = {
    "colour": "color", "color alteration": "color", "alter": "color", "background change": "background",
    "style transfer": "style", "style transformation": "style", "motion change": "motion",
    "motion modification": "motion", "action": "motion", "replacement": "replace", "removal": "remove",
    "addition": "add",
}  # fmt: skip


def category(name: str) -> str | None:
    """One of the seven by any of its names; `other` for none given and by its own name, None for another word."""
    name = " ".join(name.lower().replace("_", " ").split()) or OTHER
    name = ALIASES.get(name, name)
    return name if name in (*CATEGORIES, OTHER) else None


def categories(listed: str | None) -> list[str]:
    """Those that a comma-separated list names, or all. EditError for a word that is none."""
    if not listed:
        return list(CATEGORIES)
    found = {word.strip(): category(word) for word in listed.split(",")}
    for word, name in found.items():
        if name not in CATEGORIES:
            raise EditError(f"--categories has {word!r}; there are {', '.join(CATEGORIES)}.")
    return list(dict.fromkeys(found.values()))


CAPTION = """\
Describe this photograph for somebody who cannot see it, in three sentences at most: first what is in front, with its \
colours, materials, number and place; then what each person or animal does; then the background and the light. Only \
what can be seen, no guesses, no mood. Answer with the description alone."""

_SUITABLE = """\
A picture is to be used for practising photo edits. Judge by its caption whether it is suitable.

It is not suitable if it is a simple pattern, a texture or a plain surface; if the scene holds one monotonous thing \
with nothing else to edit; or if the caption speaks of watermarks, lettering laid over the picture, stickers or logos.

Caption: {caption}

Answer with JSON alone: {{"suitable": true or false, "reason": "a few words"}}"""

_INSTRUCT = """\
You write one instruction for an edit of a photograph that you know by its caption only.

Kind of edit: {category}
{rule}

The instruction is one short sentence as a person would say it. It changes one thing and names nothing that the \
caption does not speak of, except what it brings in. Word it unlike the examples.
The target caption describes the whole picture after the edit, as the caption does before it.
If this kind of edit makes no sense for this picture, say that it is not suitable.

Examples:
{examples}

Caption: {caption}

Answer with JSON alone: {{"suitable": true, "category": "{category}", "instruction": "...", "target_caption": "..."}} \
or {{"suitable": false, "category": "{category}", "reason": "a few words"}}"""

_AGAIN = """


Your last answer could not be used: {fault}. Answer again, with the JSON alone."""

_CHECK = """\
Check an instruction for an edit of a photograph before anybody carries it out.

Caption: {caption}
Kind of edit: {category}
{rule}
Instruction: {instruction}
Caption after the edit: {target_caption}

It is wrong if it would also change something that this kind of edit leaves alone (a thing's shape where only its \
colour was to change, say), or if it is not logical: it names what is not in the picture, asks something to move that \
cannot, or asks for what is there already. It is wrong too if the caption after the edit does not fit the instruction.

Answer with JSON alone: {{"good": true or false, "reason": "a few words"}}"""


def suitable(caption: str) -> str:
    """Is a picture of this caption fit to be edited (A.1, image curation)?"""
    return _SUITABLE.format(caption=caption)


def instruct(name: str, caption: str, learnt: Sequence[Example]) -> str:
    """One instruction of a category. learnt: accepted ones, which serve as further examples (A.1, bootstrapping)."""
    kind = CATEGORIES[name]
    shown = "\n".join(_shown(name, example) for example in (*kind.examples, *learnt))
    return _INSTRUCT.format(category=name, rule=kind.rule, examples=shown, caption=caption)


def _shown(name: str, example: Example) -> str:
    answer = {"suitable": True, "category": name, "instruction": example.instruction}
    answer["target_caption"] = example.target_caption
    return f"Caption: {example.caption}\nAnswer: {json.dumps(answer, ensure_ascii=False)}"


def check(name: str, caption: str, instruction: str, target_caption: str) -> str:
    """Is an instruction what its category asks for, and logical (A.1, pre-processing validation)?"""
    told = {"caption": caption, "instruction": instruction, "target_caption": target_caption}
    return _CHECK.format(category=name, rule=CATEGORIES[name].rule, **told)


def again(question: str, fault: str) -> str:
    """The question once more, with what was wrong about the answer."""
    return question + _AGAIN.format(fault=fault)
