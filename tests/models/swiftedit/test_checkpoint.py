"""SwiftEdit's release is found, read, refused and written."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from editkit.models.errors import EditError
from editkit.models.swiftedit import branch, checkpoint, processor
from editkit.tests.tiny_swiftedit import (
    CONTAINER,
    CONTEXT,
    EMBEDDING,
    container,
    tiny_projection,
    tiny_unet,
    write_release,
    write_unet,
)


@pytest.fixture(scope="module")
def state():
    return container(tiny_unet(2, with_branch=True), tiny_projection())


@pytest.fixture
def release(tmp_path):
    return write_release(tmp_path / "swiftedit_weights")


def without(state, *starts):
    return {k: v for k, v in state.items() if not k.startswith(starts)}


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def test_the_published_layout_is_found(release):
    found = checkpoint.find(release)
    assert found.inversion == release / "inverse_ckpt-120k" / "unet_ema"
    assert found.generator == release / "sbv2_0.5"
    assert found.branch == release / CONTAINER
    assert found.kind == "swiftbrush_v2"


def test_folders_may_have_other_names(release):
    (release / "sbv2_0.5").rename(release / "my generator")
    (release / "ip_adapter_ckpt-90k").rename(release / "branch")
    (release / "inverse_ckpt-120k").rename(release / "Fnet")
    found = checkpoint.find(release)
    names = [p.relative_to(release).as_posix() for p in (found.inversion, found.generator, found.branch)]
    assert names == ["Fnet/unet_ema", "my generator", "branch/ip_adapter.bin"]


def test_a_folder_above_called_inversion_misleads_nobody(tmp_path):
    release = write_release(tmp_path / "inversions" / "weights")
    assert checkpoint.find(release).generator == release / "sbv2_0.5"


def test_the_leftovers_of_macos_are_skipped(release):
    for path in [p for p in release.rglob("*") if p.is_file()]:
        (path.parent / f"._{path.name}").write_bytes(b"\x00\x05\x16\x07")
    found = checkpoint.find(release)
    assert found.branch.name == "ip_adapter.bin"
    assert len(checkpoint.read_unet(found.inversion)[1]) == len(tiny_unet().state_dict())


def test_a_part_that_is_absent_is_none(release):
    for path in (release / "sbv2_0.5").iterdir():
        path.unlink()
    assert checkpoint.find(release).generator is None


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(EditError, match=r"There is no folder .*gone; put SwiftEdit's release"):
        checkpoint.find(tmp_path / "gone")


def test_a_folder_with_nothing_of_swiftedit_is_told_what_it_should_hold(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(EditError, match=r"holds nothing of SwiftEdit; it should hold .*unet_ema.*https://"):
        checkpoint.find(tmp_path)


def test_a_config_that_is_no_json_is_passed_over(release):
    (release / "broken").mkdir()
    (release / "broken" / "config.json").write_text("{")
    assert checkpoint.find(release).generator == release / "sbv2_0.5"


def test_the_card_names_the_generator(release):
    (release / checkpoint.CARD).write_text('{"generator": "instaflow"}')
    assert checkpoint.find(release).kind == "instaflow"


@pytest.mark.parametrize("text, reason", [("{", "not a SwiftEdit card"), ("[]", "not a SwiftEdit card"),
                                          ('{"generator": "magic"}', "'magic' is unknown")])  # fmt: skip
def test_a_bad_card_is_refused(release, text, reason):
    (release / checkpoint.CARD).write_text(text)
    with pytest.raises(EditError, match=reason):
        checkpoint.find(release)


def test_a_unet_is_read_with_its_config(release):
    config, weights = checkpoint.read_unet(release / "inverse_ckpt-120k" / "unet_ema")
    assert "_class_name" not in config and config["cross_attention_dim"] == CONTEXT
    assert same(weights, tiny_unet(1).state_dict())


def test_a_unet_may_be_a_bin(release):
    folder = release / "sbv2_0.5"
    weights = load_file(folder / "diffusion_pytorch_model.safetensors")
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    torch.save(weights, folder / "diffusion_pytorch_model.bin")
    assert same(checkpoint.read_unet(folder)[1], weights)


def test_a_unet_may_lie_in_shards(release):
    folder, map_ = release / "sbv2_0.5", {}
    weights = load_file(folder / "diffusion_pytorch_model.safetensors")
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    names = sorted(weights)
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"diffusion_pytorch_model-{number:05}-of-00002.safetensors"
        save_file({k: weights[k] for k in part}, folder / file)
        map_ |= dict.fromkeys(part, file)
    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": map_}))
    assert same(checkpoint.read_unet(folder)[1], weights)
    (folder / "diffusion_pytorch_model-00002-of-00002.safetensors").unlink()
    with pytest.raises(EditError, match="00002-of-00002.safetensors is missing; the release is incomplete"):
        checkpoint.read_unet(folder)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 3}}'])
def test_a_damaged_index_is_refused(release, text):
    index = release / "sbv2_0.5" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(text)
    with pytest.raises(EditError, match="is not an index of weights; download it again"):
        checkpoint.read_unet(index.parent)


def test_shards_lie_beside_their_index(release):
    index = release / "sbv2_0.5" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "../unet_ema/diffusion_pytorch_model.safetensors"}}')
    assert same(checkpoint.read_unet(index.parent)[1], tiny_unet(2).state_dict())


def test_a_unet_without_weights_is_told_what_it_lacks(release):
    (release / "sbv2_0.5" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(EditError, match="lacks its weights; put diffusion_pytorch_model.safetensors there"):
        checkpoint.read_unet(release / "sbv2_0.5")


@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
def test_the_container_is_read_from_either_kind_of_file(tmp_path, state, suffix):
    path = tmp_path / f"ip_adapter.{suffix}"
    if suffix == "bin":
        torch.save(state, path)
    else:
        save_file({k: v.clone() for k, v in state.items()}, path)
    assert same(checkpoint.read_branch(path).unet, tiny_unet(2).state_dict())


def test_the_oldest_kind_of_bin_is_read_too(tmp_path, state):
    torch.save(state, tmp_path / "ip_adapter.bin", _use_new_zipfile_serialization=False)
    assert len(checkpoint.read_branch(tmp_path / "ip_adapter.bin").layers) == 4


def test_every_tensor_of_the_container_has_its_place(state):
    found = checkpoint.split(state)
    made = processor.install(tiny_unet(2))
    assert (found.context, found.embedding) == (CONTEXT, EMBEDDING)
    assert list(found.layers) == list(made)
    assert found.widths == {name: len(one.to_k_ip.weight) for name, one in made.items()}
    for name, parts in found.layers.items():
        assert torch.equal(parts["to_v_ip.weight"], state[f"unet.{name}.processor.to_v_ip.weight"])


def test_what_was_read_fits_the_branch_module(state):
    found = checkpoint.split(state)
    image = branch.ImageBranch(found.widths, found.embedding, found.context)
    image.load_state_dict(found.state())
    assert torch.equal(image.projection.proj.weight, state["image_proj_model.proj.weight"])


def test_numbered_copies_alone_are_put_in_diffusers_order(state):
    named = checkpoint.split(state)
    numbered = checkpoint.split({k: v for k, v in state.items() if ".processor." not in k})
    assert list(numbered.layers) == list(named.layers)
    assert all(same(numbered.layers[name], named.layers[name]) for name in named.layers)


def test_the_order_of_the_tensors_in_the_file_does_not_matter(state):
    turned = dict(reversed(state.items()))
    numbered = {k: v for k, v in turned.items() if ".processor." not in k}
    for found in (checkpoint.split(turned), checkpoint.split(numbered)):
        assert same(found.state(), checkpoint.split(state).state())


def test_named_copies_alone_are_enough(state):
    assert len(checkpoint.split(without(state, "adapter_modules.")).layers) == 4


def test_a_branch_without_its_generator_is_read(state):
    found = checkpoint.split({k: v for k, v in state.items() if ".processor." in k or "proj_model" in k})
    assert not found.unet and len(found.layers) == 4


def test_copies_that_differ_are_refused(state):
    changed = state | {"adapter_modules.3.to_k_ip.weight": state["adapter_modules.3.to_k_ip.weight"] + 1}
    with pytest.raises(EditError, match="two copies of the image layers differ"):
        checkpoint.split(changed)


@pytest.mark.parametrize(
    "part",
    ["image_proj_model.norm.bias", "image_proj_model.proj.weight",
     "unet.mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_v_ip.weight"],
)  # fmt: skip
def test_a_missing_part_is_named(state, part):
    name = part.removeprefix("image_proj_model.").removeprefix("unet.").replace(".processor", "")
    with pytest.raises(EditError, match=f"no whole image branch, for example '{name}'"):
        checkpoint.split(without(state, part, "adapter_modules."))


def test_a_missing_numbered_layer_is_counted(state):
    lacking = {k: v for k, v in without(state, "adapter_modules.3.").items() if ".processor." not in k}
    with pytest.raises(EditError, match="has 3 image layers, and its UNet 4 cross-attentions"):
        checkpoint.split(lacking)


def test_a_tensor_that_is_nobodys_is_refused(state):
    with pytest.raises(EditError, match="1 of its tensors are not SwiftEdit's, for example 'text_encoder.x'"):
        checkpoint.split(state | {"text_encoder.x": torch.zeros(1)})


def test_a_plain_unet_is_no_branch(tmp_path):
    save_file(
        {f"unet.{k}": v for k, v in tiny_unet().state_dict().items()}, tmp_path / "ip_adapter.safetensors"
    )
    with pytest.raises(EditError, match=r"ip_adapter\.safetensors: It has no whole image branch"):
        checkpoint.read_branch(tmp_path / "ip_adapter.safetensors")


class Code:
    """Runs a command where it is unpickled as code."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def one_sentence(error) -> str:
    text = str(error.value)
    assert "\n" not in text and text.endswith(".") and len(text) < 400
    return text


