"""A.1 and A.2: Eqs. 8 to 12 and the logit-normal distribution against each other, in closed form and by samples."""

import math

import numpy as np
import pytest
import torch

from editkit.models.kontext import schedule
from editkit.training.kontext import timesteps

TIMES = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
SHIFTS = [(0.0, 1.0), (math.log(3), 1.0), (-0.7, 1.0), (1.15, 0.6), (0.5, 1.7)]


def plain(time):
    """λ_t^{0,1} of Eq. 8, its first form."""
    return 2 * torch.log((1 - time) / time)


def test_the_log_snr_of_rectified_flow_is_minus_two_logits():
    """Eq. 8's two forms, and Eq. 5 with a_t = 1 - t and b_t = t."""
    assert torch.allclose(plain(TIMES), -2 * torch.logit(TIMES))
    assert torch.allclose(plain(TIMES), torch.log((1 - TIMES) ** 2 / TIMES**2))
    assert torch.allclose(schedule.log_snr(TIMES), plain(TIMES))


@pytest.mark.parametrize(("mu", "sigma"), SHIFTS)
def test_mu_and_sigma_move_the_log_snr(mu, sigma):
    """Eq. 9: both forms."""
    found = schedule.log_snr(TIMES, mu, sigma)
    assert torch.allclose(found, -2 * (sigma * torch.logit(TIMES) + mu))
    assert torch.allclose(found, sigma * plain(TIMES) - 2 * mu)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 3.0, 6.0])
def test_the_shift_by_alpha_is_mu_log_alpha(alpha):
    """Eq. 10 against Eq. 9, and Eq. 12 at σ = 1 against t' = αt / (1 + (α - 1)t)."""
    mu = schedule.mu_of_alpha(alpha)
    assert torch.allclose(schedule.log_snr(TIMES, mu), plain(TIMES) - 2 * math.log(alpha))
    redistributed = alpha * TIMES / (1 + (alpha - 1) * TIMES)
    assert torch.allclose(schedule.shifted(TIMES, mu).double(), redistributed, atol=1e-7)


@pytest.mark.parametrize(("mu", "sigma"), SHIFTS)
def test_a_shifted_time_has_the_shifted_log_snr(mu, sigma):
    """Eq. 11: λ at t' of Eq. 12 is Eq. 9's at t."""
    shifted = schedule.shifted(TIMES, mu, sigma).double()
    away = (plain(shifted) - schedule.log_snr(TIMES, mu, sigma)).abs()
    assert away[shifted < 0.999].max() < 2e-3  # fp32 near 1 is all that is lost
    assert away[shifted < 0.5].max() < 1e-5


@pytest.mark.parametrize(("mu", "sigma"), SHIFTS)
def test_the_density_is_one_and_that_of_what_is_drawn(mu, sigma):
    """p(t) of A.1: it integrates to 1, and its integral is the share of the samples below."""
    time = torch.linspace(0, 1, 400_001, dtype=torch.float64)[1:-1]
    below = timesteps.density(time, mu, sigma).cumsum(0) / 400_000
    assert below[-1] == pytest.approx(1, abs=1e-5)
    drawn = timesteps.draw(np.random.default_rng(0), 200_000, mu, sigma).double()
    for share in (0.05, 0.3, 0.5, 0.7, 0.95):
        edge = time[torch.searchsorted(below, share)]
        assert float((drawn < edge).double().mean()) == pytest.approx(share, abs=0.005)


@pytest.mark.parametrize(("mu", "sigma"), SHIFTS)
def test_logits_of_what_is_drawn_are_normal(mu, sigma):
    """A.1: Y = logit(t) ~ N(μ, σ); and Eq. 12 makes t ~ p(t; μ, σ) of t ~ p(t; 0, 1), draw by draw."""
    drawn = timesteps.draw(np.random.default_rng(1), 100_000, mu, sigma)
    logits = torch.logit(drawn.double().clamp(max=1 - 1e-7))
    assert float(logits.mean()) == pytest.approx(mu, abs=0.02 * sigma)
    assert float(logits.std()) == pytest.approx(sigma, rel=0.01)
    usual = timesteps.draw(np.random.default_rng(1), 100_000, 0.0, 1.0)
    assert torch.allclose(schedule.shifted(usual, mu, sigma), drawn, atol=1e-5)


def test_three_at_four_times_the_side_is_the_papers_example():
    """α = 3 is μ = 1.0986: the median of what is drawn is α / (1 + α)."""
    mu = schedule.mu_of_alpha(3.0)
    assert mu == pytest.approx(1.0986, abs=1e-4)
    drawn = timesteps.draw(np.random.default_rng(2), 200_001, mu, 1.0)
    assert float(drawn.median()) == pytest.approx(0.75, abs=0.003)


def test_quantiles_are_those_of_the_distribution():
    spread = timesteps.spread(1000, 1.15, 0.8)
    drawn = timesteps.draw(np.random.default_rng(3), 200_000, 1.15, 0.8).sort().values
    assert (spread - drawn[100::200]).abs().max() < 0.02
    assert bool((spread.diff() > 0).all())


def test_mu_goes_with_the_resolution():
    """Of the target alone: 256 tokens 0.5, 4096 tokens 1.15; a chosen one wins."""
    assert timesteps.mu_of((32, 32)) == pytest.approx(0.5)
    assert timesteps.mu_of((128, 128)) == pytest.approx(1.15)
    assert timesteps.mu_of((64, 256)) == timesteps.mu_of((128, 128))
    assert timesteps.mu_of((128, 128), 0.0) == 0.0
