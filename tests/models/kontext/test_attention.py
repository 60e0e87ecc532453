"""Attention over a layout against the same with a dense mask, and what may depend on what."""

import pytest
import torch
from torch.nn import functional as F

from editkit.models.errors import EditError
from editkit.models.kontext.attention import Attention, attention_of, extended
from editkit.models.kontext.plan import Plan, Planned, regions
from editkit.models.kontext.references import Reference

TEXT, HEADS, HEAD, TARGET = 5, 2, 16, (8, 12)  # 4 x 6 tokens
REGION = torch.zeros(4, 6)
REGION[1:3, 2:5] = 1
SOFT = REGION * torch.linspace(0.2, 1, 6)
HALF = torch.tensor([[1.0, 0.0], [0.3, 1.0]])


def layout(*settings, sigma=0.5):
    """The layout of references of 4 x 4 latent pixels (2 x 2 tokens) with these settings."""
    planned = tuple(Planned(Reference(torch.zeros(1, 16, 4, 4), **one)) for one in settings)
    return Plan(planned, regions(planned), TARGET).at(sigma, TARGET)[1]


def attend(q, k, v, mask):
    """As ComfyUI's: [b, h, n, d] to [b, n, h·d]."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


def qkv(tokens, seed=0, dtype=torch.float32):
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(2, HEADS, TEXT + tokens, HEAD, generator=random).to(dtype) for _ in range(3)]


def dense(made, settings):
    """The same as one additive mask, entry by entry from the words of the docstring."""
    owners = [-1] * TEXT + made.owners().tolist()
    confined = [0] * TEXT + made._confined().tolist()
    weights = {n: (b.weight if b.weight is not None else torch.ones(b.count)) for n, b in enumerate(made.blocks, 1)}
    first = {n: owners.index(n) for n in weights}
    masks = [s.get("target_mask") for s in settings]
    bias = torch.zeros(len(owners), len(owners), dtype=torch.float64)
    for i, query in enumerate(owners):
        for j, key in enumerate(owners):
            if key >= 1 and query != key:
                bias[i, j] += weights[key][j - first[key]].double().log()
            if key >= 1 and query == 0 and masks[key - 1] is not None:
                bias[i, j] += masks[key - 1].flatten()[i - TEXT].double().log()  # log 0: not seen
            if confined[j] & ~confined[i]:
                bias[i, j] = float("-inf")
    return bias.float()


CASES = {
    "strength": [{"strength": 0.4}],
    "two_strengths": [{"strength": 0.4}, {"strength": 2.5}],
    "one_of_two": [{}, {"strength": 0.1}],
    "mask": [{"mask": HALF}],
    "mask_and_strength": [{"mask": HALF, "strength": 0.7}, {}],
    "direct": [{"target_mask": REGION, "confine": "direct"}],
    "direct_soft": [{"target_mask": SOFT, "confine": "direct", "strength": 0.5}, {"mask": HALF}],
    "strict": [{"target_mask": REGION}],
    "strict_soft": [{"target_mask": SOFT, "mask": HALF}, {"strength": 0.5}],
    "two_regions": [{"target_mask": REGION}, {"target_mask": 1 - REGION, "strength": 0.5}],
    "overlap": [{"target_mask": REGION}, {"target_mask": torch.ones(4, 6).triu()}, {}],
    "both_kinds": [{"target_mask": REGION}, {"target_mask": 1 - SOFT, "confine": "direct"}],
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_attention_with_the_dense_mask(name):
    made = layout(*CASES[name])
    q, k, v = qkv(made.tokens)
    wanted = attend(q, k, v, dense(made, CASES[name]))
    assert not made.plain
    assert float((attention_of(made)(attend, q, k, v) - wanted).abs().max()) < 2e-6
    assert float((attend(q, k, v, None) - wanted).abs().max()) > 1e-3  # the mask matters


@pytest.mark.parametrize("name", CASES)
def test_with_the_context_from_a_cache_the_rest_is_the_same(name):
    """Queries of text and target alone, keys of all."""
    made = layout(*CASES[name])
    q, k, v = qkv(made.tokens)
    live = TEXT + made.target_tokens
    whole = attention_of(made)(attend, q, k, v)[:, :live]
    alone = attention_of(made, context=False)(attend, q[:, :, :live], k, v)
    assert float((alone - whole).abs().max()) < 2e-6


def test_without_settings_the_call_is_the_networks_own():
    made, seen = layout({}, {}), []
    q, k, v = qkv(made.tokens)

    def watched(*given):
        seen.append(given)
        return attend(*given)

    attention_of(made)(watched, q, k, v)
    assert made.plain and len(seen) == 1 and all(a is b for a, b in zip(seen[0], (q, k, v, None), strict=True))


def test_in_bf16_a_strength_is_as_precise_as_the_numbers_are():
    made = layout({"strength": 0.37})
    q, k, v = qkv(made.tokens)
    exact = attention_of(made)(attend, q, k, v)
    low = Attention(made)(attend, *(x.bfloat16() for x in (q, k, v))).float()
    plain = attend(*(x.bfloat16() for x in (q, k, v)), None).float() - attend(q, k, v, None)
    assert float((low - exact).abs().mean()) < 2 * float(plain.abs().mean())


def test_no_key_of_a_group_is_dropped_twice_and_every_query_is_asked_once():
    for settings in CASES.values():
        groups = attention_of(layout(*settings)).groups
        queries = torch.cat([g.queries for g in groups])
        assert sum(g.text for g in groups) == 1 and sorted(queries.tolist()) == list(range(len(queries)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool])
def test_a_mask_of_text_and_target_lets_references_through(dtype):
    made = layout({}, {"strength": 0.5})
    q, k, v = qkv(made.tokens)
    old = TEXT + made.target_tokens
    mask = torch.zeros(1, 1, old, old) if dtype == torch.float32 else torch.ones(1, 1, old, old, dtype=torch.bool)
    attention = attention_of(made)
    assert torch.equal(attention(attend, q, k, v, mask), attention(attend, q, k, v, extended(mask, TEXT, attention)))
    assert float((attention(attend, q, k, v, mask) - attention(attend, q, k, v)).abs().max()) < 1e-6
    mask[..., 1] = -4.0 if dtype == torch.float32 else False
    assert float((attention(attend, q, k, v, mask) - attention(attend, q, k, v)).abs().max()) > 1e-3


def test_a_mask_of_another_length_and_other_tokens_are_refused():
    made = layout({"strength": 0.5})
    q, k, v = qkv(made.tokens)
    with pytest.raises(EditError, match="3 tokens"):
        attention_of(made)(attend, q, k, v, torch.zeros(1, 1, 3, 3))
    with pytest.raises(EditError, match="another patch"):
        attention_of(made)(attend, q, k[:, :, 1:], v[:, :, 1:])


def stacked(made, tokens, seed=3, blocks=4):
    """Some layers of attention and mixing over a sequence, as a network has them."""
    random = torch.Generator().manual_seed(seed)
    x = tokens
    for _ in range(blocks):
        weights = [torch.randn(HEADS * HEAD, HEADS * HEAD, generator=random) / 4 for _ in range(4)]
        q, k, v = ((x @ w).unflatten(-1, (HEADS, HEAD)).transpose(1, 2) for w in weights[:3])
        x = x + attention_of(made)(attend, q, k, v) @ weights[3]
    return x


@pytest.mark.parametrize("confine", ["strict", "direct"])
def test_how_deep_a_target_mask_confines(confine):
    """strict: at any depth. direct: in the first layer only, for the rest of the picture is still mixed with."""
    settings = [{}, {"target_mask": REGION, "confine": confine}]
    made = layout(*settings)
    random = torch.Generator().manual_seed(1)
    tokens = torch.randn(1, TEXT + made.tokens, HEADS * HEAD, generator=random)
    other = tokens.clone()
    other[:, -4:] = torch.randn(1, 4, HEADS * HEAD, generator=random)
    outside = TEXT + (REGION.flatten() == 0).nonzero()[:, 0]
    inside = TEXT + (REGION.flatten() == 1).nonzero()[:, 0]
    for depth, equal in ((1, True), (4, confine == "strict")):
        a, b = (stacked(made, x, blocks=depth) for x in (tokens, other))
        assert torch.equal(a[:, outside], b[:, outside]) is equal
        assert float((a[:, inside] - b[:, inside]).abs().max()) > 1e-3
