"""Kontext Turn on a real ComfyUI with a tiny Flux, and the picture tools beside it."""


import numpy as np
import pytest
import torch

from editkit.tests.comfyui.server import pixels
from editkit.tests.comfyui.test_kontext_server import small_copy
from editkit.tests.nodes.test_blazeedit import run


@pytest.fixture(scope="module")
def results(run_inside, tmp_path_factory):
    return run_inside("turns.py", tmp_path_factory.mktemp("turns"))


@pytest.fixture
def of(results):
    def read(name):
        assert "crashed" not in results[name], results[name]["crashed"]
        return results[name]

    return read


def test_outside_the_mask_every_sampler_leaves_the_last_turns_bits(of):
    found = of("samplers")
    assert len(found) > 40 and {"euler", "uni_pc", "dpmpp_2m", "euler, advanced"} <= set(found)
    for name, (changed, moved, finite) in found.items():
        assert changed == 0 and moved > 0.5 and finite, name


def test_the_core_alone_does_not(of):
    assert all(changed > 100 for changed, _, _ in of("core_alone").values())


def test_a_turn_without_a_mask_is_the_cores_reference_and_the_anchor_a_second_one(of):
    found = of("references")
    assert found["matters"] > 1e-2
    assert found["one"] == found["none"] == found["itself"] == 0 and found["two"] == 0
    assert min(found["half"]) > 1e-3
    assert found["changed"] == [[1, 48, 64], 1.0] and not found["mask"]


def test_masks_in_pixels_become_masks_of_latents(of):
    found = of("masks")
    assert found["latent"] and found["small"] and found["changed"] == [[1, 48, 64], True]
    assert not found["plain"] and not found["blank"] and found["index"] == [3]
    assert found["soft"][:2] == [0.5, 0] and found["soft"][2] > 0.01 and found["softer"] > 1e-2
    assert [changed for changed, _, _ in found["pair"]] == [0, 0]
    assert found["inputs"] and found["input_keys"] == ["batch_index", "noise_mask", "samples"]


def test_what_no_turn_touched_is_the_first_pictures_after_three_turns(of):
    changed, moved, finite = of("session")["kept"]
    assert changed == 0 and moved > 0.1 and finite and of("session")["outside"] > 10
    assert of("session")["wrappers"] == [2, 1]  # each turn's hooks replace the last one's


def test_noise_left_for_a_second_sampler_is_not_disturbed(of):
    assert of("leftover")["same_as_core"] == 0 and of("leftover")["kept"][0] == 0


def test_the_model_that_came_in_is_untouched_also_by_an_interruption(of):
    found = of("untouched")
    assert found["base"] == found["again"] == 0 and found["wrappers"] == 0
    assert "put Kontext Apply between" in found["guarded"]


@pytest.mark.parametrize(("case", "said"), [
    ("sd_latent", "The latent has 4 channels and the MODEL's have 16"), ("nan", "The latent holds NaN"),
    ("sd_anchor", "The anchor has 4 channels"), ("not_flux", "needs a FLUX.1 MODEL"), ("strength", "strength is -1.0"),
    ("masks", "3 masks do not fit 1 latents"),
])  # fmt: skip
def test_bad_input_is_said_in_one_sentence(of, case, said):
    assert said in of("bad_input")[case] and of("bad_input")[case].count("\n") == 0


def test_comfyuis_own_vae_is_measured_at_odd_sizes(of):
    found = dict(of("round_trip"))
    assert found.pop("core") == 0
    for size, (shape, away, ssim, largest) in found.items():
        assert shape == [2, *(int(n) for n in size.split("x")), 3]
        assert abs(away) < 1e-3 and 0 < ssim < 1 and 0 < largest <= 1


def test_comfyuis_own_clip_vision_gives_the_cosine(of):
    found = of("clip_vision")
    assert abs(found["first"]) < 1e-5 and abs(found["previous"]) < 1e-5 and max(found["cosines"]) < 0.9999


@pytest.mark.repeats(place="gpu")
@pytest.mark.parametrize(("place", "device"), [("gpu", "cpu"), ("gpu-only", "cuda")])
def test_on_a_gpu_no_step_of_a_session_mixes_devices(run_inside, tmp_path, place, device):
    found = run_inside("turns.py", tmp_path, place=place)[place]
    assert "crashed" not in found, found["crashed"]
    assert set(found) == {device}


def test_a_server_runs_the_tools_as_the_nodes_do_alone(server, tmp_path):
    files = [small_copy(name, tmp_path) for name in ("fig_bowl.jpg", "fig_bowl_mask.png")]
    name, mask = (server.upload(file) for file in files)
    cue = {"shape": "ellipse", "x0": 0, "y0": 0, "x1": 1, "y1": 1, "units": "relative", "colour": "red", "width": 0,
           "fill": 0, "margin": 0.1}  # fmt: skip
    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": name}},
        "2": {"class_type": "LoadImageMask", "inputs": {"image": mask, "channel": "red"}},
        "3": {"class_type": "EditKitKontextFit", "inputs": {"image": ["1", 0], "size": "own size",
                                                            "multiple": 16, "mask": ["2", 0]}},
        "4": {"class_type": "EditKitVisualCue", "inputs": {"image": ["3", 0], "mask": ["3", 2], **cue}},
        "5": {"class_type": "EditKitKontextUnfit", "inputs": {"image": ["4", 0], "fit": ["3", 1], "feather": 0}},
        "6": {"class_type": "EditKitDriftMeter", "inputs": {"images": ["4", 0], "first": ["3", 0], "face_model": "none",
                                                            "face_detector": "none"}},
        "7": {"class_type": "SaveImage", "inputs": {"images": ["5", 0], "filename_prefix": "cue"}},
        "8": {"class_type": "SaveImage", "inputs": {"images": ["6", 0], "filename_prefix": "plot"}},
    }  # fmt: skip
    entry = server.run(prompt)
    assert entry["status"]["status_str"] == "success", entry["status"]
    made, plot = (server.picture(entry["outputs"][i]["images"][0]) for i in ("7", "8"))
    photo, white = (torch.from_numpy(pixels(file))[None] for file in files)
    small, fit, inside, *_ = run("EditKitKontextFit", image=photo, size="own size", mask=white[..., 0])
    marked = run("EditKitVisualCue", image=small, mask=inside, shape="ellipse")[0]
    alone = run("EditKitKontextUnfit", image=marked, fit=fit)[0][0].numpy()
    chart = run("EditKitDriftMeter", images=[marked], first=[small])[0][0].numpy()
    assert np.abs(made - alone).max() <= 1 / 255 + 1e-6 and np.abs(plot - chart).max() <= 1 / 255 + 1e-6
