"""ICEdit's nodes on a real ComfyUI with tiny FLUX networks, against the recorded release, diffusers and the core."""

import os
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from editkit.benchmarks.parity_moelora import BASE, IO, MOE, NORMAL, flux
from editkit.models.icedit import lora as files
from editkit.models.icedit import transformer

TRAINED = (
    "A diptych with two side-by-side images of the same scene. On the right, the scene is exactly the same as on the "
    "left but"
)


def recorded(root: Path) -> Path:
    """The folder of the family `moelora`."""
    return Path(os.environ.get("EDITKIT_FIXTURES") or root / "tests/fixtures") / "moelora"


def with_alphas(state: dict, factor: float) -> dict:
    """The same LoRA with its scale written as alphas: rank times `factor`, for half of its layers."""
    layers = sorted({k.split(".lora_")[0] for k in state})[::2]
    rank = next(v for k, v in state.items() if "lora_A" in k).shape[0]
    return state | {f"{layer}.alpha": torch.tensor(rank * factor) for layer in layers}


def write_loras(folder: Path, fixtures: Path) -> dict[str, dict]:
    """The fixtures' LoRAs, other forms of them, and broken ones; name -> state of those that load."""
    moe, plain = load_file(fixtures / MOE), load_file(fixtures / NORMAL)
    made = {
        "moe": moe, "plain": plain, "alpha": with_alphas(moe, 0.5),
        "experts": {k: v for k, v in moe.items() if ".expert_" in k or "lora_route" in k},
        "prefixed": {f"base_model.model.{k}": v for k, v in moe.items()},
    }  # fmt: skip
    small = {k: v[:, :16].contiguous() if "lora_A" in k else v[:16].contiguous() for k, v in plain.items()}
    half = dict(moe)
    half.pop(next(k for k in moe if "lora_B.expert_3" in k))
    kohya = {"lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": torch.zeros(4, 64)}
    folder.mkdir()
    for name, state in (made | {"another": small, "incomplete": half, "kohya": kohya}).items():
        save_file(state, folder / f"{name}.safetensors")
    whole = (folder / "moe.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    return made


def references(fixtures: Path, states: dict[str, dict]) -> dict:
    """The same in diffusers' FLUX with our layers, whose numbers `bench parity` checks against the release."""
    network, io = flux(fixtures / BASE), load_file(fixtures / IO)
    parsed = {k: files.parse(v) for k, v in states.items()}
    moe, plain = parsed["moe"], parsed["plain"]
    mean = files.Lora(files.averaged(moe))
    runs = {
        "tied_half": [(moe, 0.5, 0.5)], "own": [(moe, 1, -0.7)], "plain_off": [(moe, 0, 1)], "mean": [(mean, 1, 1)],
        "off": [(moe, 1, 0)], "top2": [(files.parse(states["moe"], 2), 1, 1)], "alone": [(parsed["experts"], 1, 1)],
        "prefixed": [(moe, 1, 1)], "twice": [(moe, 1, 1), (moe, 0.5, 0.5)], "with_plain": [(moe, 1, 1), (plain, 1, 1)],
        "alpha": [(parsed["alpha"], 1, 1)],
    }  # fmt: skip
    out = {}
    for name, parts in runs.items():
        with torch.inference_mode(), ExitStack() as stack:
            for one, strength, own in parts:
                stack.enter_context(transformer.attached(network, one, strength, own))
            out[name] = network(
                hidden_states=io["hidden_states"], encoder_hidden_states=io["encoder_hidden_states"],
                pooled_projections=io["pooled_projections"], timestep=io["timestep"].reshape(-1),
                guidance=io["guidance"].reshape(-1), img_ids=io["img_ids"], txt_ids=io["txt_ids"],
            ).sample  # fmt: skip
    return out


class Vae(torch.nn.Module):
    """The checks' autoencoder, as diffusers' pipelines ask for it."""

    dtype, device = torch.float32, torch.device("cpu")
    config = SimpleNamespace(
        block_out_channels=[0] * 4, latent_channels=16, scaling_factor=0.3611, shift_factor=0.1159
    )

    def encode(self, x):
        mix = torch.linalg.qr(torch.randn(16, 3, generator=torch.Generator().manual_seed(3)))[0]
        small = torch.nn.functional.avg_pool2d((x + 1) / 2, 8)
        latent = torch.einsum("oc,bchw->bohw", mix, small)
        return SimpleNamespace(latent_dist=SimpleNamespace(sample=lambda generator=None: latent))


def released_loop(fixtures: Path, state: dict) -> dict:
    """One edit by diffusers' own pipeline for Fill, as the released script calls it, on the tiny networks."""
    import diffusers

    random = torch.Generator().manual_seed(1)
    network, image = flux(fixtures / BASE), torch.rand(1, 64, 64, 3, generator=random)
    noise = torch.randn(1, 32, 64, generator=random)
    text = f"{TRAINED} the sky is green"
    words = torch.Generator().manual_seed(len(text))
    embeds = torch.randn(1, 6, 48, generator=words), torch.randn(1, 40, generator=words)
    mask = torch.zeros(1, 1, 64, 128)
    mask[..., 64:] = 1
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, base_image_seq_len=256, max_image_seq_len=4096
    )
    pipeline = diffusers.FluxFillPipeline(scheduler, Vae(), None, None, None, None, network)
    pipeline.set_progress_bar_config(disable=True)
    with transformer.attached(network, files.parse(state)):
        made = pipeline(
            image=image.movedim(-1, 1).repeat(1, 1, 1, 2), mask_image=mask, height=64, width=128, latents=noise,
            prompt_embeds=embeds[0], pooled_prompt_embeds=embeds[1], guidance_scale=50, num_inference_steps=4,
            output_type="latent",
        ).images  # fmt: skip
    return {"loop.image": image, "loop.noise": noise, "loop.out": made / 0.3611 + 0.1159}


