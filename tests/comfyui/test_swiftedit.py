"""SwiftEdit's nodes on a real ComfyUI with tiny UNets, against plain diffusers and the recorded official cases."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from editkit.models.swiftedit.aram import PRESETS, Aram
from editkit.tests.comfyui import diffusers_loop as tiny

LOOPS = [  # name, preset, settings, source prompt, edit prompt, size, whether the user gives the mask
    ("official", PRESETS["official"], "a grey cat", "a black dog", (64, 72), False),
    ("paper", PRESETS["paper"], "", "a red bird", (96, 64), False),
    ("eq9", PRESETS["eq9"], "a cup", "a bowl", (64, 64), True),
    ("global", Aram(image_scale=0.6), "a cup", "a vase", (64, 72), False),
    ("custom", Aram(2.0, 0.0, 1.0, layers="all"), "a hill", "a hill in snow", (72, 136), True),
]


def recorded_cases(root: Path) -> Path:
    """The folder of the family `aram`."""
    return Path(os.environ.get("EDITKIT_FIXTURES") or root / "tests/fixtures") / "aram"


def write_cases(networks: tiny.Tiny, flow: tiny.Tiny, trained: dict, path: Path) -> None:
    """What plain diffusers makes of the tiny weights."""
    image, half = tiny.photograph(64, 72), tiny.half_mask(64, 72)
    cases = {"image": image, "second": tiny.photograph(64, 72, 2)[1:].flip(1), "half": half}
    for name, aram, source, edit, size, own in LOOPS:
        picture, mask = tiny.photograph(*size), tiny.half_mask(*size) if own else None
        case = tiny.loop(networks, picture, source, edit, aram, "swiftbrush_v2", mask)
        words = torch.tensor(list(f"{name}|{source}|{edit}".encode()), dtype=torch.uint8)
        case |= {"image": picture, "words": words} | ({"user_mask": mask} if own else {})
        cases |= {f"loop_{name}.{key}": value for key, value in case.items()}
    plain = ("a grey cat", "a black dog", PRESETS["official"])
    made = tiny.loop(flow, image, *plain, "instaflow")
    cases |= {f"flow.{key}": value for key, value in ({"image": image} | made).items()}
    cases |= {f"lora.{key}": value for key, value in merged(networks, image, half, plain).items()}
    cases |= {f"trained.{key}": value for key, value in trained.items()}
    save_file({key: value.contiguous() for key, value in cases.items()}, path)


def merged(networks: tiny.Tiny, image, mask, plain) -> dict:
    """The edit with a low-rank change of some weights merged into them, and without."""
    state, random, weights = networks.generator.state_dict(), torch.Generator().manual_seed(9), {}
    without = tiny.loop(networks, image, *plain, "swiftbrush_v2", mask)["edit"]
    layers = [n for n in state if n.endswith(("attn2.to_k.weight", "attn2.to_q.weight", "attn1.to_v.weight"))]
    for layer in layers:
        rows, columns = state[layer].shape
        low = torch.randn(rows, 2, generator=random) @ torch.randn(2, columns, generator=random)
        weights[f"weights_{layer}"] = low * 0.3 / columns**0.5
    for layer in layers:
        state[layer] += weights[f"weights_{layer}"]
    edit = tiny.loop(networks, image, *plain, "swiftbrush_v2", mask)["edit"]
    for layer in layers:
        state[layer] -= weights[f"weights_{layer}"]
    return weights | {"edit": edit, "without": without}


def train(folder: Path, release: Path) -> dict:
    """Trains stage 1 for two steps from the command line and exports it; what plain diffusers makes of the export."""
    import diffusers

    from editkit.models.swiftedit import branch, checkpoint, processor
    from editkit.models.swiftedit import edit as steps
    from editkit.tests.training.swiftedit import tiny as pipelines
    from editkit.training import cli

    pipeline = pipelines.write_pipeline(folder / "pipeline")
    net = pipelines.unet(block_out_channels=(32, 64), norm_num_groups=32, attention_head_dim=(2, 4))
    tiny.seeded(net, 11).save_pretrained(pipeline / "unet")
    (folder / "captions.txt").write_text("\n".join(pipelines.captions(20)), encoding="utf-8")
    common = ["--generator", str(pipeline), "--state", str(folder / "state")]
    first = ["--vision", str(pipeline / "image_encoder"), "--captions", str(folder / "captions.txt"), "--steps", "2"]
    assert cli.main(["swiftedit", "stage1", *common, *first, "--size", "32", "--lr", "0.01", "--ema", "0.5",
                     "--precision", "fp32"]) == 0  # as the other tests: a process trains in one precision
    assert cli.main(["swiftedit", "export", *common, "--with-generator", "--out", str(release)]) == 0

    found = checkpoint.find(release)
    nets = [diffusers.UNet2DConditionModel(**net.config) for _ in range(2)]
    for made, where in zip(nets, (found.inversion, found.generator), strict=True):
        made.load_state_dict(checkpoint.read_unet(where)[1])
    parts = checkpoint.read_branch(found.branch)
    for name, layer in processor.install(nets[1]).items():
        layer.load_state_dict(parts.layers[name])
    projection = branch.ImageProjection(parts.embedding, parts.context)
    projection.load_state_dict(parts.projection)
    random = torch.Generator().manual_seed(3)
    texts, z = torch.randn(2, 8, pipelines.WIDTH, generator=random), torch.randn(1, 4, 16, 16, generator=random)
    embedding, mask = torch.randn(1, parts.embedding, generator=random), tiny.half_mask(16, 16)
    with torch.no_grad():
        calls = [lambda x, t, context, net=net: net(x, t, context).sample for net in nets]
        noise = steps.invert(calls[0], z, texts[:1], texts[1:])
        rows = torch.cat([texts, projection(embedding).expand(2, -1, -1)], 1).chunk(2)
        made = steps.generate(calls[1], lambda m, a: processor.rescaled(nets[1], m, a), z, noise.source, *rows, mask)
    return {"texts": texts, "latent": z, "embedding": embedding, "mask": mask, "noise": noise.edit, "edit": made.edit}


def write_broken(release: Path) -> None:
    """Copies of the tiny release with one fault each."""
    whole, weights = release / "tiny", "diffusion_pytorch_model.safetensors"
    for name in ("no_branch", "no_inversion", "corrupt", "no_generator", "wrong_family"):
        shutil.copytree(whole, release / name)
    shutil.rmtree(release / "no_branch" / "ip_adapter")
    shutil.rmtree(release / "no_inversion" / "inverse_ckpt")
    shutil.rmtree(release / "no_generator" / "sbv2_0.5")
    content = (release / "corrupt" / "sbv2_0.5" / weights).read_bytes()
    (release / "corrupt" / "sbv2_0.5" / weights).write_bytes(content[: len(content) // 2])
    config = release / "wrong_family" / "sbv2_0.5" / "config.json"
    config.write_text(json.dumps(tiny.UNET | {"cross_attention_dim": 2048}), encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The tiny releases, and what plain diffusers makes of them."""
    folder = tmp_path_factory.mktemp("swiftedit")
    networks = tiny.build(folder)
    flow = tiny.build(folder / "flow", "instaflow")
    shutil.move(folder / "flow" / "release" / "tiny", folder / "release" / "flow")
    trained = train(folder, folder / "release" / "trained")
    write_cases(networks, flow, trained, folder / "cases.safetensors")
    write_broken(folder / "release")
    return folder


