"""The family `aram`: it agrees with the recorded numbers, and a file that was changed does not."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from editkit.benchmarks import cli, parity, parity_aram, swiftedit
from editkit.models.errors import EditError
from editkit.models.swiftedit.generators import alpha_sigma
from editkit.tests.tiny_swiftedit import CONFIG, CONTEXT, EMBEDDING, container, tiny_projection, tiny_unet

PROC = [f"proc_{name}" for name in parity_aram.PROC]
E2E = [f"e2e_{name}" for name in parity_aram.E2E]
SCALES = "scale_ta", "scale_edit", "scale_non_edit"
OVERRIDES = {  # the kw of each recorded edit
    "e2e_default": {},
    "e2e_paper_scales": {"scale_ta": 2, "scale_edit": 0},
    "e2e_empty_source": {"scale_ta": 0, "scale_non_edit": 0.7, "clamp_rate": 2.5, "mask_threshold": 0.55},
}
QUANTITIES = ("inv.out", "mask64", "ip.image_tokens", "gen.sample", "gen.out", "pred_x0")


@pytest.fixture
def shipped(root):
    return root / "tests" / "fixtures" / "aram"


@pytest.fixture(scope="session")
def recorded(tmp_path_factory):
    """A folder of e2e_* files in the recorded layout, of tiny networks by the plain steps of the benchmark."""
    folder = tmp_path_factory.mktemp("edits") / "aram"
    folder.mkdir()
    inversion, generator, projection = tiny_unet(1), tiny_unet(2, with_branch=True), tiny_projection()
    notes, whole = {"config": json.dumps(CONFIG)}, container(generator, projection)
    save_file(inversion.state_dict(), folder / parity_aram.INVERSION, notes)
    own = {k for k in whole if k.startswith("unet.") and ".processor." not in k}
    save_file({k.removeprefix("unet."): whole[k] for k in own}, folder / parity_aram.GENERATOR, notes)
    save_file({k: v.clone() for k, v in whole.items() if k not in own}, folder / parity_aram.WEIGHTS)
    torch.save(whole, folder / parity_aram.CONTAINER)
    generator.set_attn_processor(dict(swiftedit.both_processors(generator)[1]))
    for name, overrides in OVERRIDES.items():
        with torch.inference_mode():
            tensors, notes = edited(inversion, generator, projection, overrides)
        save_file(
            {k: v.contiguous().clone() for k, v in tensors.items()}, folder / f"{name}.safetensors", notes
        )
    return folder


def edited(inversion, generator, projection, overrides):
    """(tensors, metadata) of one edit by the released steps."""
    draw = torch.Generator().manual_seed(0)
    latent, text, embedding = (
        torch.randn(s, generator=draw) for s in ((1, 4, 16, 16), (2, 7, CONTEXT), (1, EMBEDDING))
    )
    alpha, sigma = alpha_sigma(999)
    tokens = projection(embedding)
    twice, context = torch.cat([latent, latent]), torch.cat([text, tokens.repeat(2, 1, 1)], 1)
    noise = inversion(twice, 500, text).sample
    limits = overrides.get("clamp_rate", 3.0), overrides.get("mask_threshold", 0.5)
    mask = swiftedit.released_mask(*noise, *limits)
    scales = [overrides.get(name, default) for name, default in zip(SCALES, swiftedit.SCALES, strict=True)]
    scales[0] = scales[0] or 1  # 0 is "no scaling"
    swiftedit.control(generator.attn_processors.values(), mask, scales)
    start = (alpha * latent + sigma * noise[:1]).repeat(2, 1, 1, 1)
    out = generator(start, 999, context).sample
    return {
        "z_scaled": latent, "inv.sample": twice, "inv.timestep": torch.tensor([500]), "inv.context": text,
        "inv.out": noise, "mask64": mask, "clip.image_embeds": embedding, "ip.image_tokens": tokens,
        "gen.sample": start, "gen.timestep": torch.tensor([999]), "gen.context_with_image_tokens": context,
        "gen.out": out, "pred_x0": (start - sigma * out) / alpha,
    }, {"kw": json.dumps(overrides), "alpha_t": str(alpha), "sigma_t": str(sigma)}  # fmt: skip


def quantities(name, folder):
    """What a case of the family finds in a folder."""
    (found,) = (c for c in parity.FAMILIES["aram"] if c.name == name)
    assert found.found(folder)
    return list(found.check(folder))


def copied(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "aram")
    return tmp_path / "aram"


def change(path, tensor=None, notes=None):
    """Rewrites a safetensors file with one tensor, or some metadata, a little different."""
    tensors, metadata = load_file(path), parity_aram.metadata(path)
    if tensor:
        value = tensors[tensor]
        tensors[tensor] = (
            1 - value if "mask" in tensor else value * 1.001 + 1 if value.is_floating_point() else value + 1
        )
    save_file(tensors, path, metadata | (notes or {}))


def test_the_family_has_the_cases_of_the_contract():
    assert {c.name for c in parity.FAMILIES["aram"]} == {*PROC, *E2E, "loader", "keys"}


def test_the_command_checks_what_ships(shipped, capsys):
    assert cli.main(["parity", str(shipped)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "9 cases, 11 quantities, 0 failed"
    assert "aram e2e_default absent" in lines and "aram loader absent" in lines


@pytest.mark.parametrize("name", PROC)
def test_a_layer_agrees_with_the_released_code(shipped, name):
    (found,) = quantities(name, shipped)
    assert (found.name, found.tolerance) == ("y", 2e-6) and found.ok


@pytest.mark.parametrize("name", PROC)
@pytest.mark.parametrize("tensor", ["y", "x", "text", "to_v_ip.weight", "to_out.0.bias"])
def test_a_changed_layer_fails(shipped, tmp_path, name, tensor):
    folder = copied(shipped, tmp_path)
    change(folder / f"{name}.safetensors", tensor)
    assert not quantities(name, folder)[0].ok


@pytest.mark.parametrize("key, value", [("scale_text", "1.1"), ("scale_ip_fg", "0.3"), ("scale_ip_bg", "0.9"),
                                        ("controller", "False"), ("heads", "4")])  # fmt: skip
def test_a_layers_metadata_counts(shipped, tmp_path, key, value):
    folder = copied(shipped, tmp_path)
    change(folder / "proc_default_64to16.safetensors", notes={key: value})
    assert not quantities("proc_default_64to16", folder)[0].ok


def test_a_changed_mask_fails(shipped, tmp_path):
    folder = copied(shipped, tmp_path)
    change(folder / "proc_default_64to16.safetensors", "mask")
    assert not quantities("proc_default_64to16", folder)[0].ok


def test_a_text_scale_of_0_is_no_scaling_as_released():
    assert parity_aram.official_scales(0, 0.2, 1).text_scale == 1.0


@pytest.mark.parametrize("name", E2E)
def test_a_whole_edit_agrees_with_the_released_steps(recorded, name):
    found = quantities(name, recorded)
    assert tuple(q.name for q in found) == QUANTITIES
    assert [q.tolerance for q in found] == [1e-5, 0, 1e-5, 2e-6, 1e-5, 1e-5]
    assert all(q.ok for q in found)


def test_a_whole_edit_has_something_to_edit(recorded):
    for name in E2E:
        tensors = load_file(recorded / f"{name}.safetensors")
        assert 0.02 < tensors["mask64"].mean() < 0.6
        assert (tensors["gen.out"][0] - tensors["gen.out"][1]).abs().max() > 0.1


@pytest.mark.parametrize("tensor", QUANTITIES)
def test_a_changed_output_fails_by_its_name(recorded, tmp_path, tensor):
    folder = copied(recorded, tmp_path)
    change(folder / "e2e_default.safetensors", tensor)
    assert tensor in [q.name for q in quantities("e2e_default", folder) if not q.ok]


@pytest.mark.parametrize(
    "tensor", ["z_scaled", "inv.context", "clip.image_embeds", "gen.context_with_image_tokens"]
)
def test_a_changed_input_fails(recorded, tmp_path, tensor):
    folder = copied(recorded, tmp_path)
    change(folder / "e2e_default.safetensors", tensor)
    try:
        assert not all(q.ok for q in quantities("e2e_default", folder))
    except EditError:
        assert tensor == "z_scaled"  # it is no longer what the networks were given


@pytest.mark.parametrize("tensor", ["inv.sample", "inv.timestep", "gen.timestep"])
def test_a_network_that_was_called_otherwise_fails(recorded, tmp_path, tensor):
    folder = copied(recorded, tmp_path)
    change(folder / "e2e_default.safetensors", tensor)
    with pytest.raises(EditError, match="not what our code gives the network"):
        quantities("e2e_default", folder)


@pytest.mark.parametrize("override", [{"scale_ta": 1.1}, {"scale_edit": 0.5}, {"scale_non_edit": 0.5},
                                      {"clamp_rate": 2.0}, {"mask_threshold": 0.4}], ids=str)  # fmt: skip
def test_every_recorded_option_counts(recorded, tmp_path, override):
    folder = copied(recorded, tmp_path)
    change(folder / "e2e_default.safetensors", notes={"kw": json.dumps(override)})
    assert not all(q.ok for q in quantities("e2e_default", folder))


def test_another_schedule_fails(recorded, tmp_path):
    folder = copied(recorded, tmp_path)
    change(folder / "e2e_default.safetensors", notes={"alpha_t": "0.07"})
    with pytest.raises(EditError, match="alpha_t and sigma_t were"):
        quantities("e2e_default", folder)


@pytest.mark.parametrize("file", [parity_aram.GENERATOR, parity_aram.INVERSION])
def test_a_changed_network_fails(recorded, tmp_path, file):
    folder = copied(recorded, tmp_path)
    change(folder / file, "conv_in.weight")
    assert not all(q.ok for q in quantities("e2e_default", folder))


def test_the_released_container_is_read_whole(recorded):
    found = quantities("loader", recorded)
    assert [(q.name, q.value) for q in found] == [
        ("unet", 0),
        ("image_branch", 0),
        ("left_over", 0),
        ("missing", 0),
    ]


def test_a_changed_weight_of_the_container_fails(recorded, tmp_path):
    folder = copied(recorded, tmp_path)
    state = torch.load(folder / parity_aram.CONTAINER)
    state["unet.conv_in.bias"][3] += 1e-6
    torch.save(state, folder / parity_aram.CONTAINER)
    assert [q.name for q in quantities("loader", folder) if not q.ok] == ["unet"]


@pytest.mark.parametrize("tensor", ["adapter_modules.3.to_k_ip.weight", "image_proj_model.norm.bias"])
def test_a_changed_weight_beside_the_container_fails(recorded, tmp_path, tensor):
    folder = copied(recorded, tmp_path)
    change(folder / parity_aram.WEIGHTS, tensor)
    assert [q.name for q in quantities("loader", folder) if not q.ok] == ["image_branch"]


def test_a_copy_that_the_container_lacks_is_missing(recorded, tmp_path):
    folder = copied(recorded, tmp_path)
    state = torch.load(folder / parity_aram.CONTAINER)
    del state["adapter_modules.3.to_v_ip.weight"]
    torch.save(state, folder / parity_aram.CONTAINER)
    assert [(q.name, q.value) for q in quantities("loader", folder) if not q.ok] == [("missing", 1)]


def test_a_truncated_container_is_a_failure_in_one_line(recorded, tmp_path, capsys):
    folder = copied(recorded, tmp_path)
    whole = (folder / parity_aram.CONTAINER).read_bytes()
    (folder / parity_aram.CONTAINER).write_bytes(whole[: len(whole) // 2])
    assert cli.main(["parity", str(folder)]) == 1
    assert "aram loader error inf 0 FAILED (" in capsys.readouterr().out


def keys_with(shipped, tmp_path, edit):
    folder = copied(shipped, tmp_path)
    listed = json.loads((folder / parity_aram.KEYS).read_text())
    edit(listed)
    (folder / parity_aram.KEYS).write_text(json.dumps(listed))
    return folder


def test_all_published_keys_and_shapes_have_their_place(shipped):
    assert len(json.loads((shipped / parity_aram.KEYS).read_text())) == 754
    found = quantities("keys", shipped)
    assert [(q.name, q.value) for q in found] == [("left_over", 0), ("missing", 0), ("shapes", 0)]


@pytest.mark.parametrize("key, shape", [("unet.conv_in.weight", [320, 9, 3, 3]),
                                        ("image_proj_model.proj.weight", [4096, 1280]),
                                        ("adapter_modules.1.to_k_ip.weight", [320, 768])])  # fmt: skip
def test_a_changed_shape_fails_even_if_it_fits_the_rest(shipped, tmp_path, key, shape):
    folder = keys_with(shipped, tmp_path, lambda keys: keys.update({key: shape}))
    try:
        assert not all(q.ok for q in quantities("keys", folder))
    except EditError as error:
        assert key.startswith("adapter") and "copies" in str(error)


def test_a_key_too_few_fails(shipped, tmp_path):
    folder = keys_with(shipped, tmp_path, lambda keys: keys.pop("adapter_modules.31.to_v_ip.weight"))
    assert [(q.name, q.value) for q in quantities("keys", folder) if not q.ok] == [("missing", 1)]


def test_a_key_too_many_fails(shipped, tmp_path):
    folder = keys_with(
        shipped, tmp_path, lambda keys: keys.update({"adapter_modules.33.to_v_ip.weight": [320, 1024]})
    )
    assert [(q.name, q.value) for q in quantities("keys", folder) if not q.ok] == [("left_over", 1)]
