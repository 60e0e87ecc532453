"""Eq. 1: masking rates, masks, what the network is told, and the loss."""

import math

import numpy as np
import pytest
import torch

from editkit.models.editmgt import schedule
from editkit.training.editmgt import masking


@pytest.mark.parametrize("kind", ["cosine", "linear"])
def test_masking_rates_have_the_papers_distribution(kind):
    """Kolmogorov and Smirnov, at one per cent: the density 2/pi·(1 - r²)^(-1/2) sums to 2/pi·arcsin r."""
    count = 20000
    rates = masking.rates(np.random.default_rng(0), count, kind).double().sort().values
    expected = 2 / math.pi * torch.arcsin(rates) if kind == "cosine" else rates
    steps = torch.arange(count + 1, dtype=torch.double) / count
    distance = max((expected - steps[:-1]).max(), (steps[1:] - expected).max())
    assert distance < 1.63 / math.sqrt(count)
    assert 0 <= rates[0] and rates[-1] <= 1


def test_spread_rates_are_the_quantiles_of_drawn_ones():
    drawn = masking.rates(np.random.default_rng(0), 50000).sort(descending=True).values
    assert torch.allclose(masking.spread_rates(50), drawn.view(50, -1).median(-1).values, atol=0.01)


def test_as_many_tokens_are_masked_as_the_rate_says_and_at_least_one():
    rate = torch.tensor([0.0, 0.001, 0.5, 0.734, 1.0])
    masked = masking.masks(np.random.default_rng(0), rate, (8, 6))
    assert masked.shape == (5, 8, 6) and masked.flatten(1).sum(1).tolist() == [1, 1, 24, 35, 48]


def test_every_token_is_masked_as_often_as_any_other():
    masked = masking.masks(np.random.default_rng(0), torch.full((4000,), 0.25), (4, 4)).float().mean(0)
    assert (masked - 0.25).abs().max() < 0.03


@pytest.mark.parametrize("kind", ["cosine", "linear"])
def test_a_step_is_told_as_the_sampling_tells_it(kind):
    """The number that a step is told belongs to the share of tokens that it finds masked."""
    shares = torch.tensor([1.0, *(schedule.mask_ratio(i, 16, kind) for i in range(15))])
    assert masking.told(shares - 1e-4, "step", kind).tolist() == list(range(15, -1, -1))
    assert torch.equal(masking.told(shares, "ratio", kind), 1000 * shares)


def test_every_step_is_told_equally_often():
    steps = masking.told(masking.rates(np.random.default_rng(0), 16000), "step")
    assert (torch.bincount(steps.long(), minlength=16) - 1000).abs().max() < 150


def test_the_loss_is_the_mean_of_minus_log_p():
    logits = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])  # p = 3/4, 1/4 and 1/2, 1/2
    expected = -(math.log(0.25) + math.log(0.5)) / 2
    assert masking.loss(logits, torch.tensor([1, 0])).item() == pytest.approx(expected)
