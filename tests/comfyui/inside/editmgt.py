"""EditMGT's nodes in ComfyUI's own Python: every check writes what it found; tests/comfyui/test_editmgt.py judges it.

python editmgt.py COMFYUI PACK FOLDER [gpu|gpu-only]: FOLDER holds models/editkit/editmgt (tiny), cases.json,
pictures.safetensors and expected.safetensors, and gets results.json. With a place, a pretended GPU refuses to mix
devices.
"""

import json
import sys
import traceback
from pathlib import Path

from start import start

COMFYUI, PACK, FOLDER = (Path(a) for a in sys.argv[1:4])
PLACE = sys.argv[4] if len(sys.argv) > 4 else "cpu"
pack = start(COMFYUI, PACK, FOLDER)
if PLACE != "cpu":
    import placement

    placement.enter(gpu_only=PLACE == "gpu-only")

import editmgt_core as core  # noqa: E402 - ComfyUI's modules exist from here on
import latent_preview  # noqa: E402
import torch  # noqa: E402
from comfy import model_management as management  # noqa: E402
from comfy.cli_args import LatentPreviewMethod, args  # noqa: E402
from comfy_extras import nodes_custom_sampler as custom  # noqa: E402
from my_x_pack.nodes.host import editmgt as host  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

import nodes  # noqa: E402

NODES = pack.NODE_CLASS_MAPPINGS
CASES = json.loads((FOLDER / "cases.json").read_text(encoding="utf-8"))
PICTURES = load_file(FOLDER / "pictures.safetensors")
EXPECTED = load_file(FOLDER / "expected.safetensors")
CHECKS = {}


def check(function):
    CHECKS[function.__name__] = function
    return function


def node(name, **inputs):
    return NODES[f"EditKit{name}"]().run(**inputs)


MODEL, CLIP, VAE = node("LoadEditMGT", release="editmgt", weight_dtype="default")


def holding(case, mask=None):
    """EditMGT Region Hold as the case has it, or None."""
    mask = PICTURES["mask"] if mask is None and case["share"] != 0.5 else mask
    if mask is None and not case["threshold"]:
        return None
    reading = node("EditMGTLocalise", **case["reading"])[0] if case["reading"] else None
    return node("EditMGTRegionHold", threshold=case["threshold"], mode=case["mode"], mask_threshold=case["share"],
                mask=mask, localise=reading)[0]  # fmt: skip


def sample(case, model=MODEL, clip=CLIP, vae=VAE, **more):
    """(latent, changed, square) of EditMGT Sample."""
    image, mask = (PICTURES.get(case[key]) for key in ("image", "mask"))
    return node("EditMGTSample", model=model, clip=clip, vae=vae, instruction=case["instruction"], negative="",
                seed=case["seed"], side=64, image=image, hold=holding(case, mask),
                **case["options"], **more)  # fmt: skip


def picture_latent(case, vae=VAE):
    """What the core's nodes make of the case's picture and mask, or of none."""
    if not case["image"]:
        return nodes.EmptyLatentImage().generate(32, 32)[0]  # 8 pixels a place, where EditMGT's have 16
    encoded = nodes.VAEEncode().encode(vae, PICTURES[case["image"]])[0]
    if not case["mask"] or case["share"] != 0.5:  # its mask is in the hold
        return encoded
    return nodes.SetLatentNoiseMask().set_mask(encoded, PICTURES[case["mask"]])[0]


def guided(case, latent=None, model=MODEL, clip=CLIP, vae=VAE, sampler="euler", **changes):
    """(output, denoised output) of the core's SamplerCustomAdvanced with EditMGT Guider."""
    words = [nodes.CLIPTextEncode().encode(clip, text)[0] for text in (case["instruction"], "")]
    inputs = {"hold": holding(case), "negative": words[1], **case["options"], **changes}
    guider, sigmas = node("EditMGTGuider", model=model, positive=words[0], **inputs)
    noise = custom.RandomNoise().get_noise(case["seed"])[0]
    latent = picture_latent(case, vae) if latent is None else latent
    return custom.SamplerCustomAdvanced().sample(
        noise, guider, custom.KSamplerSelect().get_sampler(sampler)[0], sigmas, latent
    )


