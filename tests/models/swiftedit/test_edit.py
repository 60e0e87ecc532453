"""The whole edit is the steps that the released code takes."""

from contextlib import contextmanager

import pytest
import torch

from editkit.models.swiftedit import edit
from editkit.models.swiftedit import mask as masks
from editkit.models.swiftedit.aram import PRESETS
from editkit.models.swiftedit.generators import GENERATORS


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def calls():
    return []


@pytest.fixture
def network(calls):
    """Mixes sample, timestep and context so that a wrong one shows."""

    def call(sample, timestep, context):
        calls.append((sample, timestep, context))
        return torch.tanh(sample * 0.3 + context.mean((1, 2))[:, None, None, None] + timestep / 5000)

    return call


LATENT, SOURCE, EDIT = draws(2, 4, 8, 6), draws(2, 7, 5, seed=1), draws(2, 7, 5, seed=2)


def test_inversion_is_one_call_on_the_clean_latent_for_both_prompts(network, calls):
    found = edit.invert(network, LATENT, SOURCE, EDIT)
    ((sample, timestep, context),) = calls
    assert torch.equal(sample, torch.cat([LATENT, LATENT])) and timestep == 500
    assert torch.equal(context, torch.cat([SOURCE, EDIT]))
    assert torch.equal(found.source, network(LATENT, 500, SOURCE))
    assert torch.equal(found.edit, network(LATENT, 500, EDIT))


def test_the_mask_of_an_inversion_is_the_self_guided_one():
    found = edit.Inversion(draws(2, 4, 8, 6), draws(2, 4, 8, 6, seed=1))
    assert torch.equal(found.mask(2.5, 0.6), masks.self_guided(found.source, found.edit, 2.5, 0.6))


@pytest.mark.parametrize("name", ["swiftbrush_v2", "instaflow"])
def test_generation_equals_the_steps_by_hand(network, calls, name):
    made, noise, on = GENERATORS[name], draws(2, 4, 8, 6, seed=3), []

    @contextmanager
    def rescaled(mask, aram):
        on.append((mask, aram))
        yield
        assert len(calls) == 1  # the network ran inside

    mask = torch.ones(2, 8, 6)
    got = edit.generate(network, rescaled, LATENT, noise, SOURCE, EDIT, mask, PRESETS["paper"], made)
    assert on == [(mask, PRESETS["paper"])]
    start = made.alpha * LATENT + made.sigma * noise
    torch.testing.assert_close(got.start, start)
    for latent, context in ((got.reconstruction, SOURCE), (got.edit, EDIT)):
        out = network(start, made.timestep, context)
        clean = start + out if name == "instaflow" else (start - made.sigma * out) / made.alpha
        torch.testing.assert_close(latent, clean)
