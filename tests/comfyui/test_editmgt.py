"""EditMGT's nodes on a real ComfyUI with a tiny release, against the same nodes without ComfyUI."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from editkit import NODE_CLASS_MAPPINGS as NODES
from editkit.nodes.host import editmgt, editmgt_run
from editkit.tests import tiny_editmgt_lora as lora
from editkit.tests.tiny_editmgt_release import write_release

OPTIONS = {"steps": 4, "cfg": 30.0, "gamma": 1.1, "bias": "everything", "schedule": "model", "temperature": 2.0,
           "final_temperature": 0.0, "time": "step"}  # fmt: skip
READING = {"blocks": "all", "keyword": "", "occurrence": 1, "method": "adaptive", "strength": 1.0, "factor": 3,
           "preserve_peaks": True}  # fmt: skip


def case(instruction="make the red cat blue", seed=1, image="edit", mask="", threshold=0.0, mode="official",
         reading=None, share=0.5, square=True, **options):  # fmt: skip
    """share: the hold's mask_threshold; one of its own puts the mask into the hold and not into the latent."""
    return {"instruction": instruction, "seed": seed, "image": image, "mask": mask, "threshold": threshold,
            "share": share, "mode": mode, "reading": reading, "square": square,
            "options": OPTIONS | options}  # fmt: skip


CASES = {
    "edit": case(),
    "other_seed": case(seed=2**64 - 1),
    "other_text": case("remove the table"),
    "unguided": case(cfg=1.0, bias="picture", time="ratio", schedule="linear"),
    "masked": case(mask="mask", steps=3),
    "firm_mask": case(mask="mask", steps=3, share=0.7),
    "held": case(threshold=0.5, reading=READING),
    "strict": case(threshold=0.6, mode="strict", reading=READING, mask="mask", steps=6),
    "batch": case(image="pair", gamma=2.0),
    "text": case(image=""),
    "wide": case(image="wide", square=False),
}


LORA_FILES = {"one": {}, "two": {"seed": 1, "lora_alpha": 1}, "shown": {"lora_part_enable": True},
              "wrong": {"layers": ("down_blocks.0.attn.to_q",)}}  # fmt: skip
LORAS = {"one": [["one", 1.0]], "stack": [["one", 1.0], ["two", -0.5]], "reference": [["shown", 10.0]],
         "mixed": [["two", 1.0], ["shown", 10.0]]}  # fmt: skip
ATLAS = {"blocks": "all", "steps": "first, last", "text_to_image": True, "image_to_text": True, "image_to_image": True,
         "keyword": "cat", "occurrence": 1, "view": "point", "point_x": 0.2, "point_y": 0.8}  # fmt: skip


def pictures() -> dict:
    """Pictures [b, h, w, 3] of few colours each, so that their tokens differ, and a mask that cuts through tokens."""
    random = torch.Generator().manual_seed(5)

    def made(*size):
        coarse = torch.rand(size[0], 3, 5, 5, generator=random)
        fine = torch.rand(size[0], 3, *size[1:], generator=random)
        large = torch.nn.functional.interpolate(coarse, size[1:], mode="nearest")
        mixed = (0.7 * large + 0.3 * fine).movedim(1, -1).contiguous()
        return (mixed * 255).round() / 255  # which a file keeps exactly

    mask = torch.zeros(1, 64, 64)
    mask[:, 5:43, 9:60] = 1  # of the first row of tokens 11 of 16 pixels, of the third 11; of columns 7 and 12 of 16
    return {"edit": made(1, 64, 64), "pair": made(2, 64, 64), "wide": made(1, 64, 96), "odd": made(1, 70, 50),
            "large": made(1, 1024, 1088),
            "mask": mask}  # fmt: skip


def node(name, **inputs):
    return NODES[f"EditKit{name}"]().run(**inputs)


