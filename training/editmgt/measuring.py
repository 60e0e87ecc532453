"""What is measured beside the loss: whether edits follow their instruction, and what the threshold λ of Fig. 4 does."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ...models.editmgt import sampling
from ...models.editmgt.localise import Smoothing, consolidated, localisation
from ...models.editmgt.options import Options, Text
from ...models.editmgt.transformer import EditMGT
from .examples import Encoders, Example, Texts

AT_ONCE = 32  # edits sampled together


def localise(maps: dict[int, Tensor], size: tuple[int, int]) -> Tensor:
    """Eq. 3 as it is: the mean of the blocks' attention, rescaled to 0..1 in each picture, [b, h, w], not smoothed."""
    return localisation(consolidated(maps), size, Smoothing("none"))


@torch.no_grad()
def edit(
    net: EditMGT, texts: Texts, edits: Sequence[Example], options: Options, *, negative: str = "", seed: int = 0,
    micro: tuple = (1024, 1024, 0, 0, 6),
) -> Tensor:  # fmt: skip
    """Edits every source by its instruction: ids [n, h, w]. A batch has one stream of random numbers."""
    generator, made = torch.Generator().manual_seed(seed), []
    device = net.embed.embeddings.weight.device
    for first in range(0, len(edits), AT_ONCE):
        chosen = edits[first : first + AT_ONCE]
        text, without = (_to(texts(t), device) for t in ([e.text for e in chosen], [negative] * len(chosen)))
        source = torch.stack([e.source for e in chosen]).to(device)
        result = sampling.run(
            net, text, without, tuple(source.shape[1:]), options, reference=source, localise=localise,
            generator=generator, micro=micro,
        )  # fmt: skip
        made.append(result.tokens.cpu())
    return torch.cat(made)


def _to(text: Text, device) -> Text:
    return Text(text.states.to(device), text.pooled.to(device))


def followed(made: Tensor, edits: Sequence[Example]) -> dict[str, float]:
    """Of edited ids [n, h, w]: the share of edits that are the target in the whole changed region; of the changed
    tokens, those that are right; and of the others, those that are still the source's."""
    changed = torch.stack([e.changed() for e in edits])
    right = made == torch.stack([e.target for e in edits])
    kept = made == torch.stack([e.source for e in edits])
    return {
        "followed": float((right | ~changed).flatten(1).all(1).float().mean()),
        "changed_right": float(right[changed].float().mean()),
        "kept": float(kept[~changed].float().mean()),
    }


def sweep(
    net: EditMGT, texts: Texts, encoders: Encoders, edits: Sequence[Example], options: Options,
    thresholds: Sequence[float], seeds: Sequence[int], **more,
) -> list[float]:  # fmt: skip
    """Fig. 4: for each λ the mean over edits and seeds of the pictures' L1 to the source's, both from tokens.
    more: as in `edit`."""
    sources = encoders.picture(torch.stack([e.source for e in edits]))
    blocks, out = options.blocks or tuple(range(net.config.blocks)), []
    for threshold in thresholds:
        chosen = replace(options, threshold=threshold, blocks=blocks)
        made = (encoders.picture(edit(net, texts, edits, chosen, seed=seed, **more)) for seed in seeds)
        out.append(sum(float((m - sources).abs().mean()) for m in made) / len(seeds))
    return out
