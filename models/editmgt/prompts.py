"""Instructions to token ids, and words of an instruction to the rows of the text axis that are theirs.

Gemma's ids are padded on the left to 256: token i of n stands at row 256 - n + i. (The released code looked words up
with CLIP's tokenizer, 77 long and padded on the right, and so read the attention of pads.)
"""

import re
from pathlib import Path

import torch
from torch import Tensor

from ..errors import EditError
from .config import TEXT_TOKENS

CLIP_TOKENS = 77
PASSED_OVER = ("<pad>", "</w>", "!")  # by the released code, among CLIP's tokens, beside all that begin with <|
SPACE = "▁"  # what sentencepiece writes for a space
BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")

Span = tuple[int, int]  # first character, one past the last


def load(folder: Path | str):
    """A tokenizer of a release, from its folder alone. EditError where there is none or it cannot be read."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # noqa: BLE001 - what is raised depends on the tokenizer's class and the file
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:160]
        raise EditError(f"The tokenizer in {folder} cannot be read ({reason}); download it again.") from None


def load_gemma(folder: Path | str):
    """Gemma's tokenizer. EditError for one that pads on the right or has no pad."""
    return left_padding(load(folder), folder)


def left_padding(tokenizer, where: Path | str):
    """The tokenizer, if it pads on the left as EditMGT was trained. EditError otherwise."""
    if tokenizer.padding_side != "left":
        raise EditError(
            f"The tokenizer in {where} pads on the {tokenizer.padding_side}, and EditMGT's on the left; take the one "
            'of the release, or set "padding_side": "left" in its tokenizer_config.json.'
        )
    if tokenizer.pad_token_id is None:
        raise EditError(f"The tokenizer in {where} has no padding token; take the one of the release.")
    return tokenizer


def clip_ids(tokenizer, texts: list[str]) -> Tensor:
    """Ids [b, 77], cut or padded as CLIP's tokenizer pads."""
    made = tokenizer(
        list(texts), padding="max_length", truncation=True, max_length=CLIP_TOKENS, return_tensors="pt"
    )
    return made.input_ids


def gemma_ids(tokenizer, texts: list[str], length: int = TEXT_TOKENS) -> Tensor:
    """Ids [b, length]: pads, the begin token, the text; a longer text loses its end."""
    rows = []
    for text in texts:
        ids = _tokens(tokenizer, text, length)
        rows.append([tokenizer.pad_token_id] * (length - len(ids)) + ids)
    return torch.tensor(rows)


def keyword_rows(
    tokenizer, instruction: str, keyword: str, occurrence: int = 1, length: int = TEXT_TOKENS
) -> Tensor:
    """The rows 0..length-1 of Gemma's padded prompt that hold a word of the instruction: [n] int64.

    keyword: a word or a phrase, whole and in any case. occurrence: 1 for its first, 2 for its second, …, 0 for all.
    EditError where the keyword is empty, not in the instruction, not as often, or cut off with the instruction's end.
    """
    chosen = _chosen(occurrences(instruction, keyword), keyword, instruction, occurrence)
    ids = _tokens(tokenizer, instruction, length)
    spans, first = _spans(tokenizer, instruction, ids), length - len(ids)
    rows = [first + i for i, span in enumerate(spans) if any(_overlap(span, where) for where in chosen)]
    if not rows:
        raise EditError(
            f"The keyword {keyword!r} lies beyond the {length} tokens that the model reads; shorten the instruction."
        )
    return torch.tensor(rows)


def released_rows(tokenizer, instruction: str, keyword: str) -> Tensor:
    """The rows that the released code takes for a keyword: its first place among CLIP's tokens, 0..76.

    They are meant for Gemma's axis, which is padded on the left, so that they mostly point at pads. EditError where the
    keyword's tokens do not follow each other in the instruction's; the released code then averages nothing.
    """
    (places, words), (_, wanted) = (_said_by_clip(tokenizer, text) for text in (instruction, keyword))
    for start in range(len(words) - len(wanted) + 1 if wanted else 0):
        if words[start : start + len(wanted)] == wanted:
            return torch.tensor(places[start : start + len(wanted)])
    raise EditError(
        f"CLIP's tokens of {keyword!r} are not among those of {instruction!r}; switch CLIP's positions off."
    )


