"""Cues against shapes drawn by Pillow at sixteen times the size."""

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from editkit.models.errors import EditError
from editkit.models.kontext import cue

SIZE, FINE = (90, 120), 16


def photo(count=1, size=SIZE):
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(0))


def inked(shape, width=3.0, fill=0.0, size=SIZE):
    return cue.drawn(photo(size=size), [[shape]], (1.0, 0.0, 0.0), width, fill)


def by_pillow(draw, size=SIZE):
    """Coverage [h, w] of what draw(canvas, scale) paints white."""
    large = Image.new("L", (size[1] * FINE, size[0] * FINE))
    draw(ImageDraw.Draw(large))
    values = np.asarray(large, np.float32) / 255
    return torch.from_numpy(values.reshape(size[0], FINE, size[1], FINE).mean((1, 3)))


def around(shape, grown):
    """The corners of a shape grown by some pixels, at the fine size."""
    corners = shape.x0 - grown, shape.y0 - grown, shape.x1 + grown, shape.y1 + grown
    return [c * FINE for c in corners[:2]] + [c * FINE - 1 for c in corners[2:]]


@pytest.mark.parametrize("kind", ["box", "ellipse"])
@pytest.mark.parametrize("corners", [(20.3, 11.6, 90.8, 70.2), (30, 20, 40, 80), (-10, -5, 60, 50)])
def test_outlines_and_insides_cover_what_pillow_covers(kind, corners):
    shape = cue.Shape(kind, *corners)
    _, line, inside = inked(shape)

    def ring(draw):
        paint = draw.rectangle if kind == "box" else draw.ellipse
        paint(around(shape, 1.5), fill=255)
        paint(around(shape, -1.5), fill=0)

    def solid(draw):
        (draw.rectangle if kind == "box" else draw.ellipse)(around(shape, 0), fill=255)

    for ours, reference in ((line[0], by_pillow(ring)), (inside[0], by_pillow(solid))):
        assert float((ours - reference).abs().mean()) < 0.004 and float((ours - reference).abs().max()) < 0.35
        assert float(ours.sum()) == pytest.approx(float(reference.sum()), rel=0.02)


@pytest.mark.parametrize("ends", [(20, 20, 100, 70), (100, 45, 20, 45), (60, 80, 60, 10)])
def test_an_arrow_covers_its_line_and_its_head(ends):
    x0, y0, x1, y1 = ends
    _, line, inside = inked(cue.Shape("arrow", *ends), width=4.0)
    length = math.hypot(x1 - x0, y1 - y0)
    dx, dy = (x1 - x0) / length, (y1 - y0) / length

    def place(along, aside):
        return ((x1 + along * dx - aside * dy) * FINE, (y1 + along * dy + aside * dx) * FINE)

    def draw(canvas):
        canvas.polygon([place(0, 0), place(-20, 10), place(-20, -10)], fill=255)
        canvas.polygon([place(-length, 2), place(-10, 2), place(-10, -2), place(-length, -2)], fill=255)

    reference = by_pillow(draw)
    assert float((line[0] - reference).abs().mean()) < 0.004 and torch.equal(line, inside)
    assert float(line.sum()) == pytest.approx(float(reference.sum()), rel=0.03)


@pytest.mark.parametrize("kind", cue.SHAPES)
def test_elsewhere_not_a_bit_changes_and_the_colour_is_the_one_asked_for(kind):
    image = photo(2)
    kept = image.clone()
    out, drawn, inside = cue.drawn(image, [[cue.Shape(kind, 20.3, 20, 90, 70)]] * 2, cue.colour("#00ff80"), 6, 0.0)
    assert torch.equal(image, kept)
    untouched = (drawn == 0)[:, None].expand_as(image)
    assert torch.equal(out[untouched], image[untouched])
    full = out.movedim(1, -1)[drawn == 1]
    assert len(full) > 20 and torch.allclose(full, torch.tensor([0.0, 1.0, 128 / 255]))
    assert 0 < int(((drawn > 0) & (drawn < 1)).sum())  # smooth edges


def test_a_fill_mixes_inside():
    out, drawn, inside = inked(cue.Shape("box", 20, 20, 60, 60), width=2, fill=0.25)
    middle = (slice(None), slice(None), slice(30, 50), slice(30, 50))
    expected = 0.75 * photo()[middle] + 0.25 * torch.tensor([1.0, 0, 0])[None, :, None, None]
    assert torch.allclose(out[middle], expected, atol=1e-6) and float(drawn[0, 40, 40]) == 0.25
    assert float(inside[0, 40, 40]) == 1


