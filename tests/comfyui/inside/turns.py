"""Kontext Turn and the picture tools in ComfyUI's own Python: every check writes numbers, judged outside.

python turns.py COMFYUI PACK FOLDER [gpu|gpu-only]: FOLDER gets results.json. The model is a tiny Flux of ComfyUI's own.
With a place, one session runs on a pretended GPU that refuses to mix devices.
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

import comfy.clip_vision  # noqa: E402 - ComfyUI's modules exist from here on
import comfy.samplers  # noqa: E402
import editmgt_core  # noqa: E402
import tiny_flux  # noqa: E402
import torch  # noqa: E402
from comfy.patcher_extension import WrappersMP  # noqa: E402
from comfy_extras import nodes_custom_sampler as custom  # noqa: E402

import nodes  # noqa: E402

NODES, CHECKS = pack.NODE_CLASS_MAPPINGS, {}
MODEL, TEXT, LATENT = tiny_flux.model(), tiny_flux.text(), tiny_flux.latent()
MASK = torch.zeros(1, 48, 64)
MASK[:, 8:30, 16:41] = 1  # latents 1 to 3 of 6 rows and 2 to 5 of 8 columns are touched
OUTSIDE = torch.ones(6, 8, dtype=torch.bool)
OUTSIDE[1:4, 2:6] = False


def check(function):
    CHECKS[function.__name__] = function
    return function


def node(name, **inputs):
    with torch.inference_mode():
        return NODES[f"EditKit{name}"]().run(**inputs)


def turn(latent=LATENT, conditioning=TEXT, model=MODEL, anchor_strength=1.0, **more):
    return node("KontextTurn", model=model, conditioning=conditioning, latent=latent, anchor_strength=anchor_strength,
                **more)  # fmt: skip


def k_sampled(model, conditioning, latent, sampler="euler", steps=3, seed=7, **more):
    with torch.inference_mode():
        return nodes.common_ksampler(model, seed, steps, 1.0, sampler, "simple", conditioning, conditioning, latent,
                                     **more)[0]  # fmt: skip


def advanced(model, conditioning, latent, sampler="euler", seed=7):
    with torch.inference_mode():
        guider = custom.BasicGuider().get_guider(model, conditioning)[0]
        sigmas = node("KontextSchedule", steps=3, shift="size", width=64, height=48, tokens=1, mu=0.5, alpha=1.0,
                      sigma=1.0, base_shift=0.5, max_shift=1.15, start=1.0)[0]  # fmt: skip
        noise, chosen = custom.RandomNoise().get_noise(seed)[0], custom.KSamplerSelect().get_sampler(sampler)[0]
        return custom.SamplerCustomAdvanced().sample(noise, guider, chosen, sigmas, latent)[0]


def kept(made, before=LATENT, outside=OUTSIDE):
    """How many latents outside the mask are not as they were, bit by bit; how far inside they moved on the mean."""
    samples, old = made["samples"], before["samples"]
    moved = (samples[..., ~outside] - old[..., ~outside]).abs().mean()
    return [int((samples[..., outside] != old[..., outside]).sum()), float(moved), bool(torch.isfinite(samples).all())]


def native(*latents):
    """The core's own ReferenceLatent chain."""
    conditioning = TEXT
    for latent in latents:
        entry, options = conditioning[0]
        conditioning = [[entry, {**options, "reference_latents": [*options.get("reference_latents", []),
                                                                  latent["samples"]]}]]  # fmt: skip
    return conditioning


def refused(run):
    try:
        run()
    except Exception as error:
        return str(error) if type(error).__name__ == "EditError" else f"{type(error).__name__}: {error}"
    return "nothing was refused"


def apart(a, b):
    return float((a["samples"] - b["samples"]).abs().max())