def test_a_bin_with_code_is_refused_and_its_code_not_run(tmp_path):
    torch.save({"a": torch.zeros(1), "b": Code(tmp_path / "ran")}, tmp_path / "ip_adapter.bin")
    with pytest.raises(EditError) as error:
        checkpoint.read_branch(tmp_path / "ip_adapter.bin")
    assert "it holds something other than tensors, which is never loaded" in one_sentence(error)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
@pytest.mark.parametrize("kept", [0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path, state, suffix, kept):
    path = tmp_path / f"ip_adapter.{suffix}"
    torch.save(state, path) if suffix == "bin" else save_file({k: v.clone() for k, v in state.items()}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(EditError) as error:
        checkpoint.read_branch(path)
    assert one_sentence(error).startswith(f"{path} cannot be read (")


@pytest.mark.parametrize(
    "content", [b"<html>not found</html>", b"version https://git-lfs.github.com/spec/v1\n"]
)
def test_what_is_no_weight_file_is_refused(tmp_path, content):
    (tmp_path / "ip_adapter.bin").write_bytes(content)
    with pytest.raises(EditError) as error:
        checkpoint.read_branch(tmp_path / "ip_adapter.bin")
    assert "cannot be read" in one_sentence(error)


@pytest.mark.parametrize("what", [[torch.zeros(1)], {"weights": {"a": torch.zeros(1)}}, {"step": 3}])
def test_a_bin_of_another_kind_is_refused(tmp_path, what):
    torch.save(what, tmp_path / "ip_adapter.bin")
    with pytest.raises(EditError, match="is not a state dict of tensors"):
        checkpoint.read_branch(tmp_path / "ip_adapter.bin")


def test_what_training_saves_is_found_and_read_again(tmp_path, state):
    generator = tiny_unet(2)
    config = dict(generator.config)
    checkpoint.save_unet(tmp_path / "inverse" / "unet_ema", config, tiny_unet(1).state_dict())
    checkpoint.save_unet(tmp_path / "generator", config, generator.state_dict())
    own = {k: v for k, v in state.items() if ".processor." in k or k.startswith("image_proj_model.")}
    checkpoint.save_branch(tmp_path, own, "instaflow")
    found = checkpoint.find(tmp_path)
    assert found.kind == "instaflow"
    assert same(checkpoint.read_unet(found.inversion)[1], tiny_unet(1).state_dict())
    assert same(checkpoint.read_unet(found.generator)[1], generator.state_dict())
    assert same(checkpoint.read_branch(found.branch).state(), checkpoint.split(state).state())
    assert not list(tmp_path.rglob("*.part"))


def test_a_saved_unet_is_one_of_diffusers(tmp_path):
    from diffusers import UNet2DConditionModel

    unet = tiny_unet()
    checkpoint.save_unet(tmp_path / "unet", dict(unet.config), unet.state_dict())
    assert same(UNet2DConditionModel.from_pretrained(tmp_path / "unet").state_dict(), unet.state_dict())


def test_an_unknown_generator_is_not_written(tmp_path):
    with pytest.raises(EditError, match="'magic' is unknown"):
        checkpoint.save_branch(tmp_path, {"a": torch.zeros(1)}, "magic")


def test_a_release_of_two_unets_prefers_safetensors(tmp_path):
    write_unet(tmp_path / "unet", tiny_unet(5))
    (tmp_path / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"worse")
    assert same(checkpoint.read_unet(tmp_path / "unet")[1], tiny_unet(5).state_dict())
