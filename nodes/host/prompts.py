"""Prompts as CONDITIONING: several as one batch, and what an edit can take."""

import math

import torch

from ...models.errors import EditError
from . import memo


def lines(text: str) -> list[str]:
    """The prompts of a text, one a line, without empty lines. EditError when there is none."""
    found = [line.strip() for line in text.splitlines() if line.strip()]
    if not found:
        raise EditError("There is no edit prompt; write one a line.")
    return found


def encoded(clip, texts: list[str]):
    """CONDITIONING of one or several prompts as a batch [len(texts), n, c]. A prompt that was encoded is looked up."""
    if clip is None:
        raise EditError("The CLIP is missing; wire the text encoder of the generator.")
    parts = [memo.recall("text", (clip,), lambda text=text: _one(clip, text), (text,)) for text in texts]
    if len(parts) == 1:
        return parts[0]
    return memo.recall("texts", tuple(part[0][0] for part in parts), lambda: _batch([part[0] for part in parts]))


def _one(clip, text: str):
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


def _batch(parts: list) -> list:
    """One conditioning of several. Longer prompts have more tokens: shorter ones repeat, which attention ignores."""
    length = math.lcm(*(part[0].shape[1] for part in parts))
    tokens = torch.cat([part[0].repeat(1, length // part[0].shape[1], 1) for part in parts])
    options = {k: v for k, v in parts[0][1].items() if k != "pooled_output"}
    pooled = [part[1].get("pooled_output") for part in parts]
    if all(p is not None for p in pooled):
        options["pooled_output"] = torch.cat(pooled)
    return [[tokens, options]]


def single(conditioning, name: str, width: int | None = None):
    """The CONDITIONING itself. EditError when it holds several prompts to be mixed, a region, or another text width."""
    if len(conditioning) != 1:
        raise EditError(
            f"The {name} conditioning holds {len(conditioning)} combined prompts; SwiftEdit takes one "
            "(several edits come as a batch, from SwiftEdit Prompts)."
        )
    options = conditioning[0][1]
    regional = [key for key in ("area", "mask", "default") if options.get(key)]
    if regional:
        raise EditError(f"The {name} conditioning has a region of its own ({regional[0]}); give ARaM the mask instead.")
    if options.get("start_percent", 0) > 0 or options.get("end_percent", 1) < 1:
        raise EditError(f"The {name} conditioning has a range of steps; SwiftEdit has one step: take the range away.")
    found = conditioning[0][0].shape[-1]
    if width is not None and found != width:
        raise EditError(
            f"The {name} prompt was encoded to a width of {found} and the MODEL takes {width}; wire the CLIP of its "
            "family (1024: SD2.1 or SD-Turbo, 768: SD1.5)."
        )
    return conditioning
