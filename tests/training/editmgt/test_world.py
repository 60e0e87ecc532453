"""The small world: pictures and ids, edits and their masks, and what is held out."""

import numpy as np
import torch

from editkit.training.editmgt import world


def drawn(make, count=200, seed=0):
    rng = np.random.default_rng(seed)
    return [make(rng) for _ in range(count)]


def test_pictures_and_ids_turn_into_each_other():
    encoders = world.World()
    for example in drawn(world.edited, 20):
        for ids in (example.source, example.target):
            assert torch.equal(encoders.ids(encoders.picture(ids[None])[0]), ids)


def test_nothing_changes_outside_an_edits_region():
    for example in drawn(world.edited):
        differ = example.target != example.source
        assert differ.any() and not (differ & ~example.region).any()
        assert example.region.sum() == (8 if example.text.startswith("move") else 4)


def test_all_three_kinds_of_edit_are_drawn():
    kinds = [example.text.split()[0] for example in drawn(world.edited)]
    assert set(kinds) == {"make", "remove", "move"} and min(map(kinds.count, set(kinds))) > 30


def test_a_text_is_padded_on_the_left_and_its_order_counts():
    encoders = world.World()
    one, two = (encoders.text(t).states[0] for t in ("make the red circle blue", "make the blue circle red"))
    assert one.shape == (world.WORDS, world.JOINT) and torch.equal(one[:15], two[:15])
    assert torch.equal(one[15], two[15]) and not torch.equal(one[17], two[17])
    assert torch.equal(one[0], encoders.text("").states[0, -1])


def test_captions_fit_the_text():
    assert max(len(example.text.split()) for example in drawn(world.described)) <= world.WORDS


def test_what_is_held_out_is_never_drawn():
    edits = world.Drawn(world.edited)
    held = {tuple(e.source.flatten().tolist()) for e in edits.held(world.SIDE)}
    rng = np.random.default_rng(1)
    assert len(held) == world.HELD
    assert all(tuple(edits.draw(rng, 8).source.flatten().tolist()) not in held for _ in range(300))


def test_the_best_are_drawn_alone_and_the_same_are_held_out():
    best = world.Scored(0.12)
    assert len(best.chosen) == 240
    assert [e.text for e in best.held(8)] == [e.text for e in world.Drawn(world.edited).held(8)]
