"""Inversion: solvers of the order that they claim, and values under the level at which they are asked for."""

import math

import pytest
import torch

from editkit.models.errors import EditError
from editkit.models.icedit import values
from editkit.models.icedit.values import EULER, RF_SOLVER, Values


def swirl(x, time, level):
    """dx/dt = 2 t · x, whose solution is x · exp(t²)."""
    return 2 * time * x


def error(solver, steps):
    sigmas = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    made = values.invert(swirl, torch.ones(1, dtype=torch.float64), sigmas, solver, lambda *_: None)
    return abs(float(made) - math.e)


def test_euler_is_of_first_order_and_rf_solver_of_second():
    assert 1.8 < error(EULER, 40) / error(EULER, 80) < 2.2
    assert 3.6 < error(RF_SOLVER, 20) / error(RF_SOLVER, 40) < 4.4


@pytest.mark.parametrize("solver", [EULER, RF_SOLVER])
def test_the_way_down_asks_for_what_the_way_up_kept(solver):
    sigmas, up, down = [1.0, 0.6, 0.25, 0.0], [], []

    def noting(levels):
        return lambda x, time, level: levels.append(level) or 0 * x

    values.invert(noting(up), torch.zeros(1), torch.tensor(sigmas), solver, lambda *_: None)
    for high, low in zip(sigmas, sigmas[1:], strict=False):
        values.step(noting(down), torch.zeros(1), high, low, solver)
    expected = values.evaluations(sigmas, solver)
    assert down == pytest.approx(expected) and sorted(up) == pytest.approx(sorted(expected))


def test_levels_are_found_up_to_rounding_and_no_further():
    kept = Values()
    kept.keep(0.5, torch.ones(1, 2, 3, 4))
    kept.keep(0.5, torch.zeros(1, 2, 3, 4))
    assert len(kept.at(0.50001)) == 2 and kept.at(0.51) is None and Values().at(0.5) is None
    assert kept.bytes == 2 * 24 * 4


@pytest.mark.parametrize("store", ["cpu", "device"])
def test_what_is_kept_is_a_copy(store):
    value, kept = torch.ones(1, 2, 3, 4), Values(store)
    kept.keep(1.0, value)
    value.zero_()
    assert bool((kept.at(1.0)[0] == 1).all())


def test_values_go_into_the_left_panels_places_only():
    value, left = torch.randn(2, 3, 2 + 8, 4), torch.tensor([0, 1, 4, 5])
    kept = torch.randn(1, 3, 4, 4)
    made = values.injected(value, kept, 2, left)
    assert torch.equal(made[:, :, 2 + left], kept.expand(2, -1, -1, -1))
    others = [0, 1, 4, 5, 8, 9]
    assert torch.equal(made[:, :, others], value[:, :, others]) and made is not value


@pytest.mark.parametrize("shape", [(1, 3, 5, 4), (3, 3, 4, 4), (1, 2, 4, 4)])
def test_values_of_another_reference_are_refused(shape):
    with pytest.raises(EditError, match="ICEdit Training-free"):
        values.injected(torch.randn(2, 3, 10, 4), torch.randn(shape), 2, torch.arange(4))


@pytest.mark.parametrize("levels", [[0.9, 0.0], [1.0, 0.5], [1.0, 0.5, 0.5, 0.0], [0.0, 1.0], [1.0]])
def test_half_a_schedule_is_refused(levels):
    with pytest.raises(EditError, match="falling from 1 to 0"):
        values.checked(torch.tensor(levels))


def test_memory_of_the_full_network_is_told_in_gib():
    full = values.needed(layers=57, width=3072, tokens=1024, calls=56, item=2)
    assert values.shown(full) == "18.70 GiB" and values.shown(3 * 2**20) == "3.0 MiB"