def test_relative_places_are_shares_of_width_and_height():
    relative = cue.from_numbers("box", (0.1, 0.2, 0.5, 0.9), "relative", SIZE)
    assert (relative.x0, relative.y0, relative.x1, relative.y1) == pytest.approx((12, 18, 60, 81))
    assert cue.from_numbers("box", (60, 81, 12, 18), "pixels", SIZE) == cue.Shape("box", 12, 18, 60, 81)
    arrow = cue.from_numbers("arrow", (60, 81, 12, 18), "pixels", SIZE)
    assert (arrow.x0, arrow.x1) == (60, 12)  # an arrow has a direction


def test_a_shape_goes_around_each_piece_of_a_mask():
    mask = torch.zeros(SIZE)
    mask[10:20, 30:50], mask[60:80, 90:100] = 1, 0.3
    boxes = cue.from_mask("box", mask, 0.0)
    assert [(s.x0, s.y0, s.x1, s.y1) for s in boxes] == [(30, 10, 50, 20), (90, 60, 100, 80)]
    wide = cue.from_mask("ellipse", mask, 0.5)[0]
    assert (wide.x0, wide.y0, wide.x1, wide.y1) == (20, 0, 60, 30)


@pytest.mark.parametrize("centre", [(20, 20), (70, 100), (45, 60), (10, 110)])
def test_an_arrow_ends_at_the_rim_of_what_it_points_to(centre):
    y, x = centre
    mask = torch.zeros(SIZE)
    mask[y - 5 : y + 5, x - 5 : x + 5] = 1
    (arrow,) = cue.from_mask("arrow", mask, 0.0)
    assert max(abs(arrow.x1 - x), abs(arrow.y1 - y)) == pytest.approx(5)
    to_centre = (x - arrow.x1) * (arrow.x1 - arrow.x0) + (y - arrow.y1) * (arrow.y1 - arrow.y0)
    assert to_centre > 0  # it points there
    assert -1 < arrow.x0 < SIZE[1] + 1 and -1 < arrow.y0 < SIZE[0] + 1  # and begins in the picture
    _, drawn, _ = inked(arrow, width=2)
    assert float(drawn[0][mask > 0].mean()) < 0.2


def test_pieces_of_a_large_mask_are_found_with_exact_rims():
    mask = torch.zeros(1500, 2100)
    mask[101:333, 77:901], mask[1400:1499, 2000:2100] = 1, 1
    found = cue.from_mask("box", mask, 0.0)
    assert [(s.x0, s.y0, s.x1, s.y1) for s in found] == [(77, 101, 901, 333), (2000, 1400, 2100, 1499)]


def test_one_mask_serves_a_batch_and_each_of_several_its_own_picture():
    masks = torch.zeros(2, 45, 60)
    masks[0, 5:10, 5:10], masks[1, 30:40, 30:40] = 1, 1
    one = cue.from_masks("box", masks[:1], 0.0, SIZE, 2)
    assert one[0] == one[1] == [cue.Shape("box", 10, 10, 20, 20)]
    assert cue.from_masks("box", masks, 0.0, SIZE, 2)[1] == [cue.Shape("box", 60, 60, 80, 80)]


def test_shapes_that_leave_the_picture_or_are_tiny_are_drawn_as_far_as_they_lie_in_it():
    for shape in (cue.Shape("box", -500, -500, 900, 900), cue.Shape("ellipse", 200, 200, 300, 300),
                  cue.Shape("arrow", 1, 1, 1.5, 1), cue.Shape("ellipse", 5, 5, 5.2, 5.1)):  # fmt: skip
        out, drawn, inside = inked(shape, size=(20, 30))
        assert bool(torch.isfinite(out).all()) and 0 <= float(drawn.min()) and float(drawn.max()) <= 1
    assert cue.drawn(photo(size=(1, 1)), [[cue.Shape("box", 0, 0, 1, 1)]], (1, 0, 0), 1, 1)[0].shape == (1, 3, 1, 1)


@pytest.mark.parametrize(("ask", "said"), [
    (lambda: cue.colour("blood"), "'blood' is unknown"),
    (lambda: cue.from_numbers("box", (0.1, 0.1, 0.1, 0.9), "relative", SIZE), "has no extent"),
    (lambda: cue.from_numbers("box", (0, 0, float("nan"), 1), "relative", SIZE), "not four finite numbers"),
    (lambda: cue.from_numbers("star", (0, 0, 1, 1), "relative", SIZE), "'star'"),
    (lambda: cue.from_mask("box", torch.zeros(SIZE), 0.1), "empty"),
    (lambda: cue.from_mask("box", (torch.arange(90)[:, None] % 4 + torch.arange(120) % 4 == 0).float(), 0), "pieces"),
    (lambda: cue.line_width(-1, SIZE), "-1 px wide"),
    (lambda: inked(cue.Shape("box", 0, 0, 9, 9), fill=1.5), "fill is 1.5"),
])  # fmt: skip
def test_bad_input_is_named(ask, said):
    with pytest.raises(EditError, match=said):
        ask()
