"""A small world of pictures, instructions and captions: what is trained and shown on one CPU, with nothing to download.

A picture is 6x6 pixels: a floor, grey and falling off to one side by any amounts, and one thing of 4x4 on one of four
places. The autoencoder is fixed: a pixel becomes 4 channels by an orthonormal matrix, so a token is 2x2 pixels.
"""

import zlib
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from torch import Tensor

from ..words import vector
from .examples import Example

COLOURS = {"red": (0.9, 0.1, 0.1), "green": (0.1, 0.8, 0.2), "blue": (0.15, 0.2, 0.95), "yellow": (0.95, 0.85, 0.1)}
SHAPES = ("disc", "square", "triangle")
WAYS = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
ROWS, COLUMNS = ("top", "bottom"), ("left", "right")
SIDE, THING, STEP, PLACES = 6, 4, 2, 2  # pixels a side, of a thing, between places; places a side
CHANNELS, SCALE = 4, 2.0  # of the latents, and what brings them to about unit variance
WORDS, JOINT, POOLED = 6, 32, 32  # the text's tokens and widths
HELD = {"edit": 48, "pair": 16}
VAGUE = 0.4  # share of the edits of one reference that allow several results
TWO = 0.15  # share of the batches of edits that have two references

CONFIG = {
    "patch_size": 1, "in_channels": 4 * CHANNELS, "out_channels": 4 * CHANNELS, "num_layers": 2,
    "num_single_layers": 2, "attention_head_dim": 32, "num_attention_heads": 2, "joint_attention_dim": JOINT,
    "pooled_projection_dim": POOLED, "guidance_embeds": False, "axes_dims_rope": [8, 12, 12],
}  # fmt: skip


@dataclass(frozen=True)
class Thing:
    colour: str
    shape: str
    place: tuple[int, int]  # row, column

    def __str__(self) -> str:
        return f"{self.colour} {self.shape} {ROWS[self.place[0]]} {COLUMNS[self.place[1]]}"


@dataclass(frozen=True)
class Scene:
    """level, fall: the floor's grey in the middle, and how much it changes from left to right."""

    level: float
    fall: float
    thing: Thing | None = None

    def picture(self) -> np.ndarray:
        """[6, 6, 3] in 0..1."""
        x = (np.arange(SIDE) + 0.5) / SIDE - 0.5
        picture = np.repeat((self.level + self.fall * x)[None, :, None], SIDE, 0).repeat(3, 2)
        if self.thing is not None:
            top, left = (STEP * p for p in self.thing.place)
            box = picture[top : top + THING, left : left + THING]
            box[_inside(self.thing.shape)] = COLOURS[self.thing.colour]
        return picture

    def latent(self) -> Tensor:
        return encode(torch.from_numpy(self.picture()).float().movedim(-1, 0))


@cache
def _inside(shape: str) -> np.ndarray:
    """Where a thing is, bool [4, 4]."""
    y, x = np.mgrid[:THING, :THING] - (THING - 1) / 2
    found = {"disc": x**2 + y**2 < 4, "square": abs(x + y) < 9, "triangle": abs(x) < y / 2 + 1.3}
    return found[shape]


@cache
def _matrix() -> Tensor:
    """Four channels from three: orthonormal columns, always the same."""
    drawn = torch.randn(CHANNELS, 3, generator=torch.Generator().manual_seed(0))
    return torch.linalg.qr(drawn)[0]


def encode(picture: Tensor) -> Tensor:
    """Pictures [..., 3, h, w] in 0..1 to latents [..., 4, h, w]."""
    return SCALE * ((2 * picture - 1).movedim(-3, -1) @ _matrix().T).movedim(-1, -3)


def decode(latent: Tensor) -> Tensor:
    """Latents to pictures, which undoes `encode`."""
    return ((latent.movedim(-3, -1) / SCALE) @ _matrix()).movedim(-1, -3) / 2 + 0.5


@cache
def text(words: str) -> tuple[Tensor, Tensor]:
    """States [6, 32] and pooled [32]: a vector for each word plus one for its place, padded on the right."""
    said = words.lower().split()
    padded = [*said, *["<pad>"] * (WORDS - len(said))]
    states = torch.stack([vector(w, JOINT) + vector(f"place {i}", JOINT) for i, w in enumerate(padded)])
    return states, torch.stack([vector(w, POOLED) for w in said or ["<none>"]]).mean(0) * max(len(said), 1) ** 0.5


