"""Fill's input, token by token, against diffusers' own pipeline."""

import pytest
import torch

from editkit.models.errors import EditError
from editkit.models.kontext import schedule
from editkit.training.icedit import fill, measuring
from editkit.training.kontext import flux


def test_the_tokens_are_those_of_diffusers_pipeline():
    """64 of noise, 64 of masked latents, 256 of the mask, at the released size of a latent."""
    from diffusers import FluxFillPipeline

    height, width, random = 32, 96, torch.Generator().manual_seed(0)
    masked = torch.randn(1, 16, height // 8, width // 8, generator=random)
    mask = torch.zeros(1, 1, height, width)
    mask[..., width // 2 :] = 1

    class Bare(FluxFillPipeline):
        vae_scale_factor = 8

        def __init__(self):
            pass

    bare, packed = Bare(), FluxFillPipeline._pack_latents
    # what prepare_mask_latents does after the autoencoder, step by step, in the pipeline's own packing
    latents = packed(masked, 1, 16, height // 8, width // 8)
    small = mask[:, 0].view(1, height // 8, 8, width // 8, 8).permute(0, 2, 4, 1, 3)
    small = small.reshape(1, 64, height // 8, width // 8)
    wanted = torch.cat([latents, packed(small, 1, 64, height // 8, width // 8)], -1)
    found = fill.condition(masked, bare.vae_scale_factor)
    assert found.shape == (1, 12, 64 + 256) and torch.equal(found, wanted)
    assert torch.equal(flux.pack(masked), latents)


def test_the_network_gets_noise_then_what_is_known(network):
    """The velocity is that of diffusers' transformer on the tokens, with position ids of one picture."""
    net = network().eval()
    random = torch.Generator().manual_seed(0)
    noisy, masked = (torch.randn(2, 4, 6, 12, generator=random) for _ in range(2))
    states, pooled, time = torch.randn(2, 5, 32), torch.randn(2, 32), torch.tensor([0.7, 0.2])
    known = fill.condition(masked, 8)
    with torch.no_grad():
        made = fill.velocity(net, noisy, known, time, states, pooled, torch.tensor([1.0, 50.0]))
        ids = torch.tensor([[0.0, row, column] for row in range(3) for column in range(6)])
        out = net(
            torch.cat([flux.pack(noisy), known], -1), states, pooled, time, ids, torch.zeros(5, 3),
            torch.tensor([1.0, 50.0]),
        ).sample  # fmt: skip
        other = fill.velocity(net, noisy, known, time, states, pooled, torch.tensor([1.0, 1.0]))
    assert torch.equal(made, flux.unpack(out, (6, 12)))
    assert torch.equal(made[0], other[0]) and not torch.allclose(made[1], other[1])


def test_a_transformer_of_another_kind_is_refused(network):
    fill.check(dict(network().config), 8)
    fill.check({"in_channels": 384, "out_channels": 64}, 8)
    for wrong in ({"in_channels": 64, "out_channels": None}, {"in_channels": 128, "out_channels": 64}):
        with pytest.raises(EditError, match="FLUX.1-Fill-dev"):
            fill.check(wrong, 8)


def test_sampling_follows_the_schedule_of_the_node(monkeypatch):
    """For a known velocity Euler's method over the shifted times gives its sum; both panels are sampled."""
    times = schedule.bfl(3, 2 * 4).tolist()
    seen = []

    def velocity(net, noisy, known, time, states, pooled, guidance):
        seen.append((float(time[0]), float(guidance[0])))
        return torch.full_like(noisy, float(len(seen)))

    monkeypatch.setattr(fill, "velocity", velocity)
    from editkit.training.icedit.examples import Example

    one = Example(torch.zeros(4, 4, 8), torch.zeros(4, 4, 8), torch.zeros(2, 3), torch.zeros(3))
    made = measuring.edit(None, [one], 8, 3, 50.0, seed=1)[0]
    start = torch.randn(1, 4, 4, 8, generator=torch.Generator().manual_seed(1))[0, ..., 4:]
    moved = sum((b - a) * n for n, (a, b) in enumerate(zip(times, times[1:]), 1))
    assert torch.allclose(made, start + moved, atol=1e-6)
    assert [t for t, _ in seen] == pytest.approx(times[:-1]) and {g for _, g in seen} == {50.0}


def test_what_is_measured_of_samples():
    from editkit.training.icedit.examples import Example

    left, right = torch.zeros(4, 2, 2), torch.ones(4, 2, 2)
    one = Example(torch.cat([left, right], -1), left, left, left, wrong=torch.full((1, 4, 2, 2), 3.0))
    for made, error, followed in ((right, 0, 1), (left, 1, 0), (2.2 * right, 1.2, 0), (0.6 * right, 0.4, 1)):
        assert measuring.compared([made], [one]) == {"error": pytest.approx(error), "followed": followed}