@pytest.fixture(scope="module")
def results(run_inside, root, folder):
    return run_inside("swiftedit.py", folder, EDITKIT_ARAM_CASES=str(recorded_cases(root)))


@pytest.fixture
def of(results):
    def read(name):
        assert "crashed" not in results[name], results[name]["crashed"]
        return results[name]

    return read


def test_the_step_by_step_graph_and_the_single_node_equal_a_plain_diffusers_loop(of):
    found = of("plain_loop")
    assert len([key for key in found if key.endswith(".edit")]) == len(LOOPS)
    for key, value in found.items():
        limit = 0 if key.endswith(".mask") else 1e-3 if key.endswith((".picture", ".back")) else 3e-5
        assert value <= limit, (key, value)


def test_the_official_layers_through_the_shipped_patch(of, root):
    found = of("official_layers")
    assert len(found) == 7 or "EDITKIT_FIXTURES" in os.environ
    for key, value in found.items():
        assert value <= 2e-6, (key, value)


def test_the_official_cases_through_the_shipped_hooks(of, root):
    found = of("official_cases")
    if not (recorded_cases(root) / "e2e_inverse_unet_diffusers.safetensors").is_file():
        pytest.skip(f"{recorded_cases(root)} holds no whole edit")
    assert found
    for key, value in found.items():
        limit = 0 if key.endswith("mask64") else 5e-5 if key.endswith("chain") else 1e-5
        assert value <= limit, (key, value)


