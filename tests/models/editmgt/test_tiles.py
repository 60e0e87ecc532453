"""Tiles of a larger canvas: they cover it, agree where they overlap, and change nothing where there is one."""

import pytest
import torch

from editkit.models.editmgt import schedule
from editkit.models.editmgt.layers import Capture
from editkit.models.editmgt.sampling import Options, Text, run
from editkit.models.editmgt.tiles import decoded, encoded, tiles
from editkit.models.editmgt.transformer import EditMGT
from editkit.models.errors import EditError
from editkit.tests.tiny_editmgt_release import CODES, MASK, TRANSFORMER, randomised

SIZE, TILE, MICRO = (10, 12), 8, (128, 128, 0, 0, 6)


@pytest.fixture(scope="module")
def net():
    made = EditMGT(TRANSFORMER)
    made.load_state_dict(randomised(made, 0))
    return made.eval()


def text(seed, batch=2):
    draw = torch.Generator().manual_seed(seed)
    pooled = torch.randn(batch, TRANSFORMER.pooled_projection_dim, generator=draw)
    return Text(torch.randn(batch, 5, TRANSFORMER.joint_attention_dim, generator=draw), pooled)


def picture(batch=2, size=SIZE, seed=5):
    return torch.randint(CODES, (batch, *size), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def edited(net, options, size=SIZE, seed=3, batch=2, **more):
    more = {"reference": picture(batch, size)} | more
    return run(net, text(1, batch), text(2, batch), size, options, generator=torch.Generator().manual_seed(seed),
               micro=MICRO, **more)  # fmt: skip


@pytest.mark.parametrize("length", range(8, 60, 2))
def test_tiles_cover_every_place_and_overlap_by_a_quarter(length):
    layout = tiles((length, 8), 8)
    tops = [top for top, _ in layout.at]
    assert tops[0] == 0 and tops[-1] == length - 8 and all(top % 2 == 0 for top in tops)
    assert all(0 < b - a <= 6 for a, b in zip(tops, tops[1:]))
    assert len(tops) == 1 + max(0, -(-(length - 8) // 6))  # and no more than that takes


def test_a_canvas_that_a_tile_covers_has_one():
    for tile in (None, 0, 8, 100, (100, 8)):
        assert tiles((6, 8), tile).at == ((0, 0),) and tiles((6, 8), tile).tile == (6, 8)


def test_an_overlap_as_large_as_a_tile_is_said():
    with pytest.raises(EditError, match="cannot overlap by 8"):
        tiles((16, 16), 8, 8)


@pytest.mark.parametrize("size", [(1, 1), (3, 2)])
def test_the_mean_of_a_canvass_own_tiles_is_the_canvas(size):
    layout = tiles((20 * size[0], 14 * size[1]), 8)
    canvas = torch.randn(2, 3, *layout.size, generator=torch.Generator().manual_seed(0))
    parts = [layout.cut(canvas, number) for number in range(len(layout.at))]
    torch.testing.assert_close(layout.mean(parts), canvas, rtol=0, atol=1e-6)
    ids = picture(2, layout.size)
    assert torch.equal(layout.inmost(layout.cut(ids, number) for number in range(len(layout.at))), ids)


@pytest.mark.parametrize("upright", [False, True])
def test_in_an_overlap_each_tile_counts_more_towards_its_middle(upright):
    layout = tiles((14, 8) if upright else (8, 14), 8)
    parts = [torch.full((1, 1, 8, 8), float(number)) for number in range(2)]
    turned = (lambda x: x.transpose(-1, -2)) if upright else (lambda x: x)
    row = turned(layout.mean(parts))[0, 0, 3]
    assert (row[:6] == 0).all() and (row[8:] == 1).all() and 0 < row[6] < 0.5 < row[7] < 1
    owners = turned(layout.inmost(part[:, 0].long() for part in parts))[0, 3]
    assert owners.tolist() == [0] * 7 + [1] * 7


def test_the_same_tiles_lie_on_pixels_and_on_half_the_grid():
    layout = tiles((16, 12), 8)
    assert layout.on((256, 192)).at == tuple((16 * a, 16 * b) for a, b in layout.at)
    assert layout.on((8, 6)).tile == (4, 4)
    with pytest.raises(EditError, match="use even sides"):
        layout.on((5, 6))


def test_a_picture_is_encoded_and_decoded_tile_by_tile():
    """By a code that sees one token, tiles make no difference; and no more than a tile is ever asked for."""
    layout, asked = tiles((10, 12), 8), []

    def encode(image):
        asked.append(tuple(image.shape[-2:]))
        return (image[:, 0, ::16, ::16] * 100).round().long()

    def decode(vectors):
        asked.append(tuple(vectors.shape[-2:]))
        return vectors.repeat_interleave(16, 2).repeat_interleave(16, 3)

    ids = picture()
    image = decode(ids[:, None] / 100)
    asked.clear()
    assert torch.equal(encoded(encode, image, layout), ids)
    torch.testing.assert_close(decoded(decode, ids[:, None] / 100, layout), image, rtol=0, atol=1e-6)
    assert set(asked) == {(128, 128), (8, 8)} and len(asked) == 2 * len(layout.at)


@pytest.mark.parametrize("more", [{}, {"threshold": 0.5, "blocks": (1,)}, {"exact_draws": True}])
def test_a_canvas_of_one_tile_gives_exactly_the_same_tokens(net, more):
    given = {"localise": ramp} if "blocks" in more else {}
    whole, tiled = (edited(net, Options(steps=4, tile=tile, **more), (8, 6), **given) for tile in (0, TILE))
    assert torch.equal(whole.tokens, tiled.tokens) and torch.equal(whole.held, tiled.held)


def ramp(maps, grid):
    """Localisation scores that rise from the left to the right."""
    return torch.linspace(0, 1, grid[1]).expand(len(next(iter(maps.values()))), *grid)


def by_token(net, monkeypatch):
    """A network whose features are those of the token alone, whatever is around it."""
    table = torch.randn(MASK + 1, TRANSFORMER.width, generator=torch.Generator().manual_seed(1))

    def features(ids, prompt, plan, capture=None, table=None):
        if capture is not None:
            capture.maps[1] = torch.ones(len(ids) // 2, ids[0].numel() // 4)
        return chosen[ids].permute(0, 3, 1, 2)

    chosen = table
    monkeypatch.setattr(net, "features", features)


def test_a_network_that_sees_one_token_gives_the_same_canvas_with_and_without_tiles(net, monkeypatch):
    by_token(net, monkeypatch)
    whole, tiled = (edited(net, Options(steps=5, tile=tile)).tokens for tile in (0, TILE))
    assert torch.equal(whole, tiled)


def test_tiles_are_shown_one_canvas_at_every_step(net, monkeypatch):
    """Where tiles overlap they are told the same tokens, and what is drawn in a step is one picture."""
    given, features = [], net.features
    monkeypatch.setattr(net, "features", lambda ids, *a, **k: given.append(ids) or features(ids, *a, **k))
    seen, layout = [], tiles(SIZE, TILE)
    edited(net, Options(steps=4, tile=TILE), report=seen.append)
    count = len(layout.at)
    assert count == 4 and len(given) == 4 * count
    canvas = torch.full((2, *SIZE), MASK)
    for step, told in enumerate(seen):
        for number, ids in enumerate(given[count * step : count * step + count]):
            assert torch.equal(ids, torch.cat([layout.cut(canvas, number)] * 2))
        canvas = told.tokens
    assert int(canvas.max()) < CODES


def test_each_tile_is_shown_its_part_of_the_reference(net, monkeypatch):
    shown, features = [], net.features
    monkeypatch.setattr(net, "features", lambda i, p, *a, **k: shown.append(p.reference) or features(i, p, *a, **k))
    layout, reference = tiles(SIZE, TILE), picture()
    edited(net, Options(steps=1, tile=TILE))
    for number, found in enumerate(shown):
        with torch.no_grad():
            part = torch.cat([layout.cut(reference, number)] * 2)
            torch.testing.assert_close(found, net.tokens(part, torch.float32)[0], rtol=0, atol=1e-6)


def test_what_tiles_say_of_a_token_is_averaged_as_logits(net, monkeypatch):
    """One step by hand: the mean of the guided logits of both tiles, weighted by their windows."""
    found, draw = [], schedule.draw
    monkeypatch.setattr(schedule, "draw", lambda rows, *a, **k: found.append(rows.probabilities) or draw(rows, *a, **k))
    options, layout, reference = Options(steps=1, tile=TILE, gamma=1.0), tiles(SIZE, TILE), picture()
    edited(net, options)
    logits = []
    with torch.no_grad():
        for number in range(len(layout.at)):
            ids, part = torch.full((2, TILE, TILE), MASK), layout.cut(reference, number)
            one, other = (
                net(ids, net.prompt(t.states, t.pooled, part, MICRO), torch.zeros(2)) for t in (text(1), text(2))
            )
            logits.append(other + options.guidance * (one - other))
    expected = layout.mean(logits).flatten(2).transpose(1, 2).flatten(0, 1).softmax(-1)
    torch.testing.assert_close(found[0], expected, rtol=0, atol=2e-5)


def test_attention_is_put_together_over_the_whole_canvas(net):
    """The map that the localisation sees is the mean of what each tile's own run reads."""
    read, layout, half = [], tiles(SIZE, TILE), tiles(SIZE, TILE).on((5, 6))
    edited(net, Options(steps=1, tile=TILE, blocks=(0, 2), gamma=1.0),
           localise=lambda maps, grid: read.append((dict(maps), grid)) or torch.zeros(2, *grid))  # fmt: skip
    maps, grid = read[0]
    assert grid == (5, 6) and {block: tuple(m.shape) for block, m in maps.items()} == {0: (2, 30), 2: (2, 30)}
    own = []
    with torch.no_grad():
        for number in range(len(layout.at)):
            capture, said = Capture((0, 2)), text(1)
            prompt = net.prompt(said.states, said.pooled, layout.cut(picture(), number), MICRO)
            net(torch.full((2, TILE, TILE), MASK), prompt, torch.zeros(2), capture=capture)
            own.append(capture.maps[2].unflatten(-1, half.tile)[:, None])
    torch.testing.assert_close(maps[2], half.mean(own)[:, 0].flatten(1), rtol=0, atol=1e-6)


def test_held_tokens_are_the_references_across_tiles(net):
    result = edited(net, Options(steps=4, tile=TILE, threshold=0.5, blocks=(1,)), localise=ramp)
    below = schedule.hold_where(torch.linspace(0, 1, 6).expand(2, 5, 6), 0.5, SIZE).view(2, *SIZE)
    assert torch.equal(result.held, below) and bool(below.any()) and bool((~below).any())
    assert torch.equal(result.tokens[below], picture()[below])


def test_tiles_in_which_nothing_is_new_are_passed_over_and_nothing_else_changes(net, monkeypatch):
    counted, features = [], net.features
    monkeypatch.setattr(net, "features", lambda ids, *a, **k: counted.append(1) or features(ids, *a, **k))
    mask = torch.zeros(2, *SIZE, dtype=torch.bool)
    mask[:, :2, :3] = True  # in the first tile alone
    result = edited(net, Options(steps=3, tile=TILE), mask=mask)
    assert len(counted) == 3
    assert torch.equal(result.held, ~mask) and torch.equal(result.tokens[~mask], picture()[~mask])
    assert (result.tokens[mask] != picture()[mask]).any() and int(result.tokens.max()) < CODES
    monkeypatch.setattr("editkit.models.editmgt.sampling._Run._of_tile", ask_all)
    assert torch.equal(edited(net, Options(steps=3, tile=TILE), mask=mask).tokens, result.tokens)


def ask_all(run, number, index, maps):
    """A tile's features, whether anything in it is new or not."""
    from editkit.models.editmgt.transformer import at

    tokens = run.tiles.cut(run.tokens, number)
    return run.net.features(torch.cat([tokens] * 2), run.prompts[number], at(run.plan, index), table=run.table)


def test_approximations_keep_what_is_each_tiles_own(net):
    for more in ({"reference_every": 2}, {"guidance_until": 0.5}):
        result = edited(net, Options(steps=4, tile=TILE, **more))
        assert int(result.tokens.max()) < CODES and int(result.tokens.min()) >= 0
    seen = {every: [] for every in (1, 4)}
    for every, reports in seen.items():
        edited(net, Options(steps=2, tile=TILE, reference_every=every), report=reports.append)
    assert torch.equal(seen[1][0].clean, seen[4][0].clean)


def test_text_to_image_works_in_tiles(net):
    tokens = edited(net, Options(steps=3, tile=TILE), reference=None).tokens
    assert tokens.shape == (2, *SIZE) and int(tokens.max()) < CODES
