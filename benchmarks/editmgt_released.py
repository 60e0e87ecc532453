"""EditMGT's sampling as the released code goes about it, on our modules' weights: a yardstick, used nowhere else.

Every step works out anew what the prompt, the reference and the positions become; every block makes its own AdaLN
vectors and its own dense matrix of the reference's strength; where attention is read, all of both halves is, twice, and
goes to the CPU; both halves go through the vocabulary, known tokens too; and a token is drawn for every place from the
CPU's numbers.
"""

import math

import torch
from torch import Tensor

from ..models.editmgt import localise, schedule
from ..models.editmgt.layers import DoubleBlock, SingleBlock, Tokens, grid_ids, modulated, rotary_table
from ..models.editmgt.options import Options, Text
from ..models.editmgt.transformer import EditMGT

Table = tuple[Tensor, Tensor]


def run(
    net: EditMGT, text: Text, negative: Text, reference: Tensor, options: Options, generator: torch.Generator
) -> Tensor:
    """Tokens [b, h, w] of an edit of the reference [b, h, w], with guidance."""
    mask_token, (batch, *size) = net.config.mask_token, reference.shape
    tokens = torch.full_like(reference, mask_token)
    states, pooled = torch.cat([negative.states, text.states]), torch.cat([negative.pooled, text.pooled])
    heat = schedule.temperatures(options.steps, options.temperature)
    for index in range(options.steps):
        kept: dict[int, dict[str, Tensor]] = {}
        told = torch.full((2 * batch,), options.steps - 1.0 - index, device=tokens.device)
        logits = _network(net, torch.cat([tokens] * 2), states, pooled, torch.cat([reference] * 2), told, options, kept)
        without, with_text = logits.chunk(2)
        guided = without + options.guidance * (with_text - without)
        hold = _hold(net, kept, tokens, reference, options)
        tokens = _settled(guided, tokens, index, options, float(heat[index]), hold, generator, mask_token)
        tokens = tokens.view(batch, *size)
    return tokens


def _network(net, ids, states, pooled, reference, told, options, kept) -> Tensor:
    """Logits [2b, codes, h, w]; the maps of the blocks that are read go to `kept`."""
    prompt = net.prompt(states, pooled, reference)
    image, size = net.tokens(ids, prompt.text.dtype)
    condition, still = net.condition(prompt, told), net.condition(prompt, torch.zeros_like(told))
    places = grid_ids(*size, device=ids.device)
    words = torch.zeros(prompt.text.shape[1], 3, dtype=places.dtype, device=ids.device)
    tables = [rotary_table(p, net.config.axes_dims_rope) for p in (torch.cat([words, places]), places)]
    x = Tokens(prompt.text, image, prompt.reference)
    for block in net.transformer_blocks:
        x = _double(block, x, condition, still, tables, options, kept)
    for block in net.single_transformer_blocks:
        x = _single(block, x, condition, still, tables, options, kept)
    made = net.project_from_hidden(net.project_from_hidden_norm(x.image))
    made = made.transpose(1, 2).unflatten(2, size)
    return net.mlm_layer(net.up_block.upsample(made) if net.config.upsample else made)


def _double(block: DoubleBlock, x: Tokens, condition, still, tables, options, kept) -> Tokens:
    attention, text, image = block.attn, x.text.shape[1], x.image.shape[1]
    said, seen, kept_vectors = block.norm1_context(condition), block.norm1(condition), block.norm1(still)
    own = [attention.project_text(modulated(x.text, *said[:2])), attention.project(modulated(x.image, *seen[:2]))]
    joined = [torch.cat(parts, dim=2) for parts in zip(*own, strict=True)]
    given = attention.project(modulated(x.reference, *kept_vectors[:2]))
    out = _attend(block.index, joined, given, text, tables, options, kept)
    parts = out[:, :text], out[:, text : text + image], out[:, text + image :]
    return Tokens(
        _rest(x.text, attention.to_add_out(parts[0]), said, block.ff_context),
        _rest(x.image, attention.to_out[0](parts[1]), seen, block.ff),
        _rest(x.reference, attention.to_out[0](parts[2]), kept_vectors, block.ff),
    )


def _rest(x: Tensor, attended: Tensor, vectors, feed_forward) -> Tensor:
    _, _, gate, shift, scale, second = vectors
    x = x + gate * attended
    return x + second * feed_forward(modulated(x, shift, scale))