@check
def samplers():
    """Every sampler of the core through both sampler nodes: [values outside that changed, movement inside, finite]."""
    model, conditioning, latent, _ = turn(mask=MASK)
    out = {}
    for name in comfy.samplers.KSampler.SAMPLERS:
        out[name] = kept(k_sampled(model, conditioning, latent, name))
    for name in ("euler", "dpmpp_2m", "res_multistep", "euler_ancestral", "lcm"):
        out[f"{name}, advanced"] = kept(advanced(model, conditioning, latent, name))
    return out


@check
def core_alone():
    """The core's noise mask without our MODEL: near, not equal."""
    _, _, latent, _ = turn(mask=MASK)
    return {name: kept(k_sampled(MODEL, native(LATENT), latent, name)) for name in ("euler", "dpmpp_2m", "lcm")}


@check
def references():
    """A plain turn is the core's ReferenceLatent; the anchor a second one, of its strength; equal ones count once."""
    other = tiny_flux.latent(9, (4, 10))
    model, conditioning, latent, changed = turn()
    made = k_sampled(model, conditioning, latent)
    with_anchor = {s: k_sampled(*turn(anchor=other, anchor_strength=s)[:3]) for s in (0.0, 0.5, 1.0)}
    one, two = k_sampled(MODEL, native(LATENT), LATENT), k_sampled(MODEL, native(LATENT, other), LATENT)
    itself = turn(anchor={"samples": LATENT["samples"].clone()})
    return {"one": apart(made, one), "none": apart(with_anchor[0.0], one), "two": apart(with_anchor[1.0], two),
            "half": [apart(with_anchor[0.5], one), apart(with_anchor[0.5], two)], "matters": apart(one, two),
            "itself": apart(k_sampled(*itself[:3]), one), "changed": [list(changed.shape), float(changed.min())],
            "mask": "noise_mask" in latent}  # fmt: skip


@check
def masks():
    """Pixels to latents: any shape of mask, soft values, a mask each, an old mask dropped, inputs unchanged."""
    soft, given = 0.5 * MASK, {**LATENT, "noise_mask": torch.ones(1, 1, 6, 8), "batch_index": [3]}
    before = (MASK.clone(), LATENT["samples"].clone())
    _, _, latent, changed = turn(latent=given, mask=MASK)
    half = turn(mask=soft)
    small = torch.zeros(1, 12, 16)
    small[:, 2:7, 4:11] = 1  # the same region, at a quarter of the size
    both = tiny_flux.latent(6, batch=2)
    two = torch.cat([MASK, 1 - MASK])
    model, conditioning, pair, _ = turn(latent=both, mask=two)
    made = k_sampled(model, conditioning, pair)
    empty = turn(mask=torch.zeros(1, 64, 64))[2]
    inner = torch.zeros(6, 8, dtype=torch.bool)  # latents that the inverted mask does not touch
    inner[1:3, 2:5] = True
    return {"latent": bool(torch.equal(latent["noise_mask"][0, 0] == 0, OUTSIDE)), "index": latent["batch_index"],
            "changed": [list(changed.shape), bool(torch.equal(changed[0, ::8, ::8] == 0, OUTSIDE))],
            "plain": "noise_mask" in turn(latent=given)[2], "blank": "noise_mask" in empty,
            "soft": [float(half[2]["noise_mask"].max()), *kept(k_sampled(*half[:3]))],
            "softer": apart(k_sampled(*half[:3]), k_sampled(*turn(mask=MASK)[:3])),
            "small": bool(torch.equal(turn(mask=small)[2]["noise_mask"] == 0, latent["noise_mask"] == 0)),
            "pair": [kept({"samples": made["samples"][:1]}, {"samples": both["samples"][:1]}),
                     kept({"samples": made["samples"][1:]}, {"samples": both["samples"][1:]}, inner)],
            "inputs": bool(torch.equal(MASK, before[0]) and torch.equal(LATENT["samples"], before[1])),
            "input_keys": sorted(given)}  # fmt: skip


