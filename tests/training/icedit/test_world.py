"""The small world's diptychs: what is known, what is to be painted, and what is held out."""

import numpy as np
import torch

from editkit.training.icedit import world
from editkit.training.kontext import world as scenes


def test_the_left_panel_is_known_and_the_right_one_grey():
    for task in world.TASKS:
        for one in world.World(task).draw(np.random.default_rng(0), 20):
            assert one.target.shape == one.masked.shape == (4, 6, 12)
            assert torch.equal(one.target[..., :6], one.masked[..., :6])
            assert torch.allclose(scenes.decode(one.masked[..., 6:]), torch.full((3, 6, 6), 0.5), atol=1e-6)
            assert task == "fill" or not torch.allclose(one.target[..., 6:], one.target[..., :6])


def test_an_edit_changes_the_thing_alone_and_has_one_result():
    rng = np.random.default_rng(1)
    for _ in range(60):
        case = world.edited(rng)
        (left,), (right,) = case.references, case.right
        assert (left.level, left.fall) == (right.level, right.fall) and left.thing != right.thing
        assert len(scenes.instructions(left.thing)[case.text]) == 1 and right not in case.wrong and case.wrong
        made = world.example(case)
        assert torch.equal(made.states, scenes.text(case.text)[0])
        assert len(made.wrong) == len(case.wrong) and not any(torch.equal(made.target[..., 6:], w) for w in made.wrong)


def test_the_base_is_never_told_an_instruction():
    """Its texts name a colour, a shape and a place; the words of instructions are in none of them."""
    rng = np.random.default_rng(2)
    words = {word for _ in range(200) for word in world.described(rng).text.split()}
    told = {word for _ in range(300) for word in world.edited(rng).text.split()}
    assert {"make", "move", "remove", "the", "up"} <= told - words


def test_what_is_held_out_is_never_drawn():
    for task, make in world.TASKS.items():
        rng, seen = np.random.default_rng(3), []
        while len(seen) < 300:
            seen.append(make(rng))
        held = [case for case in seen if case.held]
        assert 0.04 < len(held) / len(seen) < 0.2
        examples = world.World(task)
        drawn = {(e.text, float(e.target[..., :6].sum())) for e in examples.draw(np.random.default_rng(4), 100)}
        again = [(e.text, float(e.target[..., :6].sum())) for e in examples.held()]
        assert len(again) == world.HELD and not drawn & set(again)
        assert again == [(e.text, float(e.target[..., :6].sum())) for e in world.World(task).held()]
