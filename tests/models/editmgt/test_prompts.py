"""Instructions become ids padded on the left, and keywords the rows that are theirs."""

from types import SimpleNamespace

import pytest
import torch

from editkit.models.editmgt import prompts
from editkit.models.errors import EditError

pytest.importorskip("transformers")
from editkit.tests.tiny_editmgt_release import clip_tokenizer, gemma_tokenizer  # noqa: E402

SENTENCE = "make the red cat and the small dog blue, then put a cat on the table"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("tokenizer")
    gemma_tokenizer().save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def tokenizer(folder):
    return prompts.load_gemma(folder)


def said(tokenizer, ids, rows):
    """What the tokens of some rows say."""
    return "".join(tokenizer.convert_ids_to_tokens(ids[0, rows].tolist())).replace("▁", " ")


def test_ids_are_padded_on_the_left(tokenizer):
    ids = prompts.gemma_ids(tokenizer, [SENTENCE, "blue"])
    assert ids.shape == (2, 256) and ids.dtype == torch.int64
    for row, text in zip(ids, (SENTENCE, "blue")):
        expected = tokenizer(text, padding="max_length", max_length=256, truncation=True).input_ids
        assert row.tolist() == list(expected)  # as the official code asks for them
        assert row[row != 0][0] == tokenizer.bos_token_id and row[0] == 0


def test_a_long_instruction_loses_its_end(tokenizer):
    ids = prompts.gemma_ids(tokenizer, [SENTENCE * 30])
    assert ids.shape == (1, 256) and ids[0, 0] == tokenizer.bos_token_id


def test_an_empty_instruction_is_the_begin_token(tokenizer):
    assert prompts.gemma_ids(tokenizer, [""])[0, -2:].tolist() == [0, tokenizer.bos_token_id]


def test_a_tokenizer_that_forgets_the_begin_token_gets_it(tokenizer):
    def call(text, **options):
        made = tokenizer(text, add_special_tokens=False, **options)
        return dict(made)

    forgetful = stand_in(tokenizer, call, is_fast=True)
    assert torch.equal(prompts.gemma_ids(forgetful, [SENTENCE]), prompts.gemma_ids(tokenizer, [SENTENCE]))
    rows = prompts.keyword_rows(forgetful, SENTENCE, "cat")
    assert torch.equal(rows, prompts.keyword_rows(tokenizer, SENTENCE, "cat"))


@pytest.mark.parametrize("word", ["red", "cat", "blue", "small dog", "table", "make"])
def test_the_rows_are_the_keywords_own(tokenizer, word):
    ids, rows = prompts.gemma_ids(tokenizer, [SENTENCE]), prompts.keyword_rows(tokenizer, SENTENCE, word)
    assert said(tokenizer, ids, rows).strip() == word
    count = len(tokenizer(SENTENCE).input_ids)
    assert (256 - count < rows).all() and (rows < 256).all()  # never a pad, never the begin token


def test_a_word_of_several_tokens(tokenizer):
    text = "remove the watertable cat"
    rows = prompts.keyword_rows(tokenizer, text, "watertable")
    assert len(rows) > 1
    assert said(tokenizer, prompts.gemma_ids(tokenizer, [text]), rows) == " watertable"


def test_a_repeated_word_by_its_occurrence(tokenizer):
    ids = prompts.gemma_ids(tokenizer, [SENTENCE])
    first, second, every = (prompts.keyword_rows(tokenizer, SENTENCE, "cat", n) for n in (1, 2, 0))
    assert said(tokenizer, ids, first) == said(tokenizer, ids, second) == " cat"
    assert first.max() < second.min()
    assert torch.equal(every, torch.cat([first, second]))
    assert said(tokenizer, ids, torch.arange(int(second[-1]) + 1, 256)) == " on the table"