def tokens(latent, model=MODEL):
    """The ids by the vectors alone: nothing else outlives the core's sampler."""
    return host.tokens_of(host.network(model), {"samples": latent["samples"]}).cpu()


def decoded(latent, vae=VAE):
    return nodes.VAEDecode().decode(vae, {"samples": latent["samples"]})[0]


def away(ours, reference):
    """max|d|; infinite for another shape."""
    if tuple(ours.shape) != tuple(reference.shape):
        return float("inf")
    return float((ours.float().cpu() - reference.float()).abs().max())


def refused(run):
    """The sentence of an EditError, or a word that says what came instead."""
    try:
        run()
    except Exception as error:
        return str(error) if type(error).__name__ == "EditError" else f"{type(error).__name__}: {error}"
    return "nothing was refused"


@check
def equal():
    """For every case: how many tokens differ from the in-process runner's, and how far the pictures are apart."""
    out = {}
    for name, case in CASES.items():
        wanted, picture = EXPECTED[f"{name}.tokens"], EXPECTED[f"{name}.picture"]
        found = {"guider": guided(case)[0]}
        if case["square"]:
            made, changed, _ = sample(case)
            found["sample"] = made
            out[f"{name}.changed"] = away(changed, EXPECTED[f"{name}.changed"])
            out[f"{name}.kept"] = int((made[host.TOKENS].cpu() != wanted).sum())
        for way, latent in found.items():
            out[f"{name}.{way}"] = int((tokens(latent) != wanted).sum()), away(decoded(latent), picture)
    return out


@check
def ways():
    """Other wirings of the same edit: how many tokens differ from the case's."""
    edit, masked, text = CASES["edit"], CASES["masked"], CASES["text"]
    encoded, right = picture_latent(edit), torch.zeros(1, 8, 4, 4)
    unnamed = {k: v for k, v in encoded.items() if k == "samples"}
    found = {
        "reference_input": (guided(edit, {"samples": right}, reference=encoded), "edit"),
        "reference_and_latent": (guided(edit, encoded, reference=unnamed), "edit"),
        "other_sampler": (guided(edit, sampler="dpmpp_2m_sde"), "edit"),
        "clone": (guided(edit, model=MODEL.clone()), "edit"),
        "hold_with_mask": (guided(masked, encoded, hold=holding(masked, PICTURES["mask"])), "masked"),
        "right_channels": (guided(text, {"samples": right}), "text"),
        "no_negative": (guided(CASES["unguided"], negative=None), "unguided"),
    }
    return {name: int((tokens(made[0]) != EXPECTED[f"{case}.tokens"]).sum()) for name, (made, case) in found.items()}


@check
def large():
    """A picture larger than the trained square: the guider's tiles against the single node's, and against no tiles."""
    case, image = CASES["edit"] | {"options": {**CASES["edit"]["options"], "steps": 2}}, PICTURES["large"]
    encoded = {"samples": host.latent(MODEL.model, VAE.tokens(image.movedim(-1, 1), 1024))["samples"]}
    single = node("EditMGTSample", model=MODEL, clip=CLIP, vae=VAE, instruction=case["instruction"], negative="",
                  seed=case["seed"], side=0, image=image, large="tiles", **case["options"])[0]  # fmt: skip
    tiles, whole = (tokens(guided(case, encoded, large=how)[0]) for how in ("tiles", "whole"))
    return {"shape": list(tiles.shape), "tiles": int((tiles != tokens(single)).sum()),
            "whole": int((tiles != whole).sum())}  # fmt: skip


