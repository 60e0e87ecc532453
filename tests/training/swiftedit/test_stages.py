"""What each stage computes and trains, on networks of random weights."""

import copy
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from editkit.models.errors import EditError
from editkit.models.swiftedit.generators import GENERATORS
from editkit.tests.training.swiftedit import tiny
from editkit.training.store import Store
from editkit.training.swiftedit import data, folders, networks, perceptual, stages

FAMILY, SIZE = GENERATORS["swiftbrush_v2"], 16


@pytest.fixture
def frozen(pipeline, teacher):
    return networks.Frozen(folders.resolve(str(pipeline), FAMILY, teacher=str(teacher)))


@pytest.fixture
def stage1(frozen):
    torch.manual_seed(0)
    return stages.Stage1(frozen, FAMILY, stages.Recipe(), SIZE, tiny.captions(20))


@pytest.fixture
def stage2(frozen, photos, tmp_path, random_dists):
    torch.manual_seed(0)
    made, store = stages.Recipe(), Store(tmp_path, "tiny")
    options = {"store": store, "skip_stage1": True, "dists": perceptual.load_dists()}
    return stages.Stage2(frozen, FAMILY, made, SIZE, data.read_photos(str(photos)), **options)


def batch(stage, count=2):
    return stage.batch(np.random.default_rng(0), count, SIZE)


def trained(stage):
    stage("main", *batch(stage))["loss"].backward()
    return {name for name, p in stage.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}


def test_stage_1_learns_the_inversion_net_the_projection_and_the_image_layers(stage1):
    learns = trained(stage1)
    assert learns == {name for name, p in stage1.named_parameters() if p.requires_grad}
    kinds = {name.split(".")[0] for name in learns}
    assert kinds == {"inversion", "branch"}
    assert {
        "branch.projection.proj.weight",
        "branch.layers.0.to_k_ip.weight",
        "branch.layers.0.to_v_ip.weight",
    } <= learns


def test_the_image_layers_start_as_the_texts(stage1, frozen):
    layers = [m for n, m in frozen.generator.named_modules() if n.endswith("attn2")]
    assert len(layers) == len(stage1.branch.layers) > 2
    for layer in layers:
        assert torch.equal(layer.processor.to_k_ip.weight, layer.to_k.weight)
        assert torch.equal(layer.processor.to_v_ip.weight, layer.to_v.weight)


def test_the_generator_that_makes_the_pictures_has_no_branch(stage1, frozen, pipeline):
    """z = G(eps, c_y) of Eq. 5, however the branch has changed."""
    noise, ids = batch(stage1)
    context = frozen.context(ids)
    with torch.no_grad():
        for parameter in stage1.branch.parameters():
            parameter.normal_()
        own = networks.generate(frozen.generator, FAMILY, noise, context, stage1.branch)
        plain = networks.generate(networks.load_unet(pipeline / "unet"), FAMILY, noise, context)
        image = frozen.decode(own)
        conditioned = stage1.reconstruct(own, noise, context, image)
    assert torch.allclose(own, plain, atol=1e-4)
    assert not torch.allclose(conditioned, plain, atol=0.1)


def test_the_loss_of_stage_1_is_equation_7(stage1, frozen):
    noise, ids = batch(stage1)
    stage1.recipe = replace(stage1.recipe, weight=0.25)
    with torch.no_grad():
        out, context = stage1.losses(noise, ids), frozen.context(ids)
        z = networks.generate(frozen.generator, FAMILY, noise, context, stage1.branch)
        inverted = stage1.inversion(z, 500, context).sample
        tokens = stage1.branch.tokens(frozen.embedding(frozen.decode(z)))
        x_t = FAMILY.alpha * z + FAMILY.sigma * inverted
        predicted = frozen.generator(x_t, 999, torch.cat([context, tokens], 1)).sample
        made = (x_t - FAMILY.sigma * predicted) / FAMILY.alpha
    expected = (z - made).square().mean() + 0.25 * (noise - inverted).square().mean()
    assert torch.allclose(out["loss"], expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("dropped", "left"), [("reconstruction", "regression"), ("regression", "reconstruction")]
)
def test_each_loss_of_stage_1_can_be_dropped(stage1, dropped, left):
    whole = stage1.losses(*batch(stage1))
    stage1.recipe = replace(stage1.recipe, **{dropped: False})
    out = stage1("main", *batch(stage1))
    assert torch.allclose(out["loss"], whole[left]) and not torch.allclose(out["loss"], whole["loss"])


@pytest.mark.parametrize(
    ("dropped", "left"), [("perceptual", "regularisation"), ("regularised", "perceptual")]
)
def test_each_loss_of_stage_2_can_be_dropped(stage2, dropped, left):
    whole = stage2.losses(*batch(stage2))
    assert torch.allclose(whole["loss"], whole["perceptual"] + whole["regularisation"])
    stage2.recipe = replace(stage2.recipe, **{dropped: False})
    out = stage2("main", *batch(stage2))
    assert set(out) == {"loss", left} and torch.allclose(out["loss"], whole[left])


@pytest.mark.parametrize(
    ("kind", "recipe"),
    [
        ("stage 1", {"reconstruction": False, "regression": False}),
        ("stage 2", {"perceptual": False, "regularised": False}),
    ],
)
def test_a_stage_without_losses_is_refused(frozen, tmp_path, kind, recipe):
    recipe = stages.Recipe(**recipe)
    with pytest.raises(EditError, match=f"{kind} has nothing to learn"):
        if kind == "stage 1":
            stages.Stage1(frozen, FAMILY, recipe, SIZE, tiny.captions(4))
        else:
            stages.Stage2(frozen, FAMILY, recipe, SIZE, [], store=Store(tmp_path, "tiny"))