@pytest.fixture(scope="module")
def folder(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("icedit")
    states = write_loras(folder / "loras", recorded(root))
    cases = references(recorded(root), states) | released_loop(recorded(root), states["moe"])
    save_file(cases, folder / "cases.safetensors")
    return folder


@pytest.fixture(scope="module")
def results(run_inside, root, folder):
    return run_inside("icedit.py", folder, recorded(root))


@pytest.fixture
def of(results):
    def read(name):
        assert not isinstance(results[name], dict) or "crashed" not in results[name], results[name]["crashed"]
        return results[name]

    return read


def test_the_recorded_cases_through_the_shipped_node(of):
    found = of("recorded")
    assert len(found) == 14 and sum(key.startswith("hook.") for key in found) == 10
    for key, value in found.items():
        assert value <= 1e-5, (key, value)


def test_strengths_modes_and_files_equal_diffusers_with_our_layers(of):
    found = of("strengths")
    assert len(found) == 11
    for key, value in found.items():
        assert value <= 1e-5, (key, value)


def test_a_plain_lora_equals_the_cores_loader_bit_for_bit(of):
    assert of("core_loader") == {"weights": True, "changed": True, "out": True}


def test_loras_stack_before_and_after(of):
    found = of("stacking")
    assert max(found["before"], found["after"]) <= 1e-5 and found["matters"] > 0.05


def test_nothing_is_left_on_the_model_and_the_experts_go_with_it(of):
    found = of("no_residue")
    assert found["weights"] and found["base"] and found["differs"] > 0.05
    assert found["loaded"] and found["unloaded"]
    assert found["experts"] == [15]  # five layers of A, B and router, as one network of their own
    assert found["hooks"] == found["wrappers"] == found["extra"] == 0


def test_a_batch_equals_its_rows_with_guidance_too(of):
    found = of("batches")
    assert found["rows"] <= 1e-5 and found["sampled"] <= 1e-5


def test_cancelled_in_mid_run_it_leaves_no_hooks(of):
    found = of("interrupted")
    assert found["said"] == "InterruptProcessingException" and found["during"] == 5
    assert found["after"] == found["kept"] == 0 and found["same"]


@pytest.mark.parametrize("dtype", ["bf16", "fp8"])
def test_in_lower_precision_a_layer_differs_by_rounding_only(of, dtype):
    found = of("precisions")
    assert 0 < found[dtype] <= 1.6e-2 < 0.1 < found[f"{dtype}_matters"]


def test_quantised_layers_compute_for_themselves(of):
    found = of("quantised")
    assert found["same"] <= 1e-6 and found["matters"] > 0.05


def test_with_weights_left_on_the_cpu_nothing_changes(of):
    found = of("precisions")
    assert found["lowvram"] and found["low_memory"] <= 1e-6


@pytest.mark.long
def test_compiled_models_get_the_experts_as_well(of, at_length):
    if at_length(True, False):
        pytest.skip("torch.compile takes a while; make test-long")
    found = of("compiled")
    for name in ("whole", "blocks"):
        assert found[name] <= 1e-5 and found[f"{name}_left"] == 0 and found[f"{name}_matters"] > 0.05
    assert found["hooks"] == 0


def test_where_the_blocks_are_not_flux_s_own_the_node_says_so(of):
    assert "set experts to mean" in of("replaced_forward")


def test_the_map_shows_the_routers_choice_of_the_run_that_made_the_latent(of):
    found = of("expert_map")
    assert found["wrong"] == 0 and found["steps"] == 3 and found["film"] == [3, 64, 128, 3]
    assert found["later"] and found["unblended"] == 0 and 2 <= found["kinds"] <= 4
    assert found["said"].startswith("single_transformer_blocks.2.proj_out at noise level 0.3")
    assert found["info"] == "26 plain layers of rank 4, 5 layers with 4 experts of rank 4, 1 per token"
    assert "none of the last" in found["other"] and "0 to 4" in found["layer"] and "0 to 2" in found["step"]


def test_the_mean_as_a_file_equals_the_mode_mean(of):
    found = of("mean_file")
    assert found["same"] <= 1e-6 and found["path"].endswith("moe_mean.safetensors") and found["left"] == []


WRONG = {
    "text_to_image": "load flux1-fill-dev", "not_flux": "needs a FLUX.1 MODEL", "another": "of another model",
    "cut": "download it again", "incomplete": "the file is incomplete", "kohya": "no weight of ICEdit's LoRA",
    "missing": "There is no LoRA 'nowhere.safetensors'", "too_many": "5 experts per token",
    "no_experts": "is a plain LoRA already", "not_recorded": "none of the last",
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_bad_loras_and_models_are_refused_in_one_sentence(of, case):
    said = of("bad_input")[case]
    assert WRONG[case] in said and "\n" not in said and "Error:" not in said, said
    assert of("bad_input")["hooks"] == 0


def test_the_whole_graph_equals_diffusers_pipeline(of):
    assert of("plain_loop")["latent"] <= 1e-5


def test_the_conditioning_is_the_cores_with_guidance_50(of):
    found = of("same_as_core")
    assert max(found["same"].values()) == found["words"] == found["samples"] == 0 and found["keys"] == []
    assert found["locked"] and found["free"] == ["samples"] and "concat_mask" in found["negative"]


def test_only_a_locked_left_panel_is_the_picture(of):
    found = of("lock")
    assert found["locked"] <= 1e-5 and found["free"] > 0.1 and found["locked_right"] > 0.1


def test_t5_gets_512_tokens_and_the_clip_keeps_its_options(of):
    found = of("t5_length")
    assert found["lengths"] == [[512, 77]] * 2 + [[256, 77]] * 2 + [[300, 77]] * 2 and found["options"] == {}


def test_the_schedule_has_the_shift_of_the_size(of):
    found = of("schedule")
    assert found["same"] == 0 and found["simple"] < 3e-4 and found["forgotten"] > 0.08
    assert abs(found["mu"] - 0.80333) < 1e-4 and found["untouched"]


def test_any_size_comes_back_exact_outside_the_mask(of):
    found = of("sizes")
    assert len(found) == 4
    for size, one in found.items():
        assert one["shapes"][0] == one["shapes"][1] == one["shapes"][2], size
        assert one["exact"] and one["changed"] and one["alpha"] and one["everywhere"] == 1, size
        assert one["inside"] > 0.05 and one["latent"][-1] == 16 and one["latent"][-2] % 2 == 0, size


def test_several_seeds_of_one_picture_come_back_one_by_one(of):
    found = of("several_seeds")
    assert found["shape"] == found["larger"] == [3, 80, 96, 3] and found["same"] == 0
    assert "is not this diptych" in found["refused"]


def test_a_grey_mask_is_white_to_the_network_and_grey_in_the_picture(of):
    found = of("grey_masks")
    assert found["seen"] == [0, 1] and found["given"] == [0, 0.5] and found["blended"] <= 1e-6


def test_fp8_weights_go_through_the_whole_graph(of):
    assert of("fp8_graph")["finite"]


REFUSED = {
    "empty": "The instruction is empty", "mask": "larger than the picture", "black": "The mask is empty",
    "source": "needs both texts", "size": "make it with ICEdit Diptych", "model": "needs a FLUX.1 MODEL",
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_bad_pictures_are_refused_in_one_sentence(of, case):
    said = of("bad_pictures")[case]
    assert REFUSED[case] in said and "\n" not in said and "Error:" not in said, said


@pytest.mark.parametrize("solver", ["euler", "rf-solver"])
@pytest.mark.parametrize("prompt", ["same", "other"])
def test_the_left_panel_is_the_references_own_reconstruction(of, solver, prompt):
    found = of("left_is_the_reconstruction")
    case = f"{solver}.{prompt}"
    assert found[f"{case}.noise"] <= 1e-5 and found[f"{case}.left"] <= 2e-5
    assert found[f"{case}.seed"] == 0 and found[f"{case}.right_moves"] > 0.05  # the right one's noise is its own
    assert found[f"{solver}.without_values"] > 0.05


def test_the_second_order_solver_comes_nearer_to_the_reference(of):
    found = of("round_trip")
    assert found["rf-solver.16"] < 0.5 * found["euler.16"] and found["euler.16"] < 0.5 * found["euler.4"]
    assert found["rf-solver.16"] < 0.2 * found["rf-solver.4"]


def test_the_right_panel_sees_the_reference_and_full_attention_is_mutual(of):
    found = of("the_panels_see_each_other")
    assert found["right"] > 0.01 and found["left"] > 0.01 and found["from_isolated"] > 0.01


def test_both_panels_have_positions_of_their_own(of):
    assert of("positions") == {"columns": list(range(8)), "rows": list(range(4)), "index": 0}


def test_two_references_equal_each_alone_with_guidance(of):
    found = of("batches_and_guidance")
    assert found["same"] <= 1e-5 and found["shape"] == [2, 16, 8, 16]


def test_the_values_take_the_memory_that_was_announced(of):
    found = of("memory")
    assert found["bytes"] == found["expected"] and "5 evaluations of 5 layers, 16 tokens: 0.1 MiB" in found["said"]
    assert found["levels"] == 4 and "4 evaluations" in found["less"] and found["stores"] == 0
    assert found["parts_differ"] > 0.05 and found["none"] == [1, 16, 8, 16]


def test_an_euler_inversion_goes_down_by_the_cores_euler_too(of):
    assert of("with_core_sampler")["same"] <= 1e-6


def test_the_text_to_image_model_stays_as_it_was(of):
    found = of("untouched")
    assert found["bits"] and found["wrappers"] == 0 and found["same"] <= 1e-6
    assert found["calls"] == 2 * 5 * 5  # two groups of queries, five layers, five steps


MISUSED = {
    "fill": "makes pictures from text", "fill_sampling": "makes pictures from text", "t2i_lora": "load flux1-fill-dev",
    "odd": "whole tokens of 16 px", "part": "a whole schedule, falling from 1 to 0", "memory": "free; take fewer",
    "combined": "takes one prompt", "sigmas": "Nothing was kept for the noise level 0.6",
    "latent": "is not the diptych of this inversion",
}  # fmt: skip


@pytest.mark.parametrize("case", MISUSED)
def test_training_free_editing_refuses_in_one_sentence(of, case):
    said = of("bad_use")[case]
    assert MISUSED[case] in said and "\n" not in said and "Error:" not in said, said


@pytest.mark.repeats(place="gpu")
@pytest.mark.parametrize(("place", "device"), [("gpu", "cpu"), ("gpu-only", "cuda")])
def test_no_node_mixes_tensors_of_two_devices(run_inside, root, folder, place, device):
    found = run_inside("icedit.py", folder, recorded(root), place=place)
    assert "two devices" in found.pop("mixing_is_noticed")
    found.pop("seconds")
    assert len(found) == 3
    for name, devices in found.items():
        assert "crashed" not in devices, devices["crashed"]
        assert set(devices) <= {device}, (name, devices)
    assert len(found["fill"]) == 14