@check
def settings():
    """What Compatibility and Speed choose, in the guider and in the single node: how many tokens differ."""
    out, mistakes = {}, {"alias_mask": True, "leaked_gamma": 3.0, "clip_positions": False, "time_rounding": "bf16",
                         "released_draws": True}  # fmt: skip
    faster = node("EditMGTSpeed", reference_every=2, guidance_until=0.5)[0]
    wrong = node("EditMGTCompatibility", **mistakes)[0]
    for name, more in (("compat", {"compat": wrong}), ("speed", {"speed": faster})):
        case = CASES["masked"] | {"options": {**CASES["masked"]["options"], "gamma": 1.0, "steps": 12}}
        single, by_guider = tokens(sample(case, **more)[0]), tokens(guided(case, **more)[0])
        plain = tokens(guided(case)[0])
        out[name] = [int((single != by_guider).sum()), int((by_guider != plain).sum())]
    return out


@check
def both_masks():
    """A mask in the hold and one of the latent: what either keeps is kept."""
    case, reference = CASES["masked"], EXPECTED["reference"]
    latent = picture_latent(case)
    other = torch.zeros(1, 64, 64)
    other[:, :, :32] = 1
    made = tokens(guided(case, latent, hold=holding(case, other))[0])
    new = EXPECTED["new"].bool() & (torch.arange(4) < 2)
    return {"outside": int((made != reference)[~new].sum()), "inside": int((made != reference)[new].sum())}


@check
def refusals():
    edit, encoded = CASES["edit"], picture_latent(CASES["edit"])
    word = node("EditMGTLocalise", **{**CASES["held"]["reading"], "keyword": "cat"})[0]
    hold = node("EditMGTRegionHold", threshold=0.4, mode="official", mask_threshold=0.5, localise=word)[0]
    combined = nodes.CLIPTextEncode().encode(CLIP, "a")[0] * 2
    return {"keyword": refused(lambda: guided(edit, hold=hold)),
            "combined": refused(lambda: guided(edit, negative=combined)),
            "latent": refused(lambda: guided(edit, {"samples": torch.ones(1, 4, 4, 4)})),
            "mask_without_picture": refused(lambda: guided(CASES["text"], hold=holding(edit, PICTURES["mask"]))),
            "noise_mask_without_picture": refused(
                lambda: guided(CASES["text"], {"samples": torch.zeros(1, 8, 4, 4), "noise_mask": PICTURES["mask"]})),
            "sizes": refused(lambda: guided(edit, {"samples": torch.zeros(1, 8, 4, 6)}, reference=encoded)),
            "masks": refused(lambda: guided(edit, encoded, hold=holding(edit, torch.ones(3, 64, 64)))),
            "odd": refused(lambda: guided(edit, {"samples": torch.zeros(1, 8, 3, 4)})),
            "model": refused(lambda: guided(edit, encoded, model=core.MODEL))}  # fmt: skip


@check
def interrupt():
    """The user cancels during the second of the network's runs: how many of them there were, and what came."""
    case, net, out = {**CASES["edit"], "options": {**CASES["edit"]["options"], "steps": 6}}, MODEL.model, {}
    plain = net.diffusion_model.features

    for name, run in {"sample": sample, "guider": guided}.items():
        calls = []

        def counted(*inputs, **more):
            calls.append(1)  # noqa: B023
            management.interrupt_current_processing(len(calls) == 2)  # noqa: B023
            return plain(*inputs, **more)

        net.diffusion_model.features = counted
        try:
            run(case)
            raised = "nothing"
        except management.InterruptProcessingException as error:
            raised = type(error).__name__
        finally:
            del net.diffusion_model.features
            management.interrupt_current_processing(False)
        again = run(CASES["edit"])[0]
        out[name] = [raised, len(calls), int((tokens(again) != EXPECTED["edit.tokens"]).sum())]
    return out


