"""Position ids: Eq. 2, and the core's placements for any sizes."""

import pytest
import torch

from editkit.models.errors import EditError
from editkit.models.kontext import ids

SIZES = [(12, 16), (16, 8), (8, 20), (7, 9)]


def core(target, sizes, method):
    """ComfyUI 0.3.64's rules, step by step: (index, h offset, w offset) in tokens of each reference."""
    h = w = index = 0
    out = []
    for height, width in sizes:
        top = left = 0
        if method == "index":
            index += 1
        elif method == "uxo":
            top, left = (target[0] + 1) // 2 * 2 + h, (target[1] + 1) // 2 * 2 + w
            h, w = h + height, w + width
        else:
            index = 1
            if height + h > width + w:
                left = w
            else:
                top = h
            h, w = max(h, height + top), max(w, width + left)
        out.append((index, (top + 1) // 2, (left + 1) // 2))
    return out


@pytest.mark.parametrize("method", ids.PLACEMENTS)
@pytest.mark.parametrize("target", [(12, 16), (11, 15)])
def test_places_are_the_cores(method, target):
    found = [(p.index, p.top, p.left) for p in ids.places(target, SIZES, method)]
    assert found == core(target, SIZES, method)


def test_eq_2_gives_each_reference_its_time_and_the_targets_place():
    whole = ids.sequence_ids((4, 6), [(4, 6), (2, 2)], ids.places((4, 6), [(4, 6), (2, 2)], "index"))
    assert whole.dtype == torch.float32 and whole[:6, 0].eq(0).all() and whole[6:12, 0].eq(1).all()
    assert torch.equal(whole[:6, 1:], whole[6:12, 1:]) and whole[12].tolist() == [2, 0, 0]


def test_each_may_be_placed_otherwise_and_an_index_counts_the_chain():
    found = ids.places((4, 4), [(4, 4)] * 4, ["offset", "index", "uxo", "index"], [0, 0, 0, 9])
    assert [(p.index, p.top, p.left) for p in found] == [(1, 0, 0), (2, 0, 0), (0, 2, 2), (9, 0, 0)]
    assert ids.places((4, 4), [(4, 4)], "offset", [5])[0].index == 5


def test_ids_of_a_large_grid_are_all_different():
    assert len(ids.grid_ids((2, 1400)).unique(dim=0)) == 700
    assert len(ids.grid_ids((2, 1400)).to(torch.bfloat16).unique(dim=0)) < 700


@pytest.mark.parametrize(("placement", "index"), [("beside", 0), ("index", -1)])
def test_an_unknown_place_is_refused(placement, index):
    with pytest.raises(EditError, match="beside|-1"):
        ids.places((4, 4), [(4, 4)], placement, [index])