def in_process(given: dict) -> dict:
    """What the nodes make of every case without ComfyUI."""
    model, clip, vae = node("LoadEditMGT", release="editmgt", weight_dtype="default")
    out = {"reference": vae.tokens(given["edit"].movedim(-1, 1)), "pair": vae.tokens(given["pair"].movedim(-1, 1))}
    out["decoded"] = vae.decode(editmgt.network(model).vectors(out["reference"]))
    whole = torch.nn.functional.avg_pool2d(given["mask"], 16) >= 0.5
    out["new"] = whole.to(torch.uint8)
    for name, one in CASES.items():
        run = single if one["square"] else oblong
        out |= {f"{name}.{key}": value for key, value in run(one, given, model, clip, vae).items()}
    return out | extras(given, model, clip, vae)


def extras(given: dict, model, clip, vae) -> dict:
    """What the nodes make of the case `edit` with LoRAs and an atlas."""
    one, out = CASES["edit"], {}
    parts = {"clip": clip, "vae": vae, "image": given["edit"], "instruction": one["instruction"], "negative": "",
             "seed": one["seed"], "side": 64, **one["options"]}  # fmt: skip
    for name, names in LORAS.items():
        worn = model
        for file, strength in names:
            worn = node("EditMGTLora", model=worn, lora=f"{file}/{lora.FILE}", strength=strength, part="as trained")[0]
        out[f"lora.{name}"] = node("EditMGTSample", model=worn, **parts)[0][editmgt.TOKENS]
    latent, _, square = node("EditMGTSample", model=model, atlas=node("EditMGTAttentionAtlas", **ATLAS)[0], **parts)
    return out | {"atlas": node("EditMGTAtlasSheet", latent=latent, cell=64, square=square)[0]}


def single(one: dict, given: dict, model, clip, vae) -> dict:
    reading = node("EditMGTLocalise", **one["reading"])[0] if one["reading"] else None
    hold = node("EditMGTRegionHold", threshold=one["threshold"], mode=one["mode"], mask_threshold=one["share"],
                mask=given.get(one["mask"]), localise=reading)[0]  # fmt: skip
    made, changed, _ = node(
        "EditMGTSample", model=model, clip=clip, vae=vae, instruction=one["instruction"], negative="",
        seed=one["seed"], side=64, image=given.get(one["image"]), hold=hold, **one["options"],
    )  # fmt: skip
    picture = node("EditMGTDecode", vae=vae, latent=made, feather=0)[0]
    return {"tokens": made[editmgt.TOKENS], "changed": changed, "picture": picture}


