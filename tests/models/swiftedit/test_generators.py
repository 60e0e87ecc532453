"""One-step generators."""

import pytest
import torch

from editkit.models.errors import EditError
from editkit.models.swiftedit import generators
from editkit.models.swiftedit.generators import GENERATORS


def latents():
    return torch.randn(2, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def test_alpha_and_sigma_at_the_last_timestep_are_the_released_ones():
    assert generators.alpha_sigma(999) == pytest.approx((0.0682649, 0.9976673), abs=5e-8)


def test_the_schedule_is_stable_diffusions():
    from diffusers import DDPMScheduler

    theirs = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    torch.testing.assert_close(generators.alphas_cumprod(), theirs.alphas_cumprod)


@pytest.mark.parametrize("timestep", [-1, 1000])
def test_a_timestep_outside_the_schedule_is_refused(timestep):
    with pytest.raises(EditError, match=f"The timestep {timestep} is outside 0..999"):
        generators.alpha_sigma(timestep)


@pytest.mark.parametrize("name", ["swiftbrush_v2", "swiftbrush_v1", "sd_turbo", "dmd2"])
def test_the_right_noise_gives_the_latent_back(name):
    clean, noise = latents()
    made = GENERATORS[name]
    torch.testing.assert_close(made.latent(made.mixed(clean, noise), noise), clean, atol=2e-5, rtol=1e-5)


def test_the_input_is_mixed_as_released():
    clean, noise = latents()
    torch.testing.assert_close(
        GENERATORS["swiftbrush_v2"].mixed(clean, noise), 0.0682649 * clean + 0.9976673 * noise
    )


def test_instaflow_starts_from_the_noise_and_adds_its_velocity():
    clean, noise = latents()
    flow = GENERATORS["instaflow"]
    assert torch.equal(flow.mixed(clean, noise), noise)
    torch.testing.assert_close(flow.latent(noise, clean - noise), clean)


def test_what_each_generator_is_told_and_which_text_it_takes():
    told = {name: (g.timestep, g.context) for name, g in GENERATORS.items()}
    assert told == {"swiftbrush_v2": (999, 1024), "swiftbrush_v1": (999, 1024), "sd_turbo": (999, 1024),
                    "dmd2": (999, 768), "instaflow": (1000, 768)}  # fmt: skip


def test_an_unknown_generator_is_refused_with_the_known_ones():
    with pytest.raises(EditError, match="'lightning' is unknown; choose one of swiftbrush_v2, "):
        generators.generator("lightning")
