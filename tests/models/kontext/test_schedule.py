"""Eq. 12 against Eqs. 8-11 and the released code's numbers."""

import math

import pytest
import torch
from safetensors.torch import load_file

from editkit.models.errors import EditError
from editkit.models.kontext import schedule

TIMES = torch.linspace(0.02, 0.98, 25, dtype=torch.float64)


@pytest.mark.parametrize(("mu", "sigma"), [(0.0, 1.0), (1.15, 1.0), (0.8, 0.7), (-0.5, 1.6)])
def test_the_shifted_time_has_the_log_snr_of_eq_9(mu, sigma):
    shifted = schedule.shifted(TIMES, mu, sigma).double()
    assert torch.allclose(schedule.log_snr(shifted), schedule.log_snr(TIMES, mu, sigma), atol=2e-5)


def test_a_shift_by_alpha_is_mu_of_log_alpha():
    alpha = 3.0
    wanted = alpha * TIMES / (1 + (alpha - 1) * TIMES)
    assert torch.allclose(schedule.shifted(TIMES, schedule.mu_of_alpha(alpha)).double(), wanted, atol=1e-7)


def test_ends_stay_and_no_shift_is_no_change():
    ends = torch.tensor([1.0, 0.0])
    assert torch.equal(schedule.shifted(ends, 1.15, 0.7), ends)
    assert torch.allclose(schedule.shifted(TIMES, 0.0).double(), TIMES, atol=1e-7)


def test_unshifted_undoes_it():
    there = schedule.shifted(TIMES, 1.15, 1.5)
    assert torch.allclose(schedule.unshifted(there, 1.15, 1.5).double(), TIMES, atol=1e-5)


def test_the_line_through_the_two_shifts():
    assert schedule.mu_of_tokens(256) == 0.5 and schedule.mu_of_tokens(4096) == pytest.approx(1.15)
    assert schedule.mu_of_tokens(8208) > 1.15 > schedule.mu_of_tokens(1024) > 0.5
    assert schedule.tokens_of_size(1024, 1024) == 4096 and schedule.tokens_of_size(1000, 17) == 63 * 2


def test_the_released_schedules(root):
    recorded = load_file(root / "tests/fixtures/kontext/more.safetensors")
    names = [name for name in recorded if name.startswith("sched.bfl.")]
    assert len(names) == 10
    for name in names:
        tokens, steps = (int(part.strip("n")) for part in name.split(".")[2:])
        assert float((schedule.bfl(steps, tokens) - recorded[name]).abs().max()) <= 1e-6
    assert float((schedule.diffusers(28, 4096) - recorded["sched.diffusers.4096.n28"][:-1]).abs().max()) <= 1e-6


def test_a_later_start_and_no_shift():
    assert torch.allclose(schedule.sigmas(4, None, start=0.8), torch.tensor([0.8, 0.6, 0.4, 0.2, 0.0]))
    later = schedule.sigmas(4, 1.15, start=0.5)
    assert float(later[0]) == pytest.approx(math.exp(1.15) / (math.exp(1.15) + 1), abs=1e-6) and float(later[-1]) == 0
    assert torch.equal(schedule.bfl(4, 99, shift=False), torch.linspace(1, 0, 5))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: schedule.shifted(1.5, 1.0), "between 0 and 1"), (lambda: schedule.shifted(0.5, math.nan), "nan"),
        (lambda: schedule.shifted(0.5, 1.0, 0.0), "σ is 0"), (lambda: schedule.mu_of_alpha(0.0), "α is 0"),
        (lambda: schedule.sigmas(0, 1.0), "0 steps"), (lambda: schedule.sigmas(4, 1.0, start=0.0), "time 0"),
        (lambda: schedule.mu_of_tokens(0), "0 tokens"),
    ],
)  # fmt: skip
def test_what_makes_no_schedule_is_refused_with_its_value(wrong, said):
    with pytest.raises(EditError, match=said):
        wrong()
