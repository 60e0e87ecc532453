"""What judges say is understood, or not counted."""

import time

import pytest

from editkit.models.icedit import answers

PREFERS_ONE = [
    "1", "1.", "1\nThe second one lost the table.", "**1** – it keeps the background.", "Answer: 1", "Answer: **1**.",
    "1. The edited image1 follows the prompt better.", "edit_image_1", "Edited image1 is better.", "Image 1.",
    "The first edited image better aligns with the prompt.", "The answer is edit_image_1 because it is sharper.",
    "I would choose 1, since image 2 has artifacts.", "Image 1 is better than image 2.", '{"answer": 1, "why": "x"}',
    '```json\n{"choice": "1"}\n```', "1, because both keep the style but image 2 adds an arm.",
    "<think>Image 2 is better? No. Answer: 2? No.</think>\n1. It is cleaner.", "The better edit is image 1.",
    "Image 1 clearly wins: image 2 is not better in any way.", "I prefer the first image.",
    "Image 1: follows the prompt. Image 2: does not. Answer: 1", "1 (edit_image_1) has fewer artifacts.",
    "Both are good, but image 1 is slightly better.", "1: less noise, 10 of 10",
]  # fmt: skip
UNDECIDED = [
    "", "Both are equally good.", "1 and 2 are the same.", "1 or 2", "Answer: both 1 and 2", "Neither follows it.",
    "Image 1 and image 2 are better than the original.", "Image 1 has artifacts.", "3", "12", "10/10 for both",
    "Image 1: has artifacts. Image 2: is clean.", "1. edit_image_1 is sharp.\n2. edit_image_2 is soft.",
    "1\nFinal answer: 2", "Image 1 is not better.", "Image 2 is worse.", "<html><body>502</body></html>",
    "I cannot help with that.", "<think>Answer: 1", "1.5", "Image 1 is better. Image 2 is better.", "1 of 2 is fine",
]  # fmt: skip


@pytest.mark.parametrize("said", PREFERS_ONE)
def test_a_preference_is_read(said):
    assert answers.choice(said) == 1


def other(said):
    """What prefers the second edit. Without the number 10, which is no name of an edit."""
    parts = said.split("10")
    out = []
    for part in parts:
        for a, b in (("1", "\0"), ("2", "1"), ("\0", "2"), ("first", "\0"), ("second", "first"), ("\0", "second")):
            part = part.replace(a, b)
        out.append(part)
    return "10".join(out)


@pytest.mark.parametrize("said", PREFERS_ONE)
def test_the_same_words_about_the_other_edit_prefer_the_other(said):
    assert answers.choice(other(said)) == 2


@pytest.mark.parametrize("said", UNDECIDED)
def test_what_does_not_decide_is_not_counted(said):
    assert answers.choice(said) is None


def test_the_questions_are_the_papers():
    pair = answers.asked_pair("make {it} red")
    assert pair.count("'make {it} red'") == 2 and pair.endswith("Answer with 1 or 2 and briefly explain why.")
    assert "1. The edited image1.\n2. The edited image2.\n3. The original image." in pair
    consistency = answers.asked_consistency("make it red")
    assert consistency.startswith("You are a professional digital artist") and "make it red" in consistency
    assert '{ "score": <integer>, "reasoning": "..." }' in answers.QUALITY


@pytest.mark.parametrize(
    ("said", "count", "marks"),
    [
        ('{"score": [8, 9], "reasoning": "ok"}', 2, (8, 9)),
        ('{ "score" : [ 7.5 , 10 ] }', 2, (7.5, 10)),
        ('"score": [<score1>, <score2>] would be "score": [3, 4]', 2, (3, 4)),
        ("score = [0, 10]", 2, (0, 10)),
        ('{"score": 6, "reasoning": "3 fingers"}', 1, (6,)),
        ('{"score": [6]}', 1, (6,)),
        ('{"score": "6"}', 1, (6,)),
        ('{"score": 8/10}', 1, (8,)),
        ("**Score:** 9", 1, (9,)),
        ('{"score": 6}', 2, None),
        ('{"score": [6, 7]}', 1, None),
        ('{"score": [6, 11]}', 2, None),
        ('{"score": -1}', 1, None),
        ('{"rating": 5}', 1, None),
        ("", 2, None),
    ],
)
def test_marks_are_read_where_there_are_as_many_as_asked_for(said, count, marks):
    assert answers.scores(said, count) == marks


def test_long_words_are_cut_to_a_line():
    assert answers.shortened("a\n b\x1b \x08 c") == "a b c"
    assert len(answers.shortened("word " * 100)) <= 200


@pytest.mark.parametrize("unit", ["score: [", "image 1 is ", ". ", "1 and ", "<think>", "better image ", "answer "])
def test_the_longest_answer_is_read_at_once_whatever_it_repeats(unit):
    text, start = unit * (2**18 // len(unit)), time.process_time()
    assert answers.choice(text) is None and answers.scores(text, 2) is None
    assert time.process_time() - start < 2
