"""Eq. 8: the gradient of the regularisation, and that the teacher is left out of it."""

import pytest
import torch
from torch import nn

from editkit.models.swiftedit.generators import alphas_cumprod
from editkit.training.swiftedit import regularisation as r


class Teacher(nn.Module):
    """A multi-step model that reacts to everything it is given."""

    def __init__(self):
        super().__init__()
        self.net = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, sample, timesteps, context):
        return torch.tanh(self.net(sample)) * timesteps[:, None, None, None] / 500 + context.mean()


@pytest.fixture
def scene():
    torch.manual_seed(0)
    latent, context = torch.randn(3, 4, 8, 8), torch.randn(3, 5, 6)
    return latent, context, torch.tensor([20, 500, 980]), nn.Conv2d(4, 4, 3, padding=1), Teacher()


def loss_of(latent, context, timesteps, inversion, teacher, weighting="dreamfusion"):
    inverted = inversion(latent)
    target = r.teacher_noise(teacher, latent, inverted, timesteps, context)
    return r.regularisation(inverted, target, r.weight(timesteps, weighting)), inverted, target


@pytest.mark.parametrize("weighting", r.WEIGHTINGS)
def test_the_gradient_is_autograds_of_the_stopped_square(scene, weighting):
    """Of 1/2·w(t)·||eps_hat - sg[eps_phi(z_t)]||^2 with z_t held constant, over the number of elements."""
    latent, context, timesteps, inversion, teacher = scene
    loss_of(*scene, weighting)[0].backward()
    found = [p.grad.clone() for p in inversion.parameters()]

    inverted = inversion(latent)
    kept = alphas_cumprod()[timesteps][:, None, None, None]
    z_t = (kept.sqrt() * latent + (1 - kept).sqrt() * inverted).detach()
    w = (1 - kept) if weighting == "dreamfusion" else torch.ones_like(kept)
    square = (w * (inverted - teacher(z_t, timesteps, context).detach()) ** 2).sum() / 2 / inverted.numel()
    expected = torch.autograd.grad(square, list(inversion.parameters()))
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-8) and float(b.abs().max()) > 1e-4


def test_the_gradient_by_the_noise_is_that_of_equation_8(scene):
    loss, inverted, target = loss_of(*scene)
    (gradient,) = torch.autograd.grad(loss, inverted)
    w = (1 - alphas_cumprod()[scene[2]])[:, None, None, None]
    assert torch.allclose(gradient, w * (inverted - target) / inverted.numel(), rtol=1e-5, atol=1e-9)


def test_nothing_is_propagated_through_the_teacher(scene):
    latent, context, timesteps, inversion, teacher = scene
    loss_of(*scene)[0].backward()
    stopped = inversion.weight.grad.clone()
    assert all(p.grad is None for p in teacher.parameters())

    inverted = inversion(latent)  # and through the teacher the gradient would be another
    through = teacher(r.noised(latent, inverted, timesteps), timesteps, context)
    w = r.weight(timesteps)[:, None, None, None]
    inversion.zero_grad()
    (0.5 * w * (inverted - through).square()).mean().backward()
    assert not torch.allclose(inversion.weight.grad, stopped, rtol=1e-2)


def test_v_is_turned_into_the_noise_that_it_stands_for():
    torch.manual_seed(0)
    latent, noise, t = torch.randn(2, 4, 4, 4), torch.randn(2, 4, 4, 4), torch.tensor([100, 900])
    kept = alphas_cumprod()[t][:, None, None, None]
    v = kept.sqrt() * noise - (1 - kept).sqrt() * latent
    z_t = r.noised(latent, noise, t)
    assert torch.allclose(r.as_noise(v, z_t, t, "v_prediction"), noise, atol=1e-5)
    assert torch.equal(r.as_noise(noise, z_t, t, "epsilon"), noise)


def test_a_noise_that_the_teacher_predicts_is_left_alone():
    noise = torch.randn(2, 4, 4, 4, requires_grad=True)
    loss = r.regularisation(noise, noise.detach().clone(), torch.ones(2))
    assert float(loss) == 0 and not torch.autograd.grad(loss, noise)[0].any()