def oblong(one: dict, given: dict, model, clip, vae) -> dict:
    """A picture that is no square goes through the guider alone; the run itself is the same."""
    from editkit.nodes.editmgt import chosen

    net, image = editmgt.network(model), given[one["image"]].movedim(-1, 1)
    (height, width), texts = image.shape[-2:], [clip.encode([text]) for text in (one["instruction"], "")]
    result, _ = editmgt_run.run(
        net, *texts, (height // 16, width // 16), chosen(**one["options"], model=net), seed=one["seed"],
        reference=vae.tokens(image), micro=(width, height, 0, 0, 6),
    )  # fmt: skip
    return {"tokens": result.tokens, "picture": vae.decode(net.vectors(result.tokens))}


def sharpened(release: Path) -> Path:
    """Larger weights: else the transformer says nearly the same whatever it is told, and equal tokens prove little."""
    for file in (release / "editmgt").glob("*.safetensors"):
        save_file({k: v * (10 if v.ndim > 1 else 1) for k, v in load_file(file).items()}, file)
    return release


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """(folder with the tiny release and the cases, what the nodes make of them without ComfyUI)."""
    folder, before = tmp_path_factory.mktemp("editmgt"), Path.cwd()
    sharpened(write_release(folder / "models" / "editkit" / "editmgt"))
    for name, more in LORA_FILES.items():
        lora.write(folder / "models/loras" / name, **more)
    given = pictures()
    os.chdir(folder)
    try:
        with torch.inference_mode():
            made = in_process(given)
    finally:
        os.chdir(before)
    (folder / "cases.json").write_text(json.dumps(CASES), encoding="utf-8")
    (folder / "extras.json").write_text(json.dumps({"loras": LORAS, "atlas": ATLAS}), encoding="utf-8")
    for name, tensors in (("pictures", given), ("expected", made)):
        save_file({k: v.contiguous() for k, v in tensors.items()}, folder / f"{name}.safetensors")
    return folder, made


@pytest.fixture(scope="module")
def results(run_inside, expected):
    return run_inside("editmgt.py", expected[0])


@pytest.fixture
def of(results):
    def read(name):
        assert "crashed" not in results[name], results[name]["crashed"]
        return results[name]

    return read


def test_the_cases_tell_settings_apart(expected):
    """Else equal tokens would say nothing: every setting has to show."""
    _, made = expected
    tokens = {name: made[f"{name}.tokens"] for name, one in CASES.items() if one["image"] in ("edit", "")}
    names = list(tokens)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            assert int((tokens[one] != tokens[other]).sum()) >= 2, (one, other)
    assert len(made["reference"].unique()) >= 4 and (made["pair"][0] != made["pair"][1]).sum() >= 4
    new, edited = made["new"].bool(), made["masked.tokens"] != made["reference"]
    assert 0 < int(new.sum()) < 16 and not edited[~new].any() and int(edited[new].sum()) >= 2
    kept = made["held.changed"] == 0
    assert 0 < float(kept.float().mean()) < 1
    worn = [made["edit.tokens"], *(made[f"lora.{name}"] for name in LORAS)]
    assert all((a != b).sum() >= 2 for i, a in enumerate(worn) for b in worn[i + 1 :])


@pytest.mark.parametrize("name", CASES)
def test_sampler_custom_advanced_gives_the_single_nodes_tokens(of, name):
    found = of("equal")
    wrong, picture = found[f"{name}.guider"]
    assert wrong == 0 and picture <= 1e-5


@pytest.mark.parametrize("name", [name for name, one in CASES.items() if one["square"]])
def test_the_single_node_gives_the_same_in_comfyui_and_without(of, name):
    found = of("equal")
    wrong, picture = found[f"{name}.sample"]
    assert wrong == found[f"{name}.kept"] == found[f"{name}.changed"] == 0 and picture <= 1e-5


WAYS = ("reference_input", "reference_and_latent", "other_sampler", "clone", "hold_with_mask", "right_channels",
        "no_negative")  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_other_wirings_give_the_same_tokens(of, way):
    assert of("ways")[way] == 0


def test_tiles_of_a_large_latent_are_the_single_nodes(of):
    found = of("large")
    assert found["shape"] == [1, 64, 68] and found["tiles"] == 0 and found["whole"] > 0


@pytest.mark.parametrize("what", ["compat", "speed"])
def test_the_guider_takes_what_the_single_node_takes(of, what):
    apart, from_plain = of("settings")[what]
    assert apart == 0 and from_plain > 0


def test_what_either_mask_keeps_is_kept(of):
    found = of("both_masks")
    assert found["outside"] == 0 and found["inside"] >= 1


REFUSED = {
    "keyword": "EditMGT Sample", "combined": "negative conditioning is not a single one", "latent": "8 channels",
    "sizes": "reference has (1, 4, 4) tokens and (1, 4, 6) are sampled; bring them to one size",
    "masks": "mask has (3, 4, 4) tokens and (1, 4, 4) are sampled; bring them to one size",
    "mask_without_picture": "reference picture", "noise_mask_without_picture": "reference picture", "odd": "even",
    "model": "needs the one of Load EditMGT",
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_the_guider_cannot_do_is_refused_in_one_sentence(of, what):
    said = of("refusals")[what]
    assert REFUSED[what] in said and "\n" not in said and not said.split(" ")[0].endswith(":"), said


@pytest.mark.parametrize("way", ["sample", "guider"])
def test_cancelling_stops_within_the_step(of, way):
    raised, calls, wrong_afterwards = of("interrupt")[way]
    assert (raised, calls, wrong_afterwards) == ("InterruptProcessingException", 2, 0)


@pytest.mark.parametrize("method", ["none", "latent2rgb", "taesd"])
def test_every_step_is_previewed_as_a_latent_of_the_format(of, method):
    found, steps = of("preview")[method], OPTIONS["steps"]
    assert found["seen"] == [[i, steps, [1, 8, 4, 4], "torch.float32", True] for i in range(steps)]
    assert found["shown"] == ([] if method == "none" else [[4, 4]] * steps)
    assert found["x0"] and found["wrong"] == 0


@pytest.mark.parametrize("way", ["guider", "sample", "taesd", "unseen"])
def test_previews_have_the_colours_that_were_fitted(of, way):
    """Of the guider's steps and the single node's; without a picture, from codes that are decoded once."""
    found = of("colours")[way]
    assert found["sizes"] == [[4, 4]] * OPTIONS["steps"] and 0 <= found["off"] <= 1.01 and found["varied"] > 0.2


@pytest.mark.parametrize("name", LORAS)
def test_a_lora_gives_the_same_in_comfyui_and_without(of, name):
    """By single node, guider, a clone and after unloading; the MODEL that was given stays as it is."""
    found = of("lora")[name]
    assert found.pop("kept") is True and set(found.values()) == {0}


def test_a_lora_is_what_the_cores_weight_patches_make_and_goes_beside_them(of):
    assert of("lora_as_core_patch") == {"patched": 0, "both": 0, "after": 0}


def test_a_lora_comes_off_when_the_user_cancels(of):
    found = of("lora_cancelled")
    assert found["raised"] == "InterruptProcessingException" and len(found["while"]) == 2
    assert min(found["while"]) > 0 and found["hooks"] == found["after"] == 0


def test_loras_are_chosen_from_the_cores_folder_and_wrong_ones_refused(of):
    found = of("lora_files")
    assert found["offered"] == sorted(f"{name}/{lora.FILE}" for name in ("one", "two", "shown", "wrong"))
    assert "does not have; it is another model's" in found["wrong"] and "Load EditMGT" in found["model"]
    assert "There is no LoRA 'gone.safetensors'; put its .safetensors" in found["missing"]


def test_a_guider_that_holds_everything_gives_the_picture_and_says_so(of):
    found = of("all_held")
    assert found["wrong"] == 0 and len(found["said"]) == 1 and "held every token: the result is the" in found["said"][0]


def test_the_atlas_is_the_same_in_comfyui_and_without(of):
    found = of("atlas")
    assert found["tokens"] == 0 and found["off"] < 1e-3 and found["drawn"] > 0.05


def test_a_graph_without_the_nodes_is_bit_identical_before_and_after(of):
    found = of("untouched")
    assert found["same"] == [True] * 4 and found["random"] and found["functions"] and found["defaults"]
    assert min(found["varied"]) > 1e-3


def test_the_vae_works_in_the_cores_nodes(of):
    found = of("vae")
    assert found["shape"] == [1, 8, 4, 4] and found["tokens"] == found["pair"] == 0
    assert found["tiled"] == found["alpha"] == found["by_tiles"] == 0 and found["picture"] <= 1e-5
    shape, kind, low, high = found["image"]
    assert shape == [1, 64, 64, 3] and kind == "torch.float32" and 0 <= low < high <= 1


def test_odd_sides_are_cut_in_the_middle_as_the_cores_vaes_do(of):
    found = of("vae")
    assert found["cut_shape"] == found["inpaint"] == [1, 8, 4, 3] and found["cut"] == 0


@pytest.mark.parametrize("how", ["unload_all_models", "free_memory"])
def test_models_leave_and_come_back_with_the_same_tokens(of, how):
    found = of("unloaded")[how]
    assert {"Model", "VQ"} <= set(found["held"]) and found["left"] == 0 and found["wrong"] == [0, 0, 0]


@pytest.mark.parametrize(("dtype", "name"), [("bf16", "torch.bfloat16"), ("fp16", "torch.float16")])
def test_lower_precision_agrees_between_guider_and_single_node(of, dtype, name):
    kind, apart, from_fp32 = of("precisions")[dtype]
    assert kind == name and apart == 0 and from_fp32 < 16


@pytest.mark.repeats(place="gpu")
@pytest.mark.parametrize(("place", "device"), [("gpu", "cpu"), ("gpu-only", "cuda")])
def test_no_node_mixes_tensors_of_two_devices(run_inside, expected, place, device):
    found = run_inside("editmgt.py", expected[0], place=place)["placed"]
    assert "crashed" not in found, found["crashed"]
    extras = found.pop("extras")
    for name in ("normal", "none"):  # all weights on the device, and none: each is brought when it is needed
        assert set(extras[name]) == {device} and extras[f"{name}.tokens"] == [0, 0], extras
        assert extras[f"{name}.lowvram"] == (name == "none")
    assert "two devices" in found.pop("noticed") and set(found) == set(CASES)
    for name, devices in found.items():
        assert set(devices) == {device}, (name, devices)


def prompt(image: str) -> dict:
    """The case `edit` as the canvas would send it: by the guider, and by the single node."""
    one, load = CASES["edit"], ["load", 0]

    def step(kind, **inputs):
        return {"class_type": kind, "inputs": inputs}

    return {
        "load": step("EditKitLoadEditMGT", release="tiny_editmgt", weight_dtype="default"),
        "picture": step("LoadImage", image=image),
        "text": step("CLIPTextEncode", clip=["load", 1], text=one["instruction"]),
        "without": step("CLIPTextEncode", clip=["load", 1], text=""),
        "latent": step("VAEEncode", pixels=["picture", 0], vae=["load", 2]),
        "guider": step("EditKitEditMGTGuider", model=load, positive=["text", 0], negative=["without", 0],
                       **one["options"]),
        "noise": step("RandomNoise", noise_seed=one["seed"]),
        "sampler": step("KSamplerSelect", sampler_name="euler"),
        "made": step("SamplerCustomAdvanced", noise=["noise", 0], guider=["guider", 0], sampler=["sampler", 0],
                     sigmas=["guider", 1], latent_image=["latent", 0]),
        "decoded": step("VAEDecode", samples=["made", 0], vae=["load", 2]),
        "by_guider": step("PreviewImage", images=["decoded", 0]),
        "sample": step("EditKitEditMGTSample", model=load, clip=["load", 1], vae=["load", 2], negative="", side=64,
                       instruction=one["instruction"], seed=one["seed"], image=["picture", 0], **one["options"]),
        "whole": step("EditKitEditMGTDecode", vae=["load", 2], latent=["sample", 0], feather=0),
        "by_sample": step("PreviewImage", images=["whole", 0]),
    }  # fmt: skip


def test_a_prompt_on_the_server_gives_the_same_pictures(server, expected, tmp_path):
    folder, made = expected
    shutil.copytree(folder / "models/editkit/editmgt", server.base / "models/editkit/tiny_editmgt")
    Image.fromarray((pictures()["edit"][0] * 255).round().byte().numpy()).save(tmp_path / "edit.png")
    done = server.run(prompt(server.upload(tmp_path / "edit.png")))
    assert done["status"]["status_str"] == "success", done["status"]
    wanted = made["edit.picture"][0].numpy()
    assert abs(wanted - pictures()["edit"][0].numpy()).max() > 0.2  # it is another picture
    for way in ("by_guider", "by_sample"):
        found = server.picture(done["outputs"][way]["images"][0])
        assert found.shape == wanted.shape and abs(found - wanted).max() <= 1.01 / 255, way
