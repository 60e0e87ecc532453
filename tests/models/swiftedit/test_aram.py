"""ARaM against Eq. 9 and the released code's form of it, written out pixel by pixel."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from editkit.models.errors import EditError
from editkit.models.swiftedit import aram
from editkit.models.swiftedit.aram import OFFICIAL, PRESETS, Aram

HEADS, WIDTH, PIXELS, WORDS, TOKENS = 2, 8, 6, 5, 4


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def naive_attention(query, key, value):
    """[n, c], [m, c], [m, c] to [n, c], one head and one pixel at a time."""
    out, size = torch.zeros_like(query), WIDTH // HEADS
    for head in range(HEADS):
        part = slice(head * size, (head + 1) * size)
        for pixel in range(len(query)):
            logits = [float(query[pixel, part] @ k[part]) / math.sqrt(size) for k in key]
            weights = [math.exp(x) for x in logits]
            for weight, v in zip(weights, value, strict=True):
                out[pixel, part] += weight / sum(weights) * v[part]
    return out


@pytest.fixture
def terms():
    """Text attention of the edit row, and image values and image terms of both rows, of a layer of 6 pixels."""
    query, text_key, text_value = (
        draws(2, PIXELS, WIDTH),
        draws(2, WORDS, WIDTH, seed=1),
        draws(2, WORDS, WIDTH, seed=2),
    )
    key, value = draws(2, TOKENS, WIDTH, seed=3), draws(2, TOKENS, WIDTH, seed=4)
    text = aram.attend(query, text_key, text_value, HEADS)
    return text[1:], value, aram.attend(query, key, value, HEADS)


MASK = torch.tensor([1.0, 0.0, 1.0, 0.0, 0.25, 1.0])


def edit_row(terms, options, mask=MASK):
    """The edit row as a layer puts it together."""
    text, value, image = terms
    background = image[:1] if options.background == "source" else image[1:]
    foreground = aram.foreground_term(value[1:], image[1:], options)
    return aram.edit_row(text, foreground, background, mask[None, :, None], options)


def naive_edit_row(terms, options, mask=MASK):
    """The same pixel by pixel, channel by channel."""
    text, value, image = terms
    out = torch.zeros(1, PIXELS, WIDTH)
    for pixel in range(PIXELS):
        inside = float(mask[pixel])
        for channel in range(WIDTH):
            mean = sum(float(value[1, token, channel]) for token in range(TOKENS)) / TOKENS
            attended = [float(image[row, pixel, channel]) for row in (0, 1)]
            words = options.text_scale * float(text[0, pixel, channel])
            words *= inside if options.text_region == "masked" else 1
            foreground = mean if options.foreground == "uniform" else attended[1]
            background = attended[options.background != "source"]
            picture = options.edit_scale * inside * foreground
            out[0, pixel, channel] = words + picture + options.non_edit_scale * (1 - inside) * background
    return out


def test_attention_is_a_softmax_per_head():
    query, key, value = (
        draws(2, PIXELS, WIDTH),
        draws(2, WORDS, WIDTH, seed=1),
        draws(2, WORDS, WIDTH, seed=2),
    )
    ours = aram.attend(query, key, value, HEADS)
    expected = torch.stack([naive_attention(*row) for row in zip(query, key, value, strict=True)])
    torch.testing.assert_close(ours, expected)


def test_the_source_row_adds_the_image_at_its_scale():
    text, image = draws(1, PIXELS, WIDTH), draws(1, PIXELS, WIDTH, seed=1)
    torch.testing.assert_close(aram.source_row(text, image), text + image)
    torch.testing.assert_close(aram.source_row(text, image, 0.3), text + 0.3 * image)


@pytest.mark.parametrize(
    "options",
    [
        *PRESETS.values(),
        Aram(1.5, 0.7, 0.6),
        Aram(1.5, 0.7, 0.6, text_region="masked"),
        Aram(1.5, 0.7, 0.6, foreground="query"),
        Aram(1.5, 0.7, 0.6, background="edit"),
    ],
    ids=str,
)
def test_the_edit_row_is_what_loops_over_pixels_give(terms, options):
    torch.testing.assert_close(edit_row(terms, options), naive_edit_row(terms, options))


def test_the_presets_are_the_released_defaults_the_papers_scales_and_eq_9_to_the_letter():
    scales = {name: (p.text_scale, p.edit_scale, p.non_edit_scale) for name, p in PRESETS.items()}
    assert scales == {"official": (1.0, 0.2, 1.0), "paper": (2.0, 0.0, 1.0), "eq9": (2.0, 0.0, 1.0)}
    assert PRESETS["paper"] == replace(OFFICIAL, text_scale=2.0, edit_scale=0.0)
    letter = PRESETS["eq9"]
    chosen = letter.text_region, letter.foreground, letter.background, letter.layers
    assert chosen == ("masked", "query", "edit", "all")


def test_a_white_mask_leaves_text_and_the_uniform_image_term(terms):
    text, value, _ = terms
    out = edit_row(terms, Aram(1.3, 0.4, 0.8), torch.ones(PIXELS))
    torch.testing.assert_close(out, 1.3 * text + 0.4 * value[1:].mean(1, keepdim=True))


def test_a_black_mask_leaves_text_and_the_source_rows_image_term(terms):
    text, _, image = terms
    out = edit_row(terms, Aram(1.3, 0.4, 0.8), torch.zeros(PIXELS))
    torch.testing.assert_close(out, 1.3 * text + 0.8 * image[:1])


@pytest.mark.parametrize("name", PRESETS)
def test_a_soft_mask_mixes_black_and_white_linearly(terms, name):
    options = replace(PRESETS[name], edit_scale=0.4)
    black, grey, white = (edit_row(terms, options, torch.full((PIXELS,), v)) for v in (0.0, 0.3, 1.0))
    torch.testing.assert_close(grey, 0.7 * black + 0.3 * white)


def test_scales_may_differ_from_row_to_row(terms):
    text, value, image = (x.expand(3, *x.shape[1:]) if len(x) == 1 else x for x in terms)
    numbers = (1.0, 0.2, 1.0), (2.0, 0.0, 0.5), (0.0, 0.9, 0.1)
    columns = [aram.scales(*column) for column in zip(*numbers, strict=True)]
    assert columns[0].shape == (3, 1, 1)
    mean, background = value[1:].mean(1, keepdim=True), image[:1]
    together = aram.edit_row(text, mean, background, MASK[None, :, None], Aram(*columns))
    for row, three in enumerate(numbers):
        alone = aram.edit_row(text[row : row + 1], mean, background, MASK[None, :, None], Aram(*three))
        torch.testing.assert_close(together[row : row + 1], alone)


def test_a_third_picture_joins_inside_the_mask_and_is_drawn_beside():
    texts = tuple(draws(1, PIXELS, WIDTH, seed=s) for s in range(3))
    values = draws(1, TOKENS, WIDTH, seed=3), draws(1, TOKENS, WIDTH, seed=4)
    background, mask = draws(1, PIXELS, WIDTH, seed=5), MASK[None, :, None].round()
    edit, other = aram.auxiliary_rows(texts, values, background, mask, Aram(1.5, 0.4, 0.9))
    mean = sum(v.mean(1, keepdim=True) for v in values) / 2
    inside, outside = 1.5 * texts[1] + 0.4 * mean, texts[1] + 0.9 * background
    torch.testing.assert_close(edit, torch.where(mask > 0, inside, outside))
    torch.testing.assert_close(other, texts[2] + values[1].mean(1, keepdim=True))


@pytest.mark.parametrize(
    "layers, rescaled", [("up", ["up"]), ("mid+up", ["mid", "up"]), ("all", ["down", "mid", "up"])]
)
def test_which_layers_are_rescaled(layers, rescaled):
    assert [g for g in ("down", "mid", "up") if Aram(layers=layers).rescales(g)] == rescaled


def test_a_global_image_scale_takes_the_place_of_the_mask():
    options = Aram(layers="all", image_scale=0.5)
    assert not any(options.rescales(group) for group in ("down", "mid", "up"))
    assert not options.needs_source and OFFICIAL.needs_source and not PRESETS["eq9"].needs_source


@pytest.mark.parametrize("field", ["text_region", "foreground", "background", "layers"])
def test_an_unknown_option_is_refused_with_the_known_ones(field):
    with pytest.raises(EditError, match="'sideways' is unknown; choose one of "):
        Aram(**{field: "sideways"})


@pytest.mark.parametrize("shape", [(64, 64), (65, 33), (48, 80), (7, 1)])
def test_a_layers_grid_is_found_for_odd_and_oblong_sizes(shape):
    layer = shape
    for _ in range(4):
        assert aram.grid(layer[0] * layer[1], shape) == layer
        layer = tuple(-(-side // 2) for side in layer)


def test_a_number_of_tokens_that_no_layer_has_is_refused():
    with pytest.raises(EditError, match="1000 tokens does not belong to a latent of 64x32"):
        aram.grid(1000, (32, 64))


def test_the_mask_is_fitted_to_a_layer_by_its_nearest_pixel():
    mask = draws(2, 9, 6)
    fitted = aram.fitted_mask(mask, (3, 2))
    assert fitted.shape == (2, 6, 1)
    torch.testing.assert_close(fitted[..., 0], mask[:, ::3, ::3].flatten(1), atol=0, rtol=0)


def test_a_users_mask_of_the_latents_size_is_kept():
    mask = draws(1, 8, 8).sigmoid()
    assert torch.equal(aram.latent_mask(mask, (8, 8)), mask)


def test_a_users_larger_mask_is_averaged_so_that_a_thin_stroke_counts():
    mask = torch.zeros(1, 32, 48)
    mask[:, 5] = 1  # one row of 8
    out = aram.latent_mask(mask, (4, 6))
    torch.testing.assert_close(out[0, 0], torch.full((6,), 1 / 8))
    assert out[0, 1:].sum() == 0


def test_a_users_smaller_mask_is_enlarged_smoothly():
    mask = torch.tensor([[[0.0, 1.0]]])
    out = aram.latent_mask(mask, (1, 4))
    torch.testing.assert_close(out, torch.tensor([[[0.0, 0.25, 0.75, 1.0]]]))


LARGE = 300.0  # logits as they occur


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_uniform_foreground_holds_in_half_precision(dtype):
    value = draws(1, TOKENS, WIDTH, seed=4)
    half = aram.foreground_term(value.to(dtype), None)
    torch.testing.assert_close(half.float(), value.mean(1, keepdim=True), atol=0.01, rtol=0.01)


def test_the_released_trick_fails_in_fp16_where_logits_are_large():
    query, key, value = (
        draws(1, PIXELS, WIDTH),
        LARGE * draws(1, TOKENS, WIDTH, seed=3),
        draws(1, TOKENS, WIDTH, seed=4),
    )
    logits = query @ key.transpose(1, 2)
    lowered = [(logits.to(d) + torch.finfo(d).min).float() for d in (torch.float32, torch.float16)]
    full, half = (F.softmax(x, -1) @ value for x in lowered)
    mean = aram.foreground_term(value, None).expand_as(full)
    torch.testing.assert_close(full, mean)
    assert (half.nan_to_num(9.0) - mean).abs().max() > 0.5