def test_a_rectified_flow_is_sampled_by_its_own_rule(of):
    found = of("velocity_generator")
    assert found["edit"] <= 3e-5 and found["reconstruction"] <= 3e-5 and found["picture"] <= 1e-3


def test_what_the_training_exports_is_loaded_by_the_node(of):
    found = of("trained")
    assert found["noise"] <= 1e-5 and found["edit"] <= 3e-5


@pytest.mark.repeats(place="gpu")
@pytest.mark.parametrize(("place", "device"), [("gpu", "cpu"), ("gpu-only", "cuda")])
def test_no_node_mixes_tensors_of_two_devices(run_inside, root, folder, place, device):
    found = run_inside("swiftedit.py", folder, place=place, EDITKIT_ARAM_CASES=str(recorded_cases(root)))
    assert "two devices" in found.pop("mixing_is_noticed")
    found.pop("seconds")
    assert len(found) == 4
    for name, devices in found.items():
        assert "crashed" not in devices, devices["crashed"]
        assert set(devices) == {device}, (name, devices)


@pytest.mark.parametrize("size", ["384x512", "100x150"])
def test_off_the_grid_the_graph_equals_the_single_node(of, size):
    found = of("off_the_grid")
    assert found[size] <= 1e-3 and found[f"{size}_own"] <= 1e-3


def test_each_edit_sees_its_own_picture(of):
    assert of("batches_that_do_not_fit")["other_picture"] <= 1e-3


@pytest.mark.parametrize(
    ("case", "said"),
    [("one_latent", "3 edit prompts do not fit 1 latents"), ("two_latents", "3 edit prompts do not fit 2 latents"),
     ("masks", "2 masks do not fit 1 edits")],
)  # fmt: skip
def test_prompts_and_masks_that_do_not_fit_are_not_dropped(of, case, said):
    assert said in of("batches_that_do_not_fit")[case]


def test_a_long_list_of_edits_runs_in_parts(of):
    found = of("many_in_parts")
    assert (found["rows"], found["back"]) == (10, 1) and found["worst"] <= 1e-3


def test_the_generator_is_not_taken_for_the_inversion_net(of):
    assert "first output" in of("odd_inputs")["generator_as_inversion"]


def test_a_range_of_steps_is_refused(of):
    assert "range of steps" in of("odd_inputs")["range"]


def test_masks_beyond_white_count_as_white_and_grey_counts_in_part(of):
    found = of("odd_inputs")
    assert found["clamped"] <= 1e-6 and found["grey"] > 1e-3


def test_loadimages_empty_mask_means_everywhere(of):
    assert of("odd_inputs")["no_mask"] <= 1e-6


def test_a_linked_release_is_looked_up_when_it_runs(of):
    assert of("odd_inputs")["linked"] is True


def test_another_packs_attention_serves_the_patched_layers(of):
    found = of("other_attention")
    assert found["calls"] == 2 * found["layers"] and found["same"] <= 1e-6


def test_what_is_remembered_goes_with_what_it_was_made_from(of):
    found = of("let_go")
    assert found["after"] < found["before"] and found["alive"] == [False, False]


def test_low_memory_runs_the_source_row_first_with_the_same_result(of):
    found = of("rows_apart")
    assert found["split"] <= 1e-5
    assert [[1], [0]] == [rows for rows in found["calls"] if len(rows) == 1][-2:]


def test_conditionings_that_do_not_batch_still_see_the_source_row(of):
    found = of("rows_apart")
    # the edit row came first, stopped, and ran again after its source row
    assert found["turned_calls"][:3] == [[0], [1], [0]]
    assert found["turned"] <= 1e-5


def test_a_model_without_the_node_is_bit_identical_before_and_after(of):
    found = of("untouched")
    assert found["same"] and found["clone"] and "patches_replace" not in found["options"]


def test_a_lora_stacks_before_and_after_aram(of):
    found = of("lora")
    assert found["patched"] and found["matters"] > 0.01
    assert max(found["before"], found["after"], found["taken_off"]) <= 3e-5


@pytest.mark.parametrize(("dtype", "limit"), [("fp16", 0.005), ("bf16", 0.03), ("fp8_e4m3fn", 0.35)])
def test_lower_precision_differs_by_rounding_only(of, dtype, limit):
    found = of("precisions")
    name = {"fp16": "float16", "bf16": "bfloat16", "fp8_e4m3fn": "float8_e4m3fn"}[dtype]
    assert found[f"{dtype}_weights"] == f"torch.{name}"
    assert 0 < found[dtype] <= limit and 0 < found[f"{dtype}_noise"] <= limit


