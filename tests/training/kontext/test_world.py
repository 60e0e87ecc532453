"""The small world: pictures and latents, what instructions allow, and what is held out."""

import zlib
from dataclasses import replace

import numpy as np
import torch

from editkit.training.kontext import world
from editkit.training.kontext.examples import batches


def drawn(make, count=200, seed=0):
    rng = np.random.default_rng(seed)
    return [make(rng) for _ in range(count)]


def test_pictures_and_latents_turn_into_each_other():
    for case in drawn(world.one_reference, 20):
        picture = torch.from_numpy(case.right[0].picture()).float().movedim(-1, 0)
        latent = world.encode(picture)
        assert latent.shape == (4, 6, 6) and picture.min() >= 0 and picture.max() <= 1
        assert torch.allclose(world.decode(latent), picture, atol=1e-5)
        assert torch.equal(latent, case.right[0].latent())


def test_latents_are_about_as_large_as_the_noise():
    latents = torch.stack([case.right[0].latent() for case in drawn(world.one_reference)])
    assert 0.7 < float(latents.std()) < 1.3


def test_an_edit_leaves_the_floor_and_does_what_is_said():
    for case in drawn(world.one_reference):
        scene = case.references[0]
        assert all(replace(r, thing=None) == replace(scene, thing=None) for r in (*case.right, *case.wrong))
        assert not set(case.right) & set(case.wrong) and scene not in case.right
        assert all((r.thing is None) == case.text.startswith("remove") for r in case.right)
        if "another colour" in case.text:
            assert len(case.right) == 3 and all(r.thing.shape == scene.thing.shape for r in case.right)
        if "elsewhere" in case.text:
            assert len({r.thing.place for r in case.right}) == 3


def test_all_instructions_are_drawn():
    said = [case.text for case in drawn(world.one_reference, 400)]
    for part in ("remove", "another colour", "make the disc red", "left", "right", "up", "down", "elsewhere"):
        assert any(part in text for text in said), part
    assert max(len(text.split()) for text in said) <= world.WORDS


def test_of_two_references_the_second_gives_the_thing():
    for case in drawn(world.two_references, 50):
        first, second = case.references
        assert case.right == (replace(first, thing=second.thing),) and first.thing != second.thing
        assert len(case.text.split()) <= world.WORDS


def test_what_is_held_out_is_never_drawn():
    """Of what is asked of which thing, not only of pictures."""
    made, rng = world.World(), np.random.default_rng(5)
    key = lambda e: (e.text, zlib.crc32(e.references[-1].numpy().tobytes()) if e.references else 0)  # noqa: E731
    held = made.held()
    assert len(held) == sum(world.HELD.values())
    assert [key(e) for e in held] == [key(e) for e in world.World().held()]
    cases = [c for c in drawn(world.described, 3000) if c.held]
    said = {c.text for c in cases}
    assert 0.04 < len(cases) / 3000 < 0.2
    assert not said & {e.text for _ in range(40) for e in made.draw(rng, "pair", 16)}
    assert {e.text for e in held if not e.references} <= said


def test_a_batch_has_one_shape():
    made, rng = world.World(), np.random.default_rng(0)
    counts = set()
    for _ in range(60):
        chosen = made.draw(rng, "edit", 3)
        assert len({e.shapes for e in chosen}) == 1
        counts.add(len(chosen[0].references))
    assert counts == {1, 2}
    assert [len(b) for b in batches(made.held(), 8)] == [8, 8, 8, 8, 8, 2, 6, 8, 8]


def test_the_order_of_words_counts_and_pads_are_told_apart():
    one, two = world.text("a red disc top left")[0], world.text("a disc red top left")[0]
    assert one.shape == (world.WORDS, world.JOINT) and not torch.equal(one[1], two[1]) and torch.equal(one[3], two[3])
    assert not torch.equal(world.text("")[0][0], one[0])
