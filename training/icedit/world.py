"""A small world of diptychs, for one CPU: Kontext's scenes and instructions, in the shape of Fill's input.

A panel is 6x6 pixels, a latent's channels are a pixel's colours, and each latent counts as 8x8 pixels of the mask. Two
tasks: "fill", which the small base learns, so that there is a Fill to put a LoRA on (the right panel is the left one's
floor with a thing that the text describes), and "edit" (the right panel is what an instruction makes of the left one).
"""

from dataclasses import replace

import numpy as np
import torch

from ..kontext import world
from ..kontext.world import Case, encode, text
from .examples import Example

SCALE = 8
HELD = 48
CONFIG = world.CONFIG | {"in_channels": 8 * world.CHANNELS + 4 * SCALE**2, "guidance_embeds": True}


def described(rng: np.random.Generator) -> Case:
    """`a red disc top left`: the described thing on the floor of the left panel, in place of another."""
    left, thing = replace(world.any_floor(rng), thing=world.any_thing(rng)), world.any_thing(rng)
    return Case((left,), f"a {thing}", (replace(left, thing=thing),))


def edited(rng: np.random.Generator) -> Case:
    """`move the disc left`: only instructions that allow one result. Wrong is what any other would give."""
    scene = replace(world.any_floor(rng), thing=world.any_thing(rng))
    asked = {words: results[0] for words, results in world.instructions(scene.thing).items() if len(results) == 1}
    words = str(rng.choice(list(asked)))
    wrong = [replace(scene, thing=thing) for other, thing in asked.items() if other != words]
    return Case((scene,), words, (replace(scene, thing=asked[words]),), tuple(wrong))


TASKS = {"fill": described, "edit": edited}


class World:
    """Endless examples of a task; what `Case.held` says is held out, whoever draws it."""

    scale = SCALE

    def __init__(self, task: str = "edit"):
        self.task, self.empty = task, text(" ")

    def draw(self, rng: np.random.Generator, count: int) -> list[Example]:
        return [self._one(rng, held=False) for _ in range(count)]

    def held(self) -> list[Example]:
        """Always the same."""
        rng = np.random.default_rng(1)
        return [self._one(rng, held=True) for _ in range(HELD)]

    def _one(self, rng: np.random.Generator, held: bool) -> Example:
        return example(next(c for c in iter(lambda: TASKS[self.task](rng), None) if c.held == held))


def example(case: Case) -> Example:
    """The diptych of a case."""
    left, right = case.references[0].latent(), case.right[0].latent()
    grey = encode(torch.full((3, world.SIDE, world.SIDE), 0.5))
    wrong = torch.stack([scene.latent() for scene in case.wrong]) if case.wrong else None
    return Example(
        torch.cat([left, right], -1), torch.cat([left, grey], -1), *text(case.text), text=case.text, wrong=wrong
    )
