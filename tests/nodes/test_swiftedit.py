"""SwiftEdit's nodes where there is no ComfyUI, and what of them needs none."""

import gc

import pytest
import torch

import editkit
from editkit.models.errors import EditError
from editkit.models.swiftedit.aram import PRESETS
from editkit.nodes import swiftedit as nodes
from editkit.nodes import swiftedit_edit
from editkit.nodes.host import folders, memo, prompts, swiftedit_pictures, unets

SD21 = {"block_out_channels": [320, 640, 1280, 1280], "layers_per_block": 2, "attention_head_dim": [5, 10, 20, 20],
        "cross_attention_dim": 1024, "use_linear_projection": True,
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"]}  # fmt: skip
SD15 = SD21 | {"attention_head_dim": 8, "cross_attention_dim": 768, "use_linear_projection": False}
EMPTY = [[torch.zeros(1, 77, 8), {}]]


@pytest.fixture(autouse=True)
def forgotten():
    memo.forget()


def test_without_comfyui_the_nodes_say_that_they_need_it():
    for name, inputs in {
        "EditKitLoadSwiftEdit": {"release": "x", "family": "auto", "weight_dtype": "default"},
        "EditKitSwiftEditGuider": {"model": None, "source": EMPTY, "edit": EMPTY, "result": "edit"},
    }.items():
        with pytest.raises(EditError, match="run this workflow in ComfyUI"):
            editkit.NODE_CLASS_MAPPINGS[name]().run(**inputs)


def test_a_missing_release_is_named_with_where_it_belongs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = nodes.LoadSwiftEdit.VALIDATE_INPUTS("swiftedit")
    assert "'swiftedit'" in said and "ip_adapter.bin" in said and "editkit" in said


def test_a_release_is_found_by_its_parts_whatever_it_is_called(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "models" / "editkit"
    files = ("mine/ip/ip_adapter.bin", "half/inverse/unet_ema/config.json", "mac/x/._ip_adapter.bin", "other/a.json")
    for name in files:
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text("{}")
    assert list(folders.releases()) == ["half", "mine"]
    assert nodes.LoadSwiftEdit.INPUT_TYPES()["required"]["release"][0] == ["half", "mine"]
    assert nodes.LoadSwiftEdit.VALIDATE_INPUTS("mine") is True


def test_presets_bring_their_own_scales_and_custom_takes_the_widgets():
    custom = {"text_scale": 3.0, "edit_scale": 0.1, "non_edit_scale": 0.5}
    assert nodes.chosen("paper", **custom) == PRESETS["paper"]
    assert nodes.chosen("global", global_scale=0.7, **custom).image_scale == 0.7
    made = nodes.chosen("custom", **custom)
    assert (made.text_scale, made.edit_scale, made.non_edit_scale, made.image_scale) == (3.0, 0.1, 0.5, None)


class Clip:
    def __init__(self):
        self.asked = []

    def tokenize(self, text):
        self.asked.append(text)
        return text

    def encode_from_tokens_scheduled(self, text):
        length = 154 if "long" in text else 77
        tokens = torch.full((1, length, 8), float(len(text)))
        return [[tokens, {"pooled_output": torch.full((1, 4), float(len(text)))}]]


def test_edits_of_a_list_become_one_batch_and_are_encoded_once():
    clip = Clip()
    first = prompts.encoded(clip, prompts.lines("a cat\n\n  a long dog \n"))
    assert first[0][0].shape == (2, 154, 8) and first[0][0][:, 0, 0].tolist() == [5.0, 10.0]
    assert first[0][1]["pooled_output"][:, 0].tolist() == [5.0, 10.0]
    assert prompts.encoded(clip, ["a cat", "a long dog"]) is first and clip.asked == ["a cat", "a long dog"]


REGIONAL = [[EMPTY[0][0], {"area": (1,)}]]


@pytest.mark.parametrize(("conditioning", "word"), [(EMPTY * 2, "2 combined"), (REGIONAL, "area")])
def test_mixed_and_regional_prompts_are_refused(conditioning, word):
    with pytest.raises(EditError, match=word):
        prompts.single(conditioning, "edit")


def test_an_empty_list_of_edits_is_refused():
    with pytest.raises(EditError, match="one a line"):
        nodes.SwiftEditPrompts().run(clip=Clip(), edits=" \n")


@pytest.mark.parametrize("text", ["", "0, x", "11", ",".join(["1"] * 13), "-1"])
def test_a_bad_list_of_scales_is_refused_with_its_text(text):
    with pytest.raises(EditError, match="edit_scales"):
        swiftedit_edit.numbers(text, "edit_scales")


def test_a_list_of_scales_is_read():
    assert swiftedit_edit.numbers("0, .5; 2", "text_scales") == [0.0, 0.5, 2.0]


class Vae:
    def __init__(self, channels=4):
        self.channels, self.calls = channels, 0

    def encode(self, pixels):
        self.calls += 1
        return torch.nn.functional.avg_pool2d(pixels.movedim(-1, 1), 8)[:, :1].expand(-1, self.channels, -1, -1)


def test_the_same_photograph_is_encoded_once():
    image, vae = torch.rand(1, 40, 56, 3), Vae()
    one, two = (swiftedit_pictures.encoded(image, vae, None, 0) for _ in range(2))
    assert one is two and vae.calls == 1
    assert swiftedit_pictures.encoded(image, vae, None, 64) is not one and vae.calls == 2
    assert swiftedit_pictures.encoded(image.clone(), vae, None, 0) is not one


@pytest.mark.parametrize(("inputs", "word"), [
    ((None, None, None), "one picture"), ((torch.rand(1, 8, 8, 3), None, None), "VAE"),
    ((None, None, {"samples": torch.zeros(1, 16, 4, 4)}), "16"), ((torch.rand(1, 8, 8, 3), Vae(16), None), "16"),
    ((None, None, {"samples": torch.full((1, 4, 4, 4), float("nan"))}), "NaN"),
])  # fmt: skip
def test_what_is_no_picture_for_stable_diffusion_is_refused(inputs, word):
    with pytest.raises(EditError, match=word):
        swiftedit_pictures.encoded(*inputs, 0)


def test_the_overlay_is_red_where_the_mask_is_and_the_picture_elsewhere():
    picture, mask = torch.full((1, 3, 4, 4), 0.5), torch.zeros(2, 4, 4)
    mask[0, :2] = 1
    made = swiftedit_pictures.overlay(picture, mask)
    assert made.shape == (2, 3, 4, 4) and torch.equal(made[1:], picture)
    assert torch.equal(made[:1, :, 2:], picture[:, :, 2:])
    assert bool((made[0, 0, :2] > made[0, 1, :2]).all())


def test_a_result_is_recalled_for_the_same_objects_only():
    one, two, made = torch.zeros(1), torch.zeros(1), []

    def make():
        made.append(1)
        return len(made)

    assert [memo.recall("k", (one,), make), memo.recall("k", (one,), make), memo.recall("k", (two,), make)] == [1, 1, 2]
    assert memo.recall("k", (one,), make, ("other",)) == 3 and memo.recall("other", (one,), make) == 4


def test_the_memory_lets_go_of_models_and_of_the_oldest_results():
    thing = torch.zeros(1)
    key = id(thing)
    memo.recall("k", (thing,), lambda: "value")
    del thing
    gc.collect()
    again = torch.zeros(1)
    assert id(again) != key or memo.recall("k", (again,), lambda: "new") == "new"
    held = [torch.zeros(1) for _ in range(memo.KEPT + 5)]
    for number, one in enumerate(held):
        memo.recall("n", (one,), lambda number=number: number)
    assert len(memo._results) == memo.KEPT


def test_diffusers_configs_become_comfyuis():
    two, one = (unets.comfy_config(c, "x") for c in (SD21, SD15))
    assert two["channel_mult"] == [1, 2, 4, 4] and two["num_res_blocks"] == [2] * 4 and two["context_dim"] == 1024
    assert two["transformer_depth"] == [1, 1, 1, 1, 1, 1, 0, 0]
    assert two["transformer_depth_output"] == [1] * 9 + [0] * 3
    assert (two["num_heads"], two["num_head_channels"]) == (-1, 64) and two["use_linear_in_transformer"]
    assert (one["num_heads"], one["num_head_channels"]) == (8, -1) and not one["use_linear_in_transformer"]


def test_heads_that_comfyuis_unet_cannot_have_are_refused():
    with pytest.raises(EditError, match="heads"):
        unets.comfy_config(SD21 | {"attention_head_dim": [5, 10, 10, 20]}, "x")


@pytest.mark.parametrize(("layer", "block"), [
    ("down_blocks.0.attentions.0", ("input", 1)), ("down_blocks.2.attentions.1", ("input", 8)),
    ("mid_block.attentions.0", ("middle", 0)), ("up_blocks.1.attentions.0", ("output", 3)),
    ("up_blocks.3.attentions.2", ("output", 11)),
])  # fmt: skip
def test_layers_of_diffusers_are_found_in_comfyuis_unet(layer, block):
    config = {"num_res_blocks": [2, 2, 2, 2]}
    assert unets.block_of(f"{layer}.transformer_blocks.0.attn2", config) == (*block, 0)
