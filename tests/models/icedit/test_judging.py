"""The tournament, what happens when a judge fails, and the arithmetic of VIE-Score."""

import math

import pytest
import torch

from editkit.models.errors import EditError
from editkit.models.icedit import judging, vie
from editkit.models.icedit.judging import Decision, JudgeFailed

ORIGINAL = torch.zeros(3, 4, 4)


def quiet(done, total):
    pass


def candidates(*values):
    return [torch.full((3, 2, 2), float(v)) for v in values]


def prefers_brighter(question, images):
    """A judge that sees: the brighter edit wins; the first of equal ones."""
    return f"{1 + int(images[1].mean() > images[0].mean())}, it is brighter"


@pytest.mark.parametrize("best", range(5))
def test_the_best_of_five_wins_wherever_it_stands(best):
    pictures, told = candidates(*(float(i == best) for i in range(5))), []
    made = judging.pairwise(prefers_brighter, pictures, ORIGINAL, "x", lambda *t: told.append(t))
    assert (made.winner, made.calls, made.failures) == (best, 4, ())
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_the_champion_meets_each_challenger_and_the_judge_sees_the_original_last():
    asked = []

    def ask(question, images):
        asked.append([float(image.mean()) for image in images])
        return prefers_brighter(question, images)

    made = judging.pairwise(ask, candidates(0.2, 0.5, 0.3, 0.9), ORIGINAL, "make it red", quiet)
    assert [[round(v, 1) for v in row] for row in asked] == [[0.2, 0.5, 0], [0.5, 0.3, 0], [0.5, 0.9, 0]]
    assert made.lines[0] == "1 against 2: 2 wins. “2, it is brighter”"


def test_a_judge_that_does_not_decide_leaves_the_champion():
    said = iter(["2", "both are fine", "Image 1 is better"])
    made = judging.pairwise(lambda *_: next(said), candidates(1, 2, 3, 4), ORIGINAL, "x", quiet)
    assert made.winner == 1 and made.calls == 3
    assert made.failures == ("2 against 3: the judge did not decide",)
    assert "no decision, 2 stays" in made.lines[1]


def test_a_judge_that_is_down_is_not_asked_again():
    def ask(question, images):
        ask.calls += 1
        if ask.calls == 2:
            raise JudgeFailed("The endpoint is gone.", down=True)
        return "2"

    ask.calls = 0
    made = judging.pairwise(ask, candidates(1, 2, 3, 4), ORIGINAL, "x", quiet)
    assert (made.winner, ask.calls, made.calls) == (1, 2, 2)
    assert made.lines[-1] == "2 against 3: The endpoint is gone. 2 stays."


def test_a_judge_that_fails_once_is_asked_about_the_next():
    def ask(question, images):
        ask.calls += 1
        if ask.calls == 1:
            raise JudgeFailed("It refused.")
        return "2"

    ask.calls = 0
    made = judging.pairwise(ask, candidates(1, 2, 3), ORIGINAL, "x", quiet)
    assert (made.winner, ask.calls, len(made.failures)) == (2, 2, 1)


def test_exchanged_a_judge_that_always_says_the_first_decides_nothing():
    made = judging.pairwise(lambda *_: "1", candidates(1, 2, 3), ORIGINAL, "x", quiet, swapped=True)
    assert (made.winner, made.calls, len(made.failures)) == (0, 4, 2)
    assert "does not hold" in made.lines[0]
    made = judging.pairwise(prefers_brighter, candidates(1, 3, 2), ORIGINAL, "x", quiet, swapped=True)
    assert (made.winner, made.calls, made.failures) == (1, 4, ())


def test_another_fault_of_a_judge_is_not_taken_for_a_failure():
    def broken(*_):
        raise KeyError("a fault in the code")

    with pytest.raises(KeyError):
        judging.pairwise(broken, candidates(1, 2), ORIGINAL, "x", quiet)


def test_the_highest_score_wins_and_the_first_of_equal_ones():
    assert judging.highest([0.1, 0.3, 0.3], "CLIP").winner == 1
    assert judging.highest([0.1, 0.3], "CLIP").lines == ("1: CLIP 0.1000", "2: CLIP 0.3000")


def test_a_pick_counts_from_one_and_zero_is_none_yet():
    assert judging.picked(2, 3).winner == 1 and judging.picked(0, 3).winner is None
    with pytest.raises(EditError, match="Candidate 4 is picked and there are 3"):
        judging.picked(4, 3)


def test_the_papers_costs():
    paper = {(1, 0): 50, (6, 10): 110, (6, 4): 74, (12, 10): 170, (6, 50): 350}  # Table 3b
    assert {(m, e): judging.evaluations(50, e, m) for m, e in paper} == paper


def test_seeds_go_round_at_64_bits():
    assert judging.seeds(5, 3) == (5, 6, 7)
    assert judging.seeds(2**64 - 1, 2) == (2**64 - 1, 0)


def test_the_report_says_who_won_and_what_was_left_open():
    decision = Decision(1, ("1 against 2: 2 wins. “2”", "2 against 3: gone. 2 stays."), ("2 against 3: gone.",), 2)
    said = judging.report("a model", (7, 8, 9), decision, 28, 10)
    assert "Candidate 2 of 3 wins, seed 8." in said and "open in 1 comparison" in said
    assert "NFE = n + M · m = 28 + 3 · 10 = 58" in said and "a model, 2 questions" in said
    assert "none picked" in judging.report("a person", (7, 8), judging.picked(0, 2), 28, 10)


def test_vie_score_is_the_root_of_the_lower_mark_times_the_quality():
    one = vie.Scores(success=8, restraint=4.5, quality=8)
    assert (one.consistency, one.overall) == (4.5, 6.0)
    assert (one.weighted(), one.weighted(4.5), one.weighted(4.6)) == pytest.approx((0.36, 0.8, 0))
    other = vie.Scores(10, 10, 10)
    assert vie.mean([one, other], 5) == ((4.5 + 10) / 2, 9, 8, 0.5)
    assert all(math.isnan(v) for v in vie.mean([]))


def test_vie_score_asks_for_success_with_both_pictures_and_for_quality_with_the_edit():
    asked = []

    def ask(question, images):
        asked.append((question, [float(i.mean()) for i in images]))
        return '{"score": [9, 7], "reasoning": ""}' if len(images) == 2 else '{"score": 8, "reasoning": ""}'

    made = vie.scored(ask, *candidates(0, 1), "paint it blue")
    assert made == vie.Scores(9, 7, 8)
    assert [images for _, images in asked] == [[0, 1], [1]]
    assert "paint it blue" in asked[0][0] and "paint it blue" not in asked[1][0]


@pytest.mark.parametrize("said", ["no marks", '{"score": 9}'])
def test_a_judge_without_marks_is_said_with_its_words(said):
    with pytest.raises(JudgeFailed, match="for SC holds no 2 marks"):
        vie.scored(lambda *_: said, *candidates(0, 1), "x")