@check
def session():
    """Three turns with masks of their own: what none of them touched is the first latent's, bit for bit."""
    latent, outside, model = LATENT, torch.ones(6, 8, dtype=torch.bool), MODEL
    for number, (rows, columns) in enumerate(((slice(0, 8), slice(0, 16)), (slice(9, 23), slice(0, 64)),
                                              (slice(40, 48), slice(60, 64)))):  # fmt: skip
        mask = torch.zeros(1, 48, 64)
        mask[:, rows, columns] = 1
        outside &= torch.nn.functional.max_pool2d(mask, 8)[0] == 0
        model, conditioning, given, _ = turn(latent=latent, model=model, anchor=LATENT, mask=mask,
                                             conditioning=tiny_flux.text(20 + number))  # fmt: skip
        latent = k_sampled(model, conditioning, given, seed=number)
    held = [len(model.get_all_wrappers(kind)) for kind in (WrappersMP.OUTER_SAMPLE, WrappersMP.DIFFUSION_MODEL)]
    return {"kept": kept(latent, LATENT, outside), "outside": int(outside.sum()), "wrappers": held}


@check
def leftover():
    """Noise that is left for a second sampler is not disturbed; after the second one the rest is as it was."""
    model, conditioning, latent, _ = turn(mask=MASK)
    half = k_sampled(model, conditioning, latent, steps=4, start_step=0, last_step=2)
    core = k_sampled(MODEL, native(LATENT), latent, steps=4, start_step=0, last_step=2)
    whole = k_sampled(model, conditioning, {**half, "samples": half["samples"]}, steps=4, disable_noise=True,
                      start_step=2, force_full_denoise=True)  # fmt: skip
    return {"same_as_core": apart(half, core), "kept": kept(whole, half)}


@check
def untouched():
    """The MODEL that came in is as before, also after an interrupted run."""
    before = k_sampled(MODEL, native(LATENT), LATENT)
    model, conditioning, latent, _ = turn(mask=MASK)
    first = k_sampled(model, conditioning, latent)

    def interrupt(*_):
        raise KeyboardInterrupt

    try:
        with torch.inference_mode():
            comfy.samplers.sample(
                model, torch.randn_like(latent["samples"]), conditioning, conditioning, 1.0, "cpu",
                comfy.samplers.ksampler("euler"), torch.tensor([1.0, 0.5, 0.0]), latent_image=latent["samples"],
                denoise_mask=latent["noise_mask"], callback=interrupt, seed=1,
            )  # fmt: skip
    except KeyboardInterrupt:
        pass
    return {"base": apart(before, k_sampled(MODEL, native(LATENT), LATENT)), "wrappers": len(MODEL.wrappers),
            "again": apart(first, k_sampled(model, conditioning, latent)),
            "guarded": refused(lambda: k_sampled(MODEL, conditioning, LATENT))}  # fmt: skip


@check
def bad_input():
    """One sentence each."""
    sd, nan = {"samples": torch.zeros(1, 4, 6, 8)}, {"samples": torch.full((1, 16, 6, 8), float("nan"))}
    return {"sd_latent": refused(lambda: turn(latent=sd)), "nan": refused(lambda: turn(latent=nan)),
            "sd_anchor": refused(lambda: turn(anchor=sd)), "not_flux": refused(lambda: turn(model=editmgt_core.MODEL)),
            "strength": refused(lambda: turn(anchor=tiny_flux.latent(1), anchor_strength=-1.0)),
            "masks": refused(lambda: turn(mask=torch.ones(3, 48, 64)))}  # fmt: skip


