"""Kontext's nodes on a real ComfyUI with a tiny FLUX of its own class: recorded cases, identities, masks, company."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def fixtures(root):
    """The recorded cases: of EDITKIT_FIXTURES where it has the network, else the ones of the box."""
    given = Path(os.environ.get("EDITKIT_FIXTURES") or root / "tests/fixtures").resolve() / "kontext"
    whole = (given / "config.json").is_file() and any(given.glob("weights*.safetensors"))
    return given if whole else root / "tests/fixtures/kontext"


@pytest.fixture(scope="module")
def results(run_inside, fixtures, tmp_path_factory):
    return run_inside("kontext.py", tmp_path_factory.mktemp("kontext"), fixtures)


@pytest.fixture
def of(results):
    def read(name):
        found = results[name]
        assert not (isinstance(found, dict) and "crashed" in found), found["crashed"]
        return found

    return read


def test_the_recorded_velocities_come_out_of_the_nodes_with_exact_ids(of, fixtures, root):
    found = of("fixtures")
    assert len(found) == 6 if fixtures == root / "tests/fixtures/kontext" else found
    for name, (velocity, wrong, kind) in found.items():
        assert velocity <= 1e-5 and wrong == 0 and kind == "torch.float32", name


def test_the_recorded_loops_come_out_of_the_nodes(of, fixtures, root):
    found = of("loops")
    assert len(found) == 2 or fixtures != root / "tests/fixtures/kontext"
    for name, (latent, by_size, *times) in found.items():
        assert latent <= 1e-4 and by_size and max(times, default=0) <= 1e-6, name


def test_the_cores_default_schedule_is_off_where_the_picture_is_small(of):
    assert 0.12 < of("schedule") < 0.13


WAYS = ("one", "two", "mixed", "index", "uxo", "guided", "only_positive", "bf16", "batch", "native_chain", "odd")


@pytest.mark.parametrize("way", WAYS)
def test_strength_one_is_the_core_bit_for_bit(of, way):
    assert of("strength_one")[way] is True
    assert of("strength_one")["it_matters"] > 0.01


@pytest.mark.parametrize(
    "way", ["apply_alone", "zero", "black_mask", "black_target", "never", "zero_beside_another"]
)
def test_strength_zero_is_no_reference_bit_for_bit(of, way):
    assert of("strength_zero")[way] is True


def test_strength_goes_from_none_to_the_core_and_beyond(of):
    to_one, to_none = of("strength_between")["to_one"], of("strength_between")["to_none"]
    assert to_none["0.0001"] < 1e-3 and to_one["0.999"] < 1e-3
    assert to_none["0.0001"] < to_none["0.25"] < to_none["0.5"] < to_none["0.999"] < to_none["2.0"]
    assert to_one["0.25"] > to_one["0.5"] > to_one["0.999"] and to_one["2.0"] > 0.01


STRICT = ("strict", "unguided", "strength", "beside_others", "late", "ended", "negative_too")


@pytest.mark.parametrize("way", STRICT)
def test_outside_a_strict_target_mask_nothing_changes_with_the_reference(of, way):
    inside, outside_equal = of("target_mask")[way]
    assert outside_equal is True and inside > 1e-3


def test_a_direct_target_mask_does_not_hold_what_is_outside(of):
    """Else the test above would hold whatever the mask did."""
    inside, outside_equal = of("target_mask")["direct"]
    assert outside_equal is False and inside > 1e-3
    assert of("target_mask")["other_region"][0] > 1e-3 and of("target_mask")["white_is_none"] is True


def test_what_is_black_in_a_references_mask_is_not_computed(of):
    found = of("reference_mask")
    assert found["equal"] is True and found["tokens"] == 48 + 24
    assert found["whole"] > 1e-3 and found["grey"] > 1e-3


def test_a_window_takes_the_reference_in_and_out(of):
    assert of("window") == {"start": [80, 80, 128, 128], "end": [128, 128, 80, 80], "both": [128] * 4}


def test_a_budget_scales_down_and_pads_to_whole_tokens(of):
    found = of("budget")
    assert found["small"][:2] == [[[1, 112, 208, 3]], [1, 16, 14, 26]]
    assert found["free"][:2] == [[[1, 1008, 1504, 3]], [1, 16, 126, 188]]
    height, width = found["large"][0][0][1:3]
    assert height % 16 == width % 16 == 0 and 0.24 < (height - 7) * (width - 7) / 2**20 <= 0.27
    assert abs(width / height - 1.5) < 0.05 and found["latent"] == [[[1, 512, 512, 3]], [1, 16, 64, 64]]
    assert all(0.47 < found[name][2] <= 0.5 for name in ("small", "free", "large"))  # the mask went with it


def test_position_ids_stay_apart_where_the_cores_collide(of):
    assert of("fp32_ids")["ours"] == 320 > of("fp32_ids")["core"]


def test_positive_and_negative_keep_their_own_references(of):
    found = of("guidance")
    assert found["positive"] is found["negative"] is True and found["apart"] > 0.1 and found["passes"] == [1, 1]


def test_a_conditioning_for_an_area_takes_its_part_of_the_target_mask(of):
    assert of("area")["tokens"] == [48, 72] and of("area")["inside"] > 1e-3


@pytest.mark.parametrize("way", ["off", "off_guided", "no_references", "fill", "cpu_is_device"])
def test_reuse_is_exact_where_nothing_is_reused(of, way):
    assert of("reuse")[way] is True


@pytest.mark.parametrize(
    ("way", "tokens"),
    [("two", [136, 48] * 3), ("three", [136, 48, 48] * 2), ("never", [136] + [48] * 5), ("tight", [136] * 6),
     ("loose", [136] + [48] * 5)],
)  # fmt: skip
def test_reuse_refreshes_when_it_is_told_to(of, way, tokens):
    found = of("reuse")[way]
    assert found["tokens"] == tokens
    assert found["away"] == 0 if way == "tight" else 0 < found["away"] < 0.3


@pytest.mark.parametrize("way", ["guided", "batch", "heun"])
def test_reuse_stays_near_with_guidance_a_batch_and_two_passes_a_step(of, way):
    assert 0 < of("reuse")[way] < 0.3


def test_reuse_stays_near_in_every_store_and_with_every_setting(of):
    assert abs(of("reuse")["fp8"]["away"] - of("reuse")["two"]["away"]) < 0.01
    found = of("reuse_composes")
    assert all(0 < found[name]["away"] < 0.3 for name in ("strength", "mask", "target", "window"))
    assert found["mask"]["tokens"] == [112, 48, 48] * 2
    assert found["window"]["tokens"] == [88, 48, 136, 48, 48, 88]  # anew when a reference comes or goes
    assert found["outside"] is True and found["inside"] > 1e-3


def test_reuse_says_what_memory_it_takes_and_lets_go_of_it(of):
    found = of("reuse_info")
    assert "88 tokens, 5 layers" in found["info"] and "store fp8" in found["single"] and "Off" in found["none"]
    assert found["held"] == [5 * 2 * 64 * 88 * 4] * 4 and found["left"] == 0


def test_comfyui_is_asked_for_room_for_what_is_kept(of):
    device, fp8, cpu, off = of("reuse_room")
    kept = 5 * 2 * 64 * 88 * 4
    assert kept <= device <= 5 * kept and kept / 4 <= fp8 and cpu == off == 0


def test_two_clones_share_nothing(of):
    assert of("clones") == {"outer": True, "inner": True, "left": 0, "settings": True, "unchanged": True}


def test_an_interrupted_run_leaves_nothing_behind(of):
    assert of("interrupted") == {"told": [1, "interrupted", 0], "again": True, "hooks": ["{}", "{}"]}


def test_a_graph_without_the_nodes_is_untouched(of):
    assert of("untouched") is True


def test_a_controlnet_composes(of):
    found = of("controlnet")
    assert found["same"] is True and found["it_matters"] > 1e-3 and found["half"] > 1e-3 and 0 < found["reuse"] < 0.4


def test_a_lora_composes_before_and_after(of):
    found = of("lora")
    assert found["before"] is found["after"] is True and found["it_matters"] > 0.01


def test_an_attention_override_that_was_there_goes_on_being_called(of):
    found = of("override")
    assert found["same"] is True and found["strength"] == found["reuse"] == 4 * found["layers"]


def test_an_attention_mask_and_references_work_together(of):
    found = of("redux")
    assert found["core"].startswith("RuntimeError")  # else nothing would be won
    assert found["zero"] <= 1e-6 and found["strength"] <= 1e-6 and found["reuse"] <= 1e-6 and found["alone"] is True
    assert found["bias"] > 1e-3 and found["hidden"] > 1e-4


REFUSED = {
    "without_apply": "Kontext Apply", "other_model_without_apply": "Kontext Apply", "stable_diffusion": "FLUX.1 MODEL",
    "nunchaku": "Nunchaku", "other": "Chroma", "fill": "96 channels", "sd_reference": "4 channels",
    "sd_target": "4 channels", "nan": "not numbers", "native_nan": "not numbers", "exchanged": "Another node",
    "limit": "1e-05 GiB", "both": "one of latent and image", "neither": "one of latent and image", "no_vae": "VAE",
    "window": "0.8 to 0.2", "masks": "2 pictures", "budget": "1024x1024", "memory": "do not fit in memory",
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_is_refused_in_one_sentence(of, what):
    said = of("refusals")[what]
    assert REFUSED[what] in said and "\n" not in said and not said.split(" ")[0].endswith(":"), said
    assert of("refusals")["left"] == 0


def test_a_forward_pass_that_goes_by_the_hooks_is_not_silent(of):
    assert "Another pack has replaced FLUX's forward" in of("replaced_forward")


@pytest.mark.repeats(place="gpu")
@pytest.mark.parametrize("place", ["gpu", "gpu-only"])
def test_no_tensors_of_two_devices_are_mixed(run_inside, fixtures, tmp_path, place):
    found = run_inside("kontext.py", tmp_path, fixtures, place=place)["placed"]
    assert "crashed" not in found, found["crashed"]
    assert "two devices" in found.pop("noticed") and len(found) == 24
    assert all(devices == ["cuda"] for devices in found.values())
