"""Who wins by each rule, who cannot, and that leaving the picture alone never pays."""

import math

import pytest

from editkit.models.errors import EditError
from editkit.models.race import ranking
from editkit.models.race.entries import Entry, Lap, Marks
from editkit.models.race.measuring import Change

FLOOR = 0.02


def entry(number, inside=0.1, psnr=99.0, ssim=1.0, seconds=1.0, bound="", marks=None):
    return Entry(number, f"system {number}", Change(inside, psnr, ssim), Lap(seconds, bound), marks)


def winner(entries, rule, floor=FLOOR):
    found = ranking.rank(entries, rule, floor)
    return None if found.winner is None else entries[found.winner].number


UNTOUCHED = entry(1, inside=0.0, seconds=0.01, marks=Marks("VIE", 9.9))


@pytest.mark.parametrize("rule", ranking.RULES)
def test_a_system_that_leaves_the_picture_alone_wins_by_no_rule(rule):
    worse = entry(2, inside=0.1, psnr=18, ssim=0.4, seconds=60, marks=Marks("VIE", 1.0))
    assert winner([UNTOUCHED, worse], rule) == 2
    found = ranking.rank([UNTOUCHED], rule, FLOOR)
    assert found.winner is None and found.reasons == ("changed nothing inside",) and "Nobody wins" in found.said


@pytest.mark.parametrize("rule", ranking.RULES)
def test_a_floor_of_0_does_not_let_it_win_either(rule):
    assert winner([UNTOUCHED], rule, floor=0.0) is None
    assert winner([UNTOUCHED, entry(2, inside=0.001, psnr=18, ssim=0.4, marks=Marks("VIE", 1.0))], rule, floor=0.0) == 2


def test_who_changed_less_than_the_floor_is_told_so():
    found = ranking.rank([entry(1, inside=0.0199), entry(2, inside=0.02)], ranking.BALANCED, FLOOR)
    assert found.winner == 1 and found.reasons == ("changed less than the floor of 0.02", "")


def test_the_default_rule_weighs_the_edit_and_what_is_left():
    strong = entry(1, inside=0.2, psnr=99)
    timid = entry(2, inside=0.025, psnr=99)
    careless = entry(3, inside=0.25, psnr=14, ssim=0.5)
    assert winner([timid, careless, strong], ranking.BALANCED) == 1
    assert winner([timid, careless], ranking.BALANCED) == 2  # 0.39 * 1 against 0.99 * 0.35


def test_a_colour_shift_counts_though_ssim_does_not_see_it():
    assert entry(1, psnr=20, ssim=1.0).preserved == pytest.approx(0.5)
    assert entry(1, psnr=99, ssim=0.7).preserved == pytest.approx(0.7)
    assert entry(1, psnr=30, ssim=math.nan).preserved == pytest.approx(0.75)
    assert math.isnan(entry(1, psnr=math.nan, ssim=math.nan).preserved)


def test_marks_decide_the_edits_term_and_an_edit_without_them_cannot_win():
    good, bad = entry(1, inside=0.05, marks=Marks("VIE", 8.0)), entry(2, inside=0.5, marks=Marks("VIE", 3.0))
    lost = entry(3, inside=0.9, marks=Marks("VIE", math.nan, "no marks: the judge was late"))
    found = ranking.rank([bad, lost, good], ranking.BALANCED, FLOOR)
    assert found.winner == 2 and found.scores[2] == pytest.approx(0.8) and math.isnan(found.scores[1])
    assert "VIE" in found.said


def test_clip_marks_are_clip_scores():
    assert Marks("CLIP", 0.3).term == pytest.approx(0.75)
    assert Marks("CLIP", -0.3).term == 0 and Marks("CLIP", 0.6).term == 1


def test_a_judge_that_failed_altogether_leaves_the_change():
    failed = Marks("VIE", math.nan, "no marks")
    found = ranking.rank([entry(1, 0.05, marks=failed), entry(2, 0.2, marks=failed)], ranking.BALANCED, FLOOR)
    assert found.winner == 1 and "no judge said" in found.said


def test_without_a_mask_the_default_rule_says_that_nothing_outside_was_weighed():
    bare = [entry(1, 0.05, math.nan, math.nan), entry(2, 0.2, math.nan, math.nan)]
    found = ranking.rank(bare, ranking.BALANCED, FLOOR)
    assert found.winner == 1 and "no outside to preserve" in found.said


def test_least_change_outside_and_ties_go_to_the_larger_edit():
    assert winner([entry(1, psnr=30), entry(2, psnr=45)], ranking.RESTRAINED) == 2
    assert winner([entry(1, inside=0.1), entry(2, inside=0.3), entry(3, inside=0.3)], ranking.RESTRAINED) == 2


def test_the_fastest_is_one_that_was_timed_whole():
    cached, shared = entry(1, seconds=None), entry(2, seconds=0.1, bound=">=")
    slow, quick = entry(3, seconds=9.0), entry(4, seconds=2.0)
    found = ranking.rank([cached, shared, slow, quick], ranking.FASTEST, FLOOR)
    assert found.winner == 3 and math.isnan(found.scores[0]) and math.isnan(found.scores[1])
    found = ranking.rank([cached, shared], ranking.FASTEST, FLOOR)
    assert found.winner is not None and "not the fastest" in found.said


def test_a_rule_that_lacks_what_it_goes_by_is_refused():
    with pytest.raises(EditError, match="'judge'.*wire a judge"):
        ranking.check(ranking.JUDGED, judge=False, mask=True)
    with pytest.raises(EditError, match="wire a mask"):
        ranking.check(ranking.RESTRAINED, judge=True, mask=False)
    with pytest.raises(EditError, match="no rule 'luck'"):
        ranking.check("luck", judge=True, mask=True)
    for rule in ranking.RULES:
        ranking.check(rule, judge=True, mask=True)