@check
def round_trip():
    """ComfyUI's own VAE at odd sizes: as VAE Encode and Decode give it where they cut nothing."""
    out = {}
    for height, width in ((64, 80), (37, 51), (9, 130)):
        picture = torch.rand(2, height, width, 3, generator=torch.Generator().manual_seed(height))
        made, difference, psnr, ssim, _ = node("VAERoundTrip", vae=editmgt_core.VAE, image=picture, gain=3.0)
        error = float(((made - picture) ** 2).mean((1, 2, 3)).log10().mean() * -10)
        out[f"{height}x{width}"] = [list(made.shape), psnr - error, ssim, float(difference.max())]
    with torch.inference_mode():
        picture = torch.rand(1, 64, 80, 3, generator=torch.Generator().manual_seed(64))
        whole = nodes.VAEDecode().decode(editmgt_core.VAE, nodes.VAEEncode().encode(editmgt_core.VAE, picture)[0])[0]
    made = node("VAERoundTrip", vae=editmgt_core.VAE, image=picture, gain=3.0)[0]
    return out | {"core": float((made - whole).abs().max())}


@check
def clip_vision():
    """ComfyUI's own CLIP vision gives the cosine."""
    config = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
              "image_size": 32, "patch_size": 8, "num_channels": 3, "projection_dim": 16, "hidden_act": "quick_gelu",
              "model_type": "clip_vision_model", "layer_norm_eps": 1e-5}  # fmt: skip
    (FOLDER / "vision.json").write_text(json.dumps(config), encoding="utf-8")
    vision = comfy.clip_vision.ClipVisionModel(str(FOLDER / "vision.json"))
    state = tiny_flux.randomised(vision.model, 4)
    vision.load_sd({k: v if v.is_floating_point() else vision.model.state_dict()[k] for k, v in state.items()})
    images = torch.rand(3, 40, 60, 3, generator=torch.Generator().manual_seed(2))
    found = node("DriftMeter", images=[images], face_model=["none"], face_detector=["none"], clip_vision=[vision])
    with torch.inference_mode():
        rows = [vision.encode_image(one[None], crop=False)["image_embeds"] for one in images]
    cosines = [float(torch.nn.functional.cosine_similarity(rows[i], rows[2])) for i in (0, 1)]
    return {"first": found[5] - cosines[0], "previous": found[10] - cosines[1], "cosines": cosines}


def placed():
    """A whole session on the pretended GPU: where what comes out lies. An error here is a crash there."""
    picture = torch.rand(1, 45, 61, 3, generator=torch.Generator().manual_seed(2))
    mask = torch.zeros(1, 45, 61)
    mask[:, 9:20, 9:30] = 1
    small, fit, inner, *_ = node("KontextFit", image=picture, size="own size", multiple=16, mask=mask)
    marked, drawn, inside = node("VisualCue", image=small, shape="arrow", x0=0, y0=0, x1=1, y1=1, units="relative",
                                 colour="red", width=0, fill=0, margin=0.1, mask=inner)  # fmt: skip
    back, changed = node("KontextUnfit", image=marked, fit=fit, feather=3, mask=drawn)
    trip = node("VAERoundTrip", vae=editmgt_core.VAE, image=small, gain=8.0)
    model, latent = MODEL, LATENT
    for number in range(2):
        own = (MASK, inside)[number]
        model, conditioning, given, edited = turn(latent=latent, model=model, anchor=LATENT, mask=own,
                                                  anchor_strength=0.5)  # fmt: skip
        latent = k_sampled(model, conditioning, given, seed=number)
    other = advanced(model, conditioning, given)
    meter = node("DriftMeter", images=[small, marked], mask=[inner], face_model=["none"], face_detector=["none"])
    return [str(x.device.type) for x in (small, inner, marked, drawn, inside, back, changed, trip[0], trip[1], edited,
                                         latent["samples"], other["samples"], meter[0])]  # fmt: skip


def main():
    results = {}
    for name, run in (CHECKS if PLACE == "cpu" else {PLACE: placed}).items():
        try:
            results[name] = run()
        except Exception:
            results[name] = {"crashed": traceback.format_exc()[-3000:]}
    name = "results.json" if PLACE == "cpu" else f"results_{PLACE}.json"
    (FOLDER / name).write_text(json.dumps(results, indent=1), encoding="utf-8")


main()