@check
def preview():
    """What the sampler's callback is given at each step, with previews off and by the fitted colours."""
    out, case, prepare, before = {}, CASES["edit"], latent_preview.prepare_callback, args.preview_method
    for name in ("none", "latent2rgb", "taesd"):
        seen, shown, plain = [], [], latent_preview.Latent2RGBPreviewer.decode_latent_to_preview

        def recorded(model, steps, x0_output_dict=None):
            call = prepare(model, steps, x0_output_dict)

            def callback(step, x0, x, total):
                model = host.network(MODEL)
                code = torch.equal(model.vectors(model.ids(x0)).cpu(), x0.cpu())  # noqa: B023
                seen.append([step, total, list(x0.shape), str(x0.dtype), code])  # noqa: B023
                return call(step, x0, x, total)  # noqa: B023

            return callback

        def kept(self, x0):
            image = plain(self, x0)  # noqa: B023
            shown.append(image.size)  # noqa: B023
            return image

        latent_preview.prepare_callback, latent_preview.Latent2RGBPreviewer.decode_latent_to_preview = recorded, kept
        args.preview_method = LatentPreviewMethod(name)
        try:
            last, x0 = guided(case)
        finally:
            latent_preview.prepare_callback, args.preview_method = prepare, before
            latent_preview.Latent2RGBPreviewer.decode_latent_to_preview = plain
        out[name] = {"seen": seen, "shown": shown, "x0": torch.equal(last["samples"], x0["samples"]),
                     "wrong": int((tokens(last) != EXPECTED["edit.tokens"]).sum())}  # fmt: skip
    return out


@check
def untouched():
    """A graph of the core alone: the same bits before and after EditMGT, and the global random numbers undisturbed."""
    from comfy.ldm.modules import attention

    functions = [attention.optimized_attention, attention.optimized_attention_masked]
    before, defaults = core.run(PICTURES["edit"]), [torch.get_default_dtype(), torch.is_grad_enabled()]
    state = torch.get_rng_state()
    sample(CASES["masked"])
    random = torch.equal(state, torch.get_rng_state())
    guided(CASES["held"])
    after = core.run(PICTURES["edit"])
    return {"same": [torch.equal(a, b) for a, b in zip(before, after, strict=True)], "random": random,
            "varied": [float(x.std()) for x in before],
            "functions": functions == [attention.optimized_attention, attention.optimized_attention_masked],
            "defaults": defaults == [torch.get_default_dtype(), torch.is_grad_enabled()]}  # fmt: skip