def test_words_are_whole_and_their_case_does_not_matter(tokenizer):
    text = "the cat in the catalogue, Cat"
    assert prompts.occurrences(text, "CAT") == [(4, 7), (26, 29)]
    assert prompts.occurrences(text, "the  cat") == [(0, 7)]
    assert prompts.occurrences("sky-blue sky", "sky") == [(0, 3), (9, 12)]
    assert prompts.occurrences("把猫变成狗", "猫") == [(1, 2)]  # a script that does not set words apart
    assert prompts.occurrences("a (red) hat", "(red)") == [(2, 7)]


@pytest.mark.parametrize(("word", "occurrence", "words"), [
    ("horse", 1, "'horse' is not in the instruction"),
    ("ca", 1, "'ca' is not in the instruction"),
    ("  ", 1, "keyword is empty"),
    ("cat", 3, "2 times, so there is no occurrence 3"),
    ("cat", -1, "no occurrence -1"),
    ("red", 2, "once, so there is no occurrence 2"),
])  # fmt: skip
def test_a_keyword_that_is_not_there_is_refused(tokenizer, word, occurrence, words):
    with pytest.raises(EditError, match=words):
        prompts.keyword_rows(tokenizer, SENTENCE, word, occurrence)


def test_a_keyword_cut_off_is_refused(tokenizer):
    with pytest.raises(EditError, match="beyond the 256 tokens"):
        prompts.keyword_rows(tokenizer, "make the " * 200 + "dog", "dog")


def stand_in(tokenizer, call, is_fast=False):
    """A tokenizer that is called otherwise."""
    keys = ("pad_token_id", "bos_token_id", "padding_side", "all_special_ids", "convert_ids_to_tokens")

    class Other(SimpleNamespace):
        def __call__(self, text, **options):
            return call(text, **options)

    return Other(is_fast=is_fast, **{k: getattr(tokenizer, k) for k in keys})


@pytest.mark.parametrize("word", ["red", "cat", "table", "make", "Zoë", "🐈"])
def test_a_tokenizer_without_offsets_gives_the_same_rows(tokenizer, word):
    text = SENTENCE + " Zoë 🐈 cat"
    slow = stand_in(tokenizer, tokenizer)
    for n in (0, 1):
        rows = prompts.keyword_rows(slow, text, word, n)
        assert torch.equal(rows, prompts.keyword_rows(tokenizer, text, word, n))
    assert len(rows) > 0


def test_a_tokenizer_without_offsets_that_changes_the_text_still_gives_ids_but_no_rows(tokenizer):
    changing = stand_in(tokenizer, lambda text, **o: tokenizer(text.upper(), **o))
    assert torch.equal(prompts.gemma_ids(changing, ["the cat"]), prompts.gemma_ids(tokenizer, ["THE CAT"]))
    with pytest.raises(EditError, match="does not say where"):
        prompts.keyword_rows(changing, "the cat", "cat")


def test_a_right_padding_tokenizer_is_refused(tmp_path):
    gemma_tokenizer("right").save_pretrained(tmp_path)
    with pytest.raises(EditError, match="pads on the right, and EditMGT's on the left"):
        prompts.load_gemma(tmp_path)


def test_a_tokenizer_without_pads_is_refused(folder):
    tokenizer = prompts.load_gemma(folder)
    tokenizer.pad_token = None
    with pytest.raises(EditError, match="no padding token"):
        prompts.left_padding(tokenizer, folder)


def test_a_broken_tokenizer_is_one_sentence(tmp_path, folder):
    (tmp_path / "tokenizer.json").write_text((folder / "tokenizer.json").read_text()[:100])
    for where in (tmp_path, tmp_path / "gone"):
        with pytest.raises(EditError, match="cannot be read") as error:
            prompts.load(where)
        assert "\n" not in str(error.value)


def test_clip_ids_are_77_long(tmp_path):
    clip_tokenizer().save_pretrained(tmp_path)
    tokenizer = prompts.load(tmp_path)
    ids = prompts.clip_ids(tokenizer, ["red cat", SENTENCE * 9])
    assert ids.shape == (2, 77)
    assert ids[0, 0] == tokenizer.bos_token_id and ids[0, -1] == tokenizer.pad_token_id
    assert ids[1, -1] == tokenizer.eos_token_id
