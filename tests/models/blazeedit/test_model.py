import pytest
import torch
from torch import nn

from editkit.models.blazeedit import codec, config, model, schedule, tasks
from editkit.models.errors import EditError


def millions(module):
    return sum(p.numel() for p in module.parameters()) / 1e6


@pytest.fixture(scope="module")
def large():
    with torch.device("meta"):
        return model.BlazeEdit(config.config("blazeedit-195m"))


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return model.BlazeEdit(config.config("blazeedit-small")).eval()


def test_the_papers_model_has_the_papers_size(large):
    assert millions(large.denoiser) == pytest.approx(189, rel=0.02)
    assert millions(large.autoencoder.decoder) == pytest.approx(6, rel=0.05)


def test_the_shipped_model_is_small(small):
    assert 8 <= millions(small) <= 13


def test_the_papers_latents_are_64_for_512(large):
    with torch.device("meta"):
        x = torch.empty(1, 3, 512, 512)
        features = large.features(x, torch.empty(1, 512, 512), 1.0)
        assert large.autoencoder.encode(x).shape[-2:] == (64, 64) == features.shape[-2:]
        out = large.predict(torch.empty(1, 8, 64, 64), torch.empty(1), features)
        assert out.shape == (1, 8, 64, 64)
        assert large.autoencoder.decode(out).shape == x.shape


def test_networks_are_built_on_the_injected_operations_alone():
    class Recorded:
        made = set()

    def recording(name):
        kind = getattr(nn, name)
        made = type(name, (kind,), {})
        Recorded.made.add(made)
        return staticmethod(made)

    operations = type(
        "Operations", (), {n: recording(n) for n in ("Conv2d", "Linear", "GroupNorm", "LayerNorm")}
    )
    with torch.device("meta"):
        net = model.BlazeEdit(config.config("blazeedit-small"), operations=operations)
    weighted = [m for m in net.modules() if next(m.parameters(recurse=False), None) is not None]
    assert weighted and all(type(m) in Recorded.made for m in weighted)


def test_f_theta_sees_the_mask_scaled_by_tau(small):
    seen = []
    hook = small.condition.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][:, 3]))
    mask = torch.zeros(1, 64, 64)
    mask[:, 16:40, 16:40] = 1
    small.features(torch.rand(1, 3, 64, 64), mask, tasks.TASKS["remove"].tau)
    hook.remove()
    assert seen[0].unique().tolist() == pytest.approx([0.0, 0.4])


def test_tau_and_time_change_what_the_denoiser_says(small):
    net = small
    for parameter in (
        net.denoiser.out.weight,
        net.denoiser.up0[0].film.weight,
        net.denoiser.up0[0].conv2.weight,
    ):
        nn.init.normal_(parameter, std=0.1)
    x, mask = torch.rand(1, 3, 32, 32), torch.ones(1, 32, 32)
    z = torch.randn(1, 32, 4, 4, generator=torch.Generator().manual_seed(0))
    tone, relight = (net.features(x, mask, tasks.TASKS[t].tau) for t in ("tone", "relight"))
    t = torch.ones(1)
    assert not torch.allclose(net.denoise(z, t, tone, z), net.denoise(z, t, relight, z))
    assert not torch.allclose(net.denoise(z, t, tone, z), net.denoise(z, 0.5 * t, tone, z))


def test_a_network_that_learnt_nothing_returns_the_first_guess():
    net = model.BlazeEdit(config.config("blazeedit-small"))
    z, guess = torch.randn(2, 32, 5, 7), torch.randn(2, 32, 5, 7)
    features = net.features(torch.rand(2, 3, 40, 56), torch.ones(2, 40, 56), 0.4)
    assert torch.equal(net.denoise(z, torch.ones(2), features, guess), guess)


def test_the_linear_path_starts_as_a_projection_on_principal_components():
    cfg = config.config("blazeedit-small")
    coder = codec.Autoencoder(cfg.latent_channels, cfg.encoder, cfg.decoder)
    base = torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    mix = torch.rand(600, 40, generator=torch.Generator().manual_seed(1)).softmax(1) ** 2
    patches = torch.einsum("nk,kchw->nchw", mix / mix.sum(1, keepdim=True), base)
    codec.start_at_pca(coder, patches)
    out = coder.decode(coder.encode(patches))
    assert float((out - patches).square().mean()) < 0.1 * float((patches - patches.mean(0)).square().mean())


@pytest.mark.parametrize("name", list(schedule.SCHEDULES))
def test_x0_comes_back_from_the_true_noise(name):
    clean, noise = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8)
    t = torch.tensor([0.1, 0.5, 0.9])
    noisy = schedule.add_noise(name, clean, noise, t)
    assert torch.allclose(schedule.x0_from_epsilon(name, noisy, noise, t), clean, atol=1e-4)


def test_the_schedule_of_epsilon_keeps_some_signal_to_the_end():
    alpha, sigma = schedule.scaled_linear(torch.ones(1))
    assert float(alpha) == pytest.approx(0.0683, abs=1e-3)
    assert float(alpha**2 + sigma**2) == pytest.approx(1)


def test_the_sampler_visits_1_and_a_half_and_repeats_by_seed():
    seen = []

    def denoise(z, t):
        seen.append(float(t[0]))
        return 0.5 * z

    def draw(seed):
        generator = torch.Generator().manual_seed(seed)
        return schedule.sample(denoise, (1, 2, 4, 4), schedule="flow", steps=2, generator=generator)

    assert torch.equal(draw(3), draw(3)) and not torch.equal(draw(3), draw(4))
    assert seen[:2] == [1.0, 0.5]
    with pytest.raises(EditError, match="0 steps"):
        schedule.times(0)


def test_every_task_has_a_tau_of_its_own_and_a_sixth_must_too():
    taus = [t.tau for t in tasks.TASKS.values()]
    assert len(set(taus)) == 5 and tasks.TASKS["outpaint"].tau == 1.0
    assert tasks.register("sepia", 0.3, {}) == {"sepia": 0.3}
    with pytest.raises(EditError, match="relight"):
        tasks.register("sepia", 0.62, {})
    with pytest.raises(EditError, match="tone"):
        tasks.register("tone", 0.3, {})
    with pytest.raises(EditError, match="no task 'sepia'"):
        tasks.task("sepia")
    assert tasks.task("sepia", {"sepia": 0.3}).tau == 0.3


def test_a_configuration_survives_json():
    for cfg in config.CONFIGS.values():
        assert config.from_dict(cfg.to_dict()) == cfg
    with pytest.raises(EditError, match="not a BlazeEdit configuration"):
        config.from_dict({"name": "x"})