def instructions(thing: Thing) -> dict[str, list[Thing | None]]:
    """All that can be asked of a thing, with the results that each allows."""
    out: dict[str, list[Thing | None]] = {f"remove the {thing.shape}": [None]}
    others = [replace(thing, colour=c) for c in COLOURS if c != thing.colour]
    out |= {f"make the {thing.shape} {other.colour}": [other] for other in others}
    out[f"make the {thing.shape} another colour"] = others
    places = [(row, column) for row in range(PLACES) for column in range(PLACES)]
    for way, (down, right) in WAYS.items():
        place = (thing.place[0] + down, thing.place[1] + right)
        if place in places:
            out[f"move the {thing.shape} {way}"] = [replace(thing, place=place)]
    out[f"move the {thing.shape} elsewhere"] = [replace(thing, place=p) for p in places if p != thing.place]
    return out


def any_thing(rng: np.random.Generator) -> Thing:
    colour, shape = list(COLOURS)[rng.integers(len(COLOURS))], SHAPES[rng.integers(len(SHAPES))]
    return Thing(colour, shape, (int(rng.integers(PLACES)), int(rng.integers(PLACES))))


def any_floor(rng: np.random.Generator) -> Scene:
    return Scene(float(rng.uniform(0.2, 0.8)), float(rng.uniform(-0.4, 0.4)))


@dataclass(frozen=True)
class Case:
    """Scenes of the references, the text, and the scenes that it allows."""

    references: tuple[Scene, ...]
    text: str
    right: tuple[Scene, ...]
    wrong: tuple[Scene, ...] = ()

    @property
    def held(self) -> bool:
        """Of what is asked of which thing one in ten is never trained on, whatever the floor."""
        thing = next((s.thing for s in (*self.references[::-1], *self.right) if s.thing), None)
        return zlib.crc32(f"{thing}: {self.text}".encode()) % 10 == 0

    def example(self, choice: int, measured: bool) -> Example:
        """With one of the allowed scenes as the target; all that are right and wrong only where it is measured."""
        all_of = lambda scenes: torch.stack([s.latent() for s in scenes]) if scenes and measured else None  # noqa: E731
        references = tuple(s.latent() for s in self.references)
        target = self.right[choice].latent()
        return Example(target, *text(self.text), references, self.text, all_of(self.right), all_of(self.wrong))


def one_reference(rng: np.random.Generator) -> Case:
    """`move the disc left`, of one picture. What is wrong is what any other instruction would give."""
    scene = replace(any_floor(rng), thing=any_thing(rng))
    asked, vague = instructions(scene.thing), rng.random() < VAGUE
    words = str(rng.choice([words for words, results in asked.items() if (len(results) > 1) == vague]))
    all_things = {thing for things in asked.values() for thing in things}
    made, wrong = ([replace(scene, thing=t) for t in ts] for ts in (asked[words], all_things - set(asked[words])))
    return Case((scene,), words, tuple(made), tuple(wrong))


def two_references(rng: np.random.Generator) -> Case:
    """The thing of the second picture on the floor of the first, which has another thing; what is wrong is its."""
    first, second = (replace(any_floor(rng), thing=any_thing(rng)) for _ in range(2))
    while first.thing == second.thing:
        second = replace(second, thing=any_thing(rng))
    return Case((first, second), "use the thing of image two", (replace(first, thing=second.thing),))


def described(rng: np.random.Generator) -> Case:
    """`a red disc middle left` on any floor."""
    scene = replace(any_floor(rng), thing=any_thing(rng))
    return Case((), f"a {scene.thing}", (scene,))


class World:
    """Endless examples; what `Case.held` says is held out, whoever draws it."""

    kinds = ("edit", "pair")

    def __init__(self):
        self.empty = text("")

    def draw(self, rng: np.random.Generator, kind: str, count: int) -> list[Example]:
        make = described if kind == "pair" else two_references if rng.random() < TWO else one_reference
        return [self._one(rng, make, held=False) for _ in range(count)]

    def held(self) -> list[Example]:
        """Always the same; of the edits one in eight has two references."""
        rng = np.random.default_rng(1)
        makes = [two_references if i % 8 == 7 else one_reference for i in range(HELD["edit"])]
        return [self._one(rng, make, held=True) for make in [*makes, *[described] * HELD["pair"]]]

    def _one(self, rng: np.random.Generator, make, held: bool) -> Example:
        case = next(c for c in iter(lambda: make(rng), None) if c.held == held)
        return case.example(int(rng.integers(len(case.right))), measured=held)