@pytest.mark.parametrize(("dtype", "limit"), [("float16", 0.006), ("bfloat16", 0.03)])
def test_computing_in_half_precision_differs_by_rounding_only(of, dtype, limit):
    assert 0 < of("precisions")[f"computed_torch.{dtype}"] <= limit


def test_a_list_of_edits_equals_each_edit_alone(of):
    found = of("many_edits")
    assert (found["list_rows"], found["list_back"]) == (3, 1) and found["list"] <= 1e-3


def test_one_inversion_and_one_encoding_serve_many_prompts(of):
    found = of("many_edits")
    calls, texts = found["first"]
    assert calls["inversion"] == 4 and calls["vae"] == calls["vision"] == 1  # the source row once, three edits
    assert texts == 4
    later, more = found["second"]  # the same edit again, and with another threshold
    assert later["inversion"] == calls["inversion"] + 1 and later["vae"] == later["vision"] == 1 and more == 4
    assert found["again"] <= 1e-3 and found["changed"] > 1e-3


def test_a_batch_of_pictures_equals_each_picture_alone(of):
    found = of("many_edits")
    assert found["pair"] <= 1e-3 and found["pair_masks"] <= 1e-3 and found["pair_back"] == 2
    assert "3 edit prompts do not fit 2 pictures" in found["refused"]


@pytest.mark.parametrize("size", ["131x77", "203x517", "1201x803"])
def test_a_picture_of_any_size_comes_back_at_its_size_and_exact_outside_the_mask(of, size):
    found, (height, width) = of("sizes"), map(int, size.split("x"))
    made, back, exact, edited, mean = found[size]
    assert made == back == [1, height, width, 3] and exact and edited and 0 < mean < 0.2
    mask, preview, latent, low, high = found[f"{size}_invert"]
    assert mask == [1, height, width] and preview == [1, height, width, 3]
    assert 0 <= low and high <= 1


def test_transparency_comes_through(of):
    assert of("sizes")["alpha"] == [[1, 64, 72, 4], True]


def test_a_latent_serves_in_place_of_a_picture(of):
    found = of("latents_in")
    assert found["same"] <= 1e-5 and found["mask"] == 0 and found["soft"] and found["unmutated"] == ["samples"]
    assert "one picture" in found["both"]


def test_without_its_source_row_aram_says_what_to_do(of):
    found = of("other_samplers")
    assert "SwiftEdit Guider" in found["refused"] and found["same"] <= 1e-5


def test_aram_composes_with_another_cross_attention_patch(of):
    found = of("composes")
    assert found["calls"] > 0 and found["changed"] > 1e-3 and found["later"] <= 1e-6


def test_the_sheet_of_scales_equals_single_edits(of):
    found = of("sweep")
    assert found["worst"] <= 1e-3 and found["images"] == [6, 64, 72, 3] and found["sheet"][1] > 2 * 64
    assert "text_scales" in found["refused"]


def test_a_wrongly_guessed_parameterisation_is_put_right(of):
    found = of("wrongly_guessed")
    assert found["noise"] <= 1e-5 and found["edit"] <= 1e-5


def test_the_step_by_step_graph_is_delivered_at_full_size(of):
    found = of("delivered")
    assert found["shape"] == [1, 128, 192, 3] and found["exact"] and found["outside"] > 1000
    assert found["everywhere"] <= 1e-3 and found["edited"] <= 1e-6 and "belong together" in found["refused"]


WRONG = {
    "text_width": "width of 768", "guider_width": "takes 48",
    "no_branch": "no image branch", "sdxl": "SDXL", "sdxl_generator": "SDXL", "vision": "32 numbers",
    "masks": "3 masks", "mixed": "combined prompts", "no_folder": "'nowhere'", "no_picture": "one picture",
    "no_vae": "VAE", "other_latent": "[1, 16, 8, 8]",
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_bad_input_is_refused_in_one_sentence(of, case):
    said = of("bad_input")[case].replace("(1, 16, 8, 8)", "[1, 16, 8, 8]")
    assert WRONG[case] in said and "\n" not in said and ":" not in said.split(" ")[0], said


BROKEN = {
    "no_branch": "ip_adapter.bin", "no_inversion": "unet_ema", "corrupt": "download it again",
    "no_generator": "generator", "wrong_family": "SDXL",
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_release_names_what_is_missing(of, case):
    said = of("bad_input")["broken"][case]
    assert BROKEN[case] in said and "\n" not in said and "Error:" not in said, said