def _single(block: SingleBlock, x: Tokens, condition, still, tables, options, kept) -> Tokens:
    text, together = x.text.shape[1], torch.cat([x.text, x.image], dim=1)
    shift, scale, gate = block.norm(condition)
    normed = modulated(together, shift, scale)
    reference_shift, reference_scale, reference_gate = block.norm(still)
    reference = modulated(x.reference, reference_shift, reference_scale)
    own, given = block.attn.project(normed), block.attn.project(reference)
    out = _attend(block.index, own, given, text, tables, options, kept)
    both = together.shape[1]
    together = together + gate * block._out(out[:, :both], normed)
    reference = x.reference + reference_gate * block._out(out[:, both:], reference)
    return Tokens(together[:, :text], together[:, text:], reference)


def _attend(index: int, own, given, text: int, tables: list[Table], options: Options, kept: dict) -> Tensor:
    """Attention of text and picture (`own`) and of the reference (`given`): [b, n, c]."""
    (q, k, v), (given_q, given_k, given_v) = own, given
    q, k, given_q, given_k = (
        _rotated(x, table) for x, table in ((q, tables[0]), (k, tables[0]), (given_q, tables[1]), (given_k, tables[1]))
    )
    if index in options.blocks:
        kept[index] = _maps(q, k, text)
    q, k, v = (torch.cat(pair, dim=2) for pair in ((q, given_q), (k, given_k), (v, given_v)))
    count = given_q.shape[2]
    mask = torch.zeros(q.shape[2], k.shape[2], device=q.device, dtype=q.dtype)
    bias = torch.log(torch.ones(1) * options.gamma)  # on the CPU, as released: one copy for each half of the matrix
    mask[-count:, :-count], mask[:-count, -count:] = bias, bias
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return out.transpose(1, 2).flatten(2)


def _rotated(x: Tensor, table: Table) -> Tensor:
    cosine, sine = table
    real, imaginary = x.reshape(*x.shape[:-1], -1, 2).unbind(-1)
    turned = torch.stack([-imaginary, real], dim=-1).flatten(3)
    return (x.float() * cosine + turned.float() * sine).to(x.dtype)


def _maps(q: Tensor, k: Tensor, text: int) -> dict[str, Tensor]:
    """All of the attention between text and picture, of both halves, and the text's once more, on the CPU."""
    out = {}
    for again in (False, True):
        found = (torch.matmul(q, k.transpose(-2, -1)) / math.sqrt(q.shape[-1])).softmax(-1)
        if again:
            out["again"] = found[:, :, :text, text:].detach().cpu()
            continue
        out |= {
            "text_to_image": found[:, :, :text, text:].cpu(), "image_to_text": found[:, :, text:, :text].cpu(),
            "image_to_image": found[:, :, text:, text:].cpu(), "text_to_text": found[:, :, :text, :text].cpu(),
            "whole": found.cpu(),
        }  # fmt: skip
    return out


def _hold(net, kept: dict, tokens: Tensor, reference: Tensor, options: Options) -> schedule.Hold | None:
    """What the maps of the conditional half, on the CPU, say is to be held."""
    if not kept:
        return None
    stacks = [torch.stack([maps["text_to_image"].chunk(2)[1] for maps in kept.values()], dim=1) for _ in range(2)]
    scores = localise.localisation(stacks[0].mean(dim=(1, 2, 3)), net.grid(tokens)).to(tokens.device)
    where = schedule.hold_where(scores, options.threshold, tuple(tokens.shape[1:]))
    return schedule.Hold(where, reference.flatten(1))


def _settled(guided, tokens, index, options, heat, hold, generator, mask_token) -> Tensor:
    """A step of the scheduler on logits [b, codes, h, w] of all places: tokens [b, n]."""
    probabilities = guided.flatten(2).permute(0, 2, 1).softmax(-1)
    rows = schedule.Rows(
        torch.arange(tokens.numel(), device=tokens.device), probabilities.flatten(0, 1),
        (len(tokens), tokens[0].numel()),
    )  # fmt: skip
    sampled = torch.multinomial(rows.probabilities.to(generator.device), 1, generator=generator)[:, 0]
    last = index == options.steps - 1
    uniform = None if last else torch.rand(rows.shape, generator=generator).to(tokens.device)
    drawn = schedule.Draw(sampled.to(tokens.device).view(rows.shape), uniform)
    ratio = None if last else schedule.mask_ratio(index, options.steps, options.schedule)
    return schedule.step(
        tokens.flatten(1), drawn, rows.of, mask_token=mask_token, ratio=ratio, temperature=heat, hold=hold
    ).tokens