@check
def vae():
    """The VAE in the core's nodes. Numbers are counts of differing tokens or greatest differences."""

    def apart(one, other):
        return away(one["samples"], other["samples"].cpu())

    picture, odd, pair = PICTURES["edit"], PICTURES["odd"], PICTURES["pair"]
    plain = nodes.VAEEncode().encode(VAE, picture)[0]
    tiled = nodes.VAEEncodeTiled().encode(VAE, picture, 64, 16)[0]
    middle = odd[:, (70 % 16) // 2 :, (50 % 16) // 2 :][:, :64, :48].contiguous()
    cut, alone = (nodes.VAEEncode().encode(VAE, x)[0] for x in (odd, middle))
    two = nodes.VAEEncode().encode(VAE, pair)[0]
    inpaint = nodes.VAEEncodeForInpaint().encode(VAE, odd, torch.ones(1, 70, 50), 0)[0]
    alpha = nodes.VAEEncode().encode(VAE, torch.cat([picture, picture[..., :1]], -1))[0]
    image, by_tiles = decoded(plain), nodes.VAEDecodeTiled().decode(VAE, plain, 64, 16)[0]
    return {"tokens": int((tokens(plain) != EXPECTED["reference"]).sum()), "tiled": apart(tiled, plain),
            "shape": list(plain["samples"].shape), "cut_shape": list(cut["samples"].shape),
            "cut": apart(cut, alone), "inpaint": list(inpaint["samples"].shape),
            "pair": int((tokens(two) != EXPECTED["pair"]).sum()), "alpha": apart(alpha, plain),
            "picture": away(image, EXPECTED["decoded"]), "by_tiles": away(by_tiles, image.cpu()),
            "image": [list(image.shape), str(image.dtype), float(image.min()), float(image.max())]}  # fmt: skip


@check
def unloaded():
    """After ComfyUI has taken all off the device: what was held, what is left, and whether tokens are the same."""
    out, device = {}, management.get_torch_device()
    ways = {"unload_all_models": management.unload_all_models,
            "free_memory": lambda: management.free_memory(1e30, device)}  # fmt: skip
    for name, free in ways.items():
        CLIP._known.clear()
        guided(CASES["edit"])
        held = sorted({type(m.model.model).__name__ for m in management.current_loaded_models})
        free()
        left = len(management.current_loaded_models)
        made, one = tokens(guided(CASES["edit"])[0]), tokens(sample(CASES["edit"])[0])
        wrong = [int((x != EXPECTED["edit.tokens"]).sum()) for x in (made, one)]
        CLIP._known.clear()  # else the encoders do not run again
        wrong += [int((tokens(guided(CASES["edit"])[0]) != EXPECTED["edit.tokens"]).sum())]
        out[name] = {"held": held, "left": left, "wrong": wrong}
    return out


@check
def precisions():
    """bf16 and fp16 weights: their kind, and whether guider and single node agree; shares of tokens."""
    out = {}
    for name in ("bf16", "fp16"):
        parts = dict(zip(("model", "clip", "vae"), node("LoadEditMGT", release="editmgt", weight_dtype=name)))
        found = [tokens(run(CASES["edit"], **parts)[0], parts["model"]) for run in (sample, guided)]
        out[name] = [str(parts["model"].model.get_dtype()), int((found[0] != found[1]).sum()),
                     int((found[0] != EXPECTED["edit.tokens"]).sum())]  # fmt: skip
    return out


def placed():
    """Every way through the nodes on the pretended GPU: where the results lie."""
    out = {}
    for name, case in CASES.items():
        made = guided(case)
        found = [made[0]["samples"], decoded(made[0])]  # the denoised output is moved by the core itself
        if case["square"]:
            reading = node("EditMGTLocalise", **case["reading"])[0] if case["reading"] else None
            image, mask = (PICTURES.get(case[key]) for key in ("image", "mask"))
            latent, changed, square = node(
                "EditMGTSample", model=MODEL, clip=CLIP, vae=VAE, instruction=case["instruction"], negative="",
                seed=1, side=64, image=image, hold=holding(case, mask), localise=reading, **case["options"],
            )  # fmt: skip
            full = {"image": image, "square": square}
            found += [latent["samples"], latent[host.TOKENS], changed]
            found += node("EditMGTDecode", vae=VAE, latent=latent, feather=3, changed=changed, **full)
            if reading:
                found += node("EditMGTLocalisationMap", latent=latent, localise=reading, threshold=0.5, final="mean",
                              opacity=0.5, **full)  # fmt: skip
        out[name] = [x.device.type for x in found]
    out["extras"] = editmgt_extras.placed_extras()
    there = torch.ones(2).to(management.get_torch_device())
    try:
        out["noticed"] = str(there + torch.ones(2))
    except RuntimeError as error:
        out["noticed"] = str(error)
    return out


import editmgt_extras  # noqa: E402 - reads this module

CHECKS |= editmgt_extras.CHECKS


def main():
    results = {}
    for name, run in (CHECKS if PLACE == "cpu" else {"placed": placed}).items():
        try:
            with torch.inference_mode():  # as the server does
                results[name] = run()
        except Exception:
            results[name] = {"crashed": traceback.format_exc()[-3000:]}
    name = "results.json" if PLACE == "cpu" else f"results_{PLACE}.json"
    (FOLDER / name).write_text(json.dumps(results, indent=1), encoding="utf-8")


main()