def _said_by_clip(tokenizer, text: str) -> tuple[list[int], list[str]]:
    """Where CLIP's tokens of a text stand, and what they say, without those that the released code passes over."""
    pieces = tokenizer.convert_ids_to_tokens(clip_ids(tokenizer, [text])[0].tolist())
    kept = [(i, p) for i, p in enumerate(pieces) if p.strip() and p not in PASSED_OVER and not p.startswith("<|")]
    return [i for i, _ in kept], [p.lower().replace("</w>", "") for _, p in kept]


def occurrences(instruction: str, keyword: str) -> list[Span]:
    """Where a word or phrase stands in an instruction, whole and in any case. EditError for an empty keyword."""
    words = keyword.split()
    if not words:
        raise EditError("The keyword is empty; give a word of the instruction.")
    before = r"(?<!\w)" if _bounded(words[0][0]) else ""
    after = r"(?!\w)" if _bounded(words[-1][-1]) else ""
    pattern = before + r"\s+".join(map(re.escape, words)) + after
    return [found.span() for found in re.finditer(pattern, instruction, re.IGNORECASE)]


def _bounded(letter: str) -> bool:
    """Whether words are set apart next to this character: not in scripts without capitals, such as Chinese."""
    return letter.isdigit() or letter == "_" or letter.lower() != letter.upper()


def _chosen(found: list[Span], keyword: str, instruction: str, occurrence: int) -> list[Span]:
    if not found:
        raise EditError(
            f"The keyword {keyword!r} is not in the instruction {instruction!r}; choose one of its words."
        )
    if not 0 <= occurrence <= len(found):
        times = "once" if len(found) == 1 else f"{len(found)} times"
        raise EditError(
            f"The keyword {keyword!r} is in the instruction {times}, so there is no occurrence {occurrence}; "
            f"choose 0 for all, or up to {len(found)}."
        )
    return found if occurrence == 0 else [found[occurrence - 1]]


def _overlap(one: Span, two: Span) -> bool:
    return max(one[0], two[0]) < min(one[1], two[1])


def _tokens(tokenizer, text: str, length: int) -> list[int]:
    """Ids with the begin token, at most `length`."""
    ids = list(tokenizer(text, truncation=True, max_length=length, padding=False)["input_ids"])
    begin = tokenizer.bos_token_id
    return (ids if begin is None or ids[:1] == [begin] else [begin, *ids])[:length]


def _spans(tokenizer, text: str, ids: list[int]) -> list[Span]:
    """The characters of the text that each id stands for; none for what the tokenizer adds."""
    if not tokenizer.is_fast:
        return _walked(tokenizer, ids, text)
    made = tokenizer(text, return_offsets_mapping=True)
    spans, own = [tuple(span) for span in made["offset_mapping"]], list(made["input_ids"])
    if own[:1] != ids[:1]:  # the begin token is ours
        spans.insert(0, (0, 0))
    return spans[: len(ids)]


def _walked(tokenizer, ids: list[int], text: str) -> list[Span]:
    """The characters of each token, for a tokenizer that does not tell: its pieces follow each other in the text."""
    special, spans, at, waiting = set(tokenizer.all_special_ids), [], 0, b""
    for number, piece in zip(ids, tokenizer.convert_ids_to_tokens(ids), strict=True):
        if number in special:
            spans.append((at, at))
        elif byte := BYTE.fullmatch(piece):
            waiting, letter = waiting + bytes.fromhex(byte[1]), text[at : at + 1].encode()
            if not letter.startswith(waiting):
                raise _lost(piece, text)
            spans.append((at, at + 1))
            at, waiting = (at + 1, b"") if waiting == letter else (at, waiting)
        else:
            spans.append((at, at + len(_said(piece, text, at))))
            at = spans[-1][1]
    return spans


def _said(piece: str, text: str, at: int) -> str:
    """What a piece says at a place of the text; a space may be the tokenizer's own."""
    said = piece.replace(SPACE, " ")
    for form in (said, said.removeprefix(" ")):
        if text.startswith(form, at):
            return form
    raise _lost(piece, text)


def _lost(piece: str, text: str) -> EditError:
    return EditError(
        f"The tokenizer does not say where {piece!r} stands in {text!r}; put the release's tokenizer.json beside it."
    )
