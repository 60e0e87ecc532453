"""Which references are in the sequence of a step, and where the strict regions of a run hold."""

import pytest
import torch

from editkit.models.errors import EditError
from editkit.models.kontext import layout
from editkit.models.kontext.plan import Plan, Planned, regions
from editkit.models.kontext.references import Reference

TARGET = (8, 12)
REGION = torch.zeros(4, 6)
REGION[1:3, 2:5] = 1


def reference(size=(4, 4), **settings):
    return Reference(torch.zeros(1, 16, *size), **settings)


def planned(first=float("inf"), last=-1.0, **settings):
    return Planned(reference(**settings), first, last)


def test_a_reference_is_there_between_its_noise_levels():
    plan = Plan((planned(), planned(first=0.8, last=0.3)), whole=TARGET)
    assert [plan.at(s, TARGET)[0] for s in (1.0, 0.8, 0.3, 0.29)] == [[0], [0, 1], [0, 1], [0]]
    assert plan.at(1.0, TARGET)[1] is plan.at(0.9, TARGET)[1]  # worked out once


def test_nobody_moves_when_another_comes_or_goes():
    plan = Plan((planned(last=0.5), planned(placement="index"), planned()), whole=TARGET)
    with_it, without = plan.at(1.0, TARGET)[1], plan.at(0.1, TARGET)[1]
    assert torch.equal(with_it.ids()[-8:], without.ids()[-8:]) and with_it.tokens == without.tokens + 4


def test_ids_and_tokens_that_do_not_count_are_left_out():
    plan = Plan((planned(mask=torch.tensor([[1.0, 0.0], [0.0, 0.5]])),), whole=TARGET)
    made = plan.at(1.0, TARGET)[1]
    assert made.tokens == 24 + 2 and made.kept().tolist() == [*range(24), 24, 27]
    assert made.ids()[-2:].tolist() == [[1, 0, 0], [1, 1, 1]] and made.blocks[0].weight.tolist() == [1.0, 0.5]
    assert torch.equal(made.ids(context=False), made.ids()[:24])


BLACK = torch.zeros(3, 3)


@pytest.mark.parametrize("settings", [{"strength": 0.0}, {"mask": BLACK}, {"target_mask": BLACK}])
def test_what_never_counts_is_known(settings):
    assert not layout.counts(reference(**settings)) and layout.counts(reference(strength=0.1))


def test_every_conditioning_keeps_to_the_runs_regions():
    """Else guidance would carry a reference outside: the negative's outside must not see what is inside."""
    held = regions([planned(target_mask=REGION, first=0.6)])
    negative = Plan((), held, TARGET)
    assert negative.at(0.9, TARGET)[1].plain and not negative.at(0.6, TARGET)[1].plain
    groups = negative.at(0.1, TARGET)[1].groups()
    assert len(groups) == 2 and sorted(len(g.queries) for g in groups) == [6, 18]
    outside = next(g for g in groups if g.text)
    assert torch.equal(outside.keys, outside.queries)


def test_a_region_stays_after_its_reference_has_left():
    one = planned(target_mask=REGION, last=0.5)
    made = Plan((one,), regions([one]), TARGET).at(0.1, TARGET)[1]
    assert not made.blocks and len(made.regions) == 1


def test_references_of_one_mask_share_a_region_and_the_earliest_start():
    found = regions([planned(target_mask=REGION, first=0.4), planned(target_mask=REGION.clone(), first=0.7),
                     planned(target_mask=REGION, confine="direct"), planned(target_mask=1 - REGION)])  # fmt: skip
    assert [r.first for r in found] == [0.7, float("inf")]


def test_a_mask_that_is_white_everywhere_confines_nothing():
    one = planned(target_mask=torch.ones(2, 2))
    assert Plan((one,), regions([one]), TARGET).at(1.0, TARGET)[1].plain
    grey = planned(target_mask=torch.full((2, 2), 0.5))
    made = Plan((grey,), regions([grey]), TARGET).at(1.0, TARGET)[1]
    assert not made.regions and made.blocks[0].reach.tolist() == [0.5] * 24


def test_a_part_of_the_latent_takes_its_part_of_the_mask():
    one = planned(target_mask=REGION)
    plan = Plan((one,), regions([one]), TARGET).within((8, 6, 0, 6))  # the right half
    made = plan.at(1.0, (8, 6))[1]
    assert made.regions[0].view(4, 3).tolist() == REGION.bool()[:, 3:].tolist()
    elsewhere = Plan((one,), regions([one]), TARGET).within((8, 4, 0, 0)).at(1.0, (8, 4))
    assert elsewhere[0] == [] and not elsewhere[1].regions


def test_plans_that_differ_are_not_one_batch():
    plain = Plan((planned(),), whole=TARGET)
    assert plain.same(Plan((planned(),), whole=TARGET)) and plain.same(Plan((Planned(reference()),), whole=TARGET))
    others = [planned(strength=0.5), planned(size=(4, 6)), planned(placement="index"), planned(first=0.5),
              planned(mask=REGION), planned(target_mask=REGION)]  # fmt: skip
    assert not any(plain.same(Plan((other,), whole=TARGET)) for other in others)
    assert not plain.same(Plan((), whole=TARGET)) and not plain.same(plain.within((4, 4, 0, 0)))
    assert Plan((planned(mask=REGION),)).same(Plan((planned(mask=REGION.clone()),)))


def test_too_many_regions_are_refused():
    with pytest.raises(EditError, match="63 different"):
        regions(planned(target_mask=torch.eye(64)[n : n + 1]) for n in range(63))