def test_pure_noise_is_what_equation_4_says(stage1, frozen):
    noise, ids = batch(stage1)
    context, latent = frozen.context(ids), torch.randn(noise.shape)
    image = torch.rand(2, 3, SIZE, SIZE)
    starts = []
    frozen.generator.register_forward_pre_hook(lambda module, arguments: starts.append(arguments[0]))
    stage1.reconstruct(latent, noise, context, image)
    stage1.recipe = replace(stage1.recipe, pure_noise=True)
    stage1.reconstruct(latent, noise, context, image)
    stage1.recipe, stage1.family = replace(stage1.recipe, pure_noise=False), GENERATORS["instaflow"]
    stage1.reconstruct(latent, noise, context, image)
    assert torch.allclose(starts[0], FAMILY.alpha * latent + FAMILY.sigma * noise)
    assert torch.equal(starts[1], noise) and torch.equal(
        starts[2], noise
    )  # a rectified flow starts there anyway


def test_stage_2_starts_from_stage_1_and_trains_the_inversion_net_alone(
    stage1, pipeline, teacher, photos, tmp_path, random_dists
):
    store = Store(tmp_path, "tiny")
    for name, part in stage1.parts().items():
        store.save_part(name, {k: v + 0.01 for k, v in part.state_dict().items()})
    fresh = networks.Frozen(folders.resolve(str(pipeline), FAMILY, teacher=str(teacher)))
    dists = perceptual.load_dists()
    stage = stages.Stage2(
        fresh, FAMILY, stages.Recipe(), SIZE, data.read_photos(str(photos)), store=store, dists=dists
    )
    for old, new in ((stage1.inversion, stage.inversion), (stage1.branch, stage.branch)):
        pairs = zip(old.parameters(), new.parameters(), strict=True)
        assert all(torch.allclose(a + 0.01, b, atol=1e-6) for a, b in pairs)
    assert {name.split(".")[0] for name in trained(stage)} == {"inversion"}
    assert list(stage.parts()) == ["stage2_inversion"]


def test_without_stage_1_the_image_branch_learns_in_stage_2(stage2):
    assert {name.split(".")[0] for name in trained(stage2)} == {"inversion", "branch"}
    assert list(stage2.parts()) == ["stage2_inversion", "stage2_branch"]


def test_without_the_image_branch_the_generator_stays_as_it_is(frozen):
    stage = stages.Stage1(frozen, FAMILY, stages.Recipe(image_branch=False), SIZE, tiny.captions(20))
    assert {name.split(".")[0] for name in trained(stage)} == {"inversion"}
    assert list(stage.parts()) == ["stage1_inversion"]


def test_checkpointing_changes_no_gradient(stage1):
    stage1("main", *batch(stage1))["loss"].backward()
    before = {n: p.grad.clone() for n, p in stage1.named_parameters() if p.grad is not None}
    stage1.zero_grad()
    stage1.enable_checkpointing()
    stage1("main", *batch(stage1))["loss"].backward()
    for name, parameter in stage1.named_parameters():
        if name in before:
            assert torch.allclose(
                parameter.grad, before[name], rtol=1e-3, atol=1e-4 * before[name].abs().max()
            )


def test_what_is_frozen_never_trains(stage2):
    stage2.train()
    assert not any(module.training for module in stage2.frozen.modules())
    assert stage2.inversion.training


def test_the_held_out_noise_is_every_seeds(frozen):
    made = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        made.append(stages.Stage1(copy.deepcopy(frozen), FAMILY, stages.Recipe(), SIZE, tiny.captions(20)))
    assert torch.equal(made[0].held_noise, made[1].held_noise)
    assert not torch.equal(made[0].branch.projection.proj.weight, made[1].branch.projection.proj.weight)


def test_a_size_that_the_networks_cannot_halve_is_refused(frozen):
    with pytest.raises(EditError, match="--size 18 is not a multiple of 4"):
        stages.Stage1(frozen, FAMILY, stages.Recipe(), 18, tiny.captions(20))


def test_clip_sees_what_its_own_preprocessor_makes():
    from PIL import Image
    from transformers import CLIPImageProcessor

    torch.manual_seed(0)
    small = Image.fromarray((torch.rand(6, 8, 3) * 255).byte().numpy())
    picture = small.resize((320, 256), Image.Resampling.BICUBIC)
    processor = CLIPImageProcessor(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64})
    theirs = processor(picture, return_tensors="pt").pixel_values
    image = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 255
    assert float((networks.clip_pixels(image, 64) - theirs).abs().max()) < 0.03


def test_a_network_with_missing_weights_is_refused_not_left_at_random(pipeline, tmp_path):
    from safetensors.torch import load_file, save_file
    from transformers import CLIPTextModel

    folder = shutil.copytree(pipeline / "text_encoder", tmp_path / "text_encoder")
    state = load_file(folder / "model.safetensors")
    gone = next(name for name in state if "final_layer_norm" in name)
    save_file({k: v for k, v in state.items() if k != gone}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(EditError, match="lack .*final_layer_norm"):
        networks.load(CLIPTextModel, folder)
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(EditError, match="cannot be read as a CLIPTextModel"):
        networks.load(CLIPTextModel, folder)
