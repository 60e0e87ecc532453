"""What a run of EditMGT saves, each beside the plain path: that it is saved, and that nothing else changes.

The whole run against the plain path is in test_sampling; Gemma's pads are in test_gemma, the bias by itself in
test_attention.
"""

from collections import Counter

import pytest
import torch
from torch.nn import functional as F

from editkit.models.editmgt import atlas, layers, sampling, transformer
from editkit.models.editmgt.attention import Attend
from editkit.models.editmgt.layers import Capture
from editkit.models.editmgt.sampling import Options
from editkit.tests.models.editmgt.test_sampling import MICRO, SIZE, edited, picture, region, text
from editkit.tests.tiny_editmgt_release import MASK

STEPS = 4


def test_only_unknown_tokens_reach_the_vocabulary_and_guidance_comes_before_it(net, monkeypatch):
    """One projection a step, of as many rows as there are unknown tokens; the plain path has two, of all of them."""
    rows, unknown, logits = [], [2 * int(region()[0].numel())], net.mlm_layer.logits
    monkeypatch.setattr(net.mlm_layer, "logits", lambda x: rows.append(len(x)) or logits(x))
    edited(net, Options(steps=STEPS), report=lambda told: unknown.append(int((told.tokens == MASK).sum())))
    assert rows == unknown[:-1] and rows[-1] < rows[0] / 2 and unknown[-1] == 0


def test_what_does_not_change_is_worked_out_once(net, monkeypatch):
    """Text, pooled condition and reference, the table of embeddings, positions, and every block's AdaLN."""
    calls = Counter()

    def counted(owner, name):
        plain = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a, **k: calls.update([name]) or plain(*a, **k))

    for owner, name in ((net, "prompt"), (net.embed, "table"), (transformer, "rotary_table"), (net, "features")):
        counted(owner, name)
    modules = [m for m in net.modules() if isinstance(m, layers.Modulation)]
    seen = Counter()
    handles = [m.linear.register_forward_hook(lambda m, _, out: seen.update([id(m)])) for m in modules]
    edited(net, Options(steps=STEPS))
    for handle in handles:
        handle.remove()
    assert calls == {"prompt": 1, "table": 1, "rotary_table": 2, "features": STEPS}
    # once for text and picture and all steps; once more where the reference goes through the same
    contexts = {id(block.norm1_context.linear) for block in net.transformer_blocks}
    assert len(seen) == len(modules) and all(n == (1 if key in contexts else 2) for key, n in seen.items())


@pytest.mark.parametrize("bias", ["everything", "picture"])
def test_no_kernel_is_given_a_matrix_of_biases(net, monkeypatch, bias):
    masks, plain = [], F.scaled_dot_product_attention

    def recorded(*given, **more):
        masks.append(more.get("attn_mask", given[3] if len(given) > 3 else None))
        return plain(*given, **more)

    def attend(dense):
        return lambda *given, **more: Attend(*given, **more, dense=dense)

    monkeypatch.setattr(F, "scaled_dot_product_attention", recorded)
    monkeypatch.setattr(sampling, "Attend", attend(False))  # what a GPU takes by itself
    quick = edited(net, Options(steps=STEPS, gamma=1.4, bias=bias)).tokens
    assert masks == [None] * STEPS * net.config.blocks
    monkeypatch.setattr(sampling, "Attend", attend(True))
    assert torch.equal(edited(net, Options(steps=STEPS, gamma=1.4, bias=bias)).tokens, quick)
    assert all(mask is not None for mask in masks[STEPS * net.config.blocks :])


def test_only_the_conditional_halfs_text_rows_of_attention_are_read_and_their_mean_kept(net, monkeypatch):
    shapes, rows, softmax = [], torch.tensor([1, 3]), torch.Tensor.softmax

    def recorded(x, dim):
        shapes.append(tuple(x.shape))
        return softmax(x, dim)

    monkeypatch.setattr(torch.Tensor, "softmax", recorded)
    kept = []
    edited(net, Options(steps=2, blocks=(0, 2), rows=rows),
           localise=lambda maps, grid: kept.append(maps) or torch.ones(2, *grid))  # fmt: skip
    of_maps = [shape for shape in shapes if len(shape) == 4]
    tokens = picture().shape[1] * picture().shape[2] // 4
    assert of_maps == [(2, 2, 2, 5 + tokens)] * 4  # pictures without their unconditional halves, heads, rows, keys
    assert all(one.shape == (2, tokens) for maps in kept for one in maps.values())


def chosen(net, **more):
    return atlas.Atlas(net.config, net.grid(picture()), atlas.Chosen((0, 2), (1, 3), **more))


def test_an_atlas_is_read_beside_a_localisation_and_changes_nothing(net):
    read, made = [], chosen(net)
    options = Options(steps=STEPS, blocks=(1, 2), threshold=0.4)

    def localise(maps, grid):
        read.append({block: one.clone() for block, one in maps.items()})
        return torch.rand(2, *grid, generator=torch.Generator().manual_seed(len(read) % STEPS))

    plain, beside = (
        edited(net, options, localise=localise, watch=watch).tokens for watch in (None, made)
    )
    assert torch.equal(plain, beside) and len(read) == 2 * STEPS
    assert all(torch.equal(a[b], c[b]) for a, c in zip(read[:STEPS], read[STEPS:]) for b in (1, 2))
    assert sorted(made.steps) == [1, 3]
    assert all({block for block, _ in maps} == {0, 2} for maps in made.steps.values())
    assert torch.equal(made.steps[3][2, "text_to_image"], read[3][2])


def test_an_atlas_reads_the_conditional_half_of_the_plain_attention(net):
    made, rows = chosen(net, rows=torch.tensor([1, 3])), torch.tensor([1, 3])
    first = atlas.Atlas(net.config, net.grid(picture()), atlas.Chosen((0, 2), (0,), rows=rows))
    tokens = [edited(net, Options(steps=STEPS), watch=one).tokens for one in (made, first)]
    assert torch.equal(*tokens)
    with torch.no_grad():
        capture = Capture((0, 2), rows)
        prompt = net.prompt(text(1).states, text(1).pooled, picture(), MICRO)
        whole = torch.full((2, *SIZE), MASK)
        net(whole, prompt, torch.full((2,), STEPS - 1.0), attention=Attend(1.1, dense=True), capture=capture)
    for block in (0, 2):
        torch.testing.assert_close(
            first.steps[0][block, "text_to_image"], capture.maps[block], rtol=0, atol=1e-6
        )


def test_without_guidance_the_atlas_reads_the_whole_batch(net):
    made = chosen(net)
    edited(net, Options(steps=STEPS, guidance=1.0), watch=made)
    assert made.pictures == 2


def test_an_atlas_of_tiles_is_their_mean_on_the_whole_canvas(net):
    """As the localisation of the same blocks is joined; every kind of map covers the canvas."""
    made, read = chosen(net), []
    edited(net, Options(steps=STEPS, blocks=(0, 2), tile=4), watch=made,
           localise=lambda maps, grid: read.append(maps) or torch.ones(2, *grid))  # fmt: skip
    tokens = picture().shape[1] * picture().shape[2] // 4
    assert sorted(made.steps) == [1, 3]
    for step, maps in made.steps.items():
        assert set(maps) == {(block, kind) for block in (0, 2) for kind in atlas.KINDS}
        assert all(one.shape == (2, tokens) and bool((one > 0).all()) for one in maps.values())
        assert all(torch.equal(maps[block, "text_to_image"], read[step][block]) for block in (0, 2))
