"""SwiftEdit's nodes in ComfyUI's own Python: every check writes numbers, which tests/comfyui/test_swiftedit.py judges.

python swiftedit.py COMFYUI PACK FOLDER: FOLDER holds a tiny release and recorded references (cases.safetensors), and
gets results.json.
"""

import hashlib
import json
import sys
import time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
COMFYUI, PACK, FOLDER = (Path(a) for a in sys.argv[1:4])

from start import start  # noqa: E402 - found by the line above

pack = start(COMFYUI, PACK, FOLDER)

import comfy.clip_vision  # noqa: E402 - ComfyUI's modules exist from here on
import comfy.sd  # noqa: E402
import comfy.utils  # noqa: E402
import folder_paths  # noqa: E402
import torch  # noqa: E402
from comfy_extras import nodes_custom_sampler as custom  # noqa: E402
from my_x_pack.nodes.host import aram as hooks  # noqa: E402
from my_x_pack.nodes.host import memo, prompts, rows, swiftedit  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

folder_paths.folder_names_and_paths["editkit"] = ([str(FOLDER / "release")], {".safetensors"})
NODES = pack.NODE_CLASS_MAPPINGS
CASES = load_file(FOLDER / "cases.safetensors")
CHECKS = {}


def check(function):
    CHECKS[function.__name__] = function
    return function


class Clip:
    """Stands for a text encoder: the same random tokens for the same words, as the reference has them."""

    encoded = 0

    def tokenize(self, text):
        return text

    def encode_from_tokens_scheduled(self, text):
        self.encoded += 1
        seed = int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)
        tokens = torch.randn(1, 77, 48, generator=torch.Generator().manual_seed(seed))
        return [[tokens, {"pooled_output": None}]]


def make_vae():
    sizes = {"double_z": True, "z_channels": 4, "resolution": 64, "in_channels": 3, "out_ch": 3, "ch": 32,
             "ch_mult": [1, 1, 1, 1], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0}  # fmt: skip
    made = comfy.sd.VAE(
        sd=load_file(FOLDER / "vae.safetensors"), config={"params": {"ddconfig": sizes, "embed_dim": 4}}
    )
    made.throw_exception_if_invalid()
    return made


def make_vision():
    made = comfy.clip_vision.ClipVisionModel(str(FOLDER / "vision.json"))
    made.load_sd(load_file(FOLDER / "vision.safetensors"))
    return made


CLIP, VAE, VISION = Clip(), make_vae(), make_vision()
SCALES = {"text_scale": 2.0, "edit_scale": 0.0, "non_edit_scale": 1.0, "global_scale": 0.6}
CUSTOM = {"text_region": "everywhere", "foreground": "uniform", "background": "source", "layers": "up"}


def node(name, **inputs):
    """Runs a node as the server does: without gradients."""
    with torch.inference_mode():
        return NODES[f"EditKit{name}"]().run(**inputs)


def loaded(dtype="default", release="tiny", **inputs):
    return node("LoadSwiftEdit", release=release, family="auto", weight_dtype=dtype, **inputs)


INVERSION, GENERATOR = loaded()
SOURCE, EDIT = CLIP.encode_from_tokens_scheduled("a grey cat"), CLIP.encode_from_tokens_scheduled("a black dog")


def away(ours, reference):
    """max|d| / max|reference|; infinite for another shape."""
    if tuple(ours.shape) != tuple(reference.shape):
        return float("inf")
    return float((ours.float() - reference.float()).abs().max() / reference.float().abs().max())


def latents(model, image, mask, preset="official", edit=EDIT, source=SOURCE, inverted=None, **changes):
    """(edit, reconstruction) latents by Invert, ARaM, Guider and the core's SamplerCustomAdvanced."""
    if inverted is None:
        inverted = invert(image, source=source, edit=edit)[0]
    aram = node("SwiftEditARaM", model=model, clip_vision=VISION, image=image, mask=mask, preset=preset,
                **{**SCALES, **CUSTOM, **changes})[0]  # fmt: skip
    return [sampled(aram, inverted, result, source, edit) for result in ("edit", "reconstruction")]


def sampled(model, inverted, result="edit", source=SOURCE, edit=EDIT):
    guider, sigmas = node("SwiftEditGuider", model=model, source=source, edit=edit, result=result)
    with torch.inference_mode():
        sampler = custom.KSamplerSelect().get_sampler("euler")[0]
        noise = custom.DisableNoise().get_noise()[0]
        return custom.SamplerCustomAdvanced().sample(noise, guider, sampler, sigmas, inverted)[0]["samples"]


def invert(image=None, source=SOURCE, edit=EDIT, model=None, side=0, latent=None, **changes):
    inputs = {"clamp": 3.0, "threshold": 0.5, "grow": 0, "feather": 0, **changes}
    vae = None if image is None else VAE
    return node("SwiftEditInvert", model=model or INVERSION, source=source, edit=edit, side=side, image=image, vae=vae,
                latent=latent, **inputs)  # fmt: skip


def whole(image, source="a grey cat", edit="a black dog", preset="official", **changes):
    """The node of all in one."""
    inputs = {"side": 0, "clamp": 3.0, "threshold": 0.5, "grow": 0, "feather": 0, "composite": False,
              "one_per_line": False, **SCALES, **changes}  # fmt: skip
    return node("SwiftEdit", **{"inversion": INVERSION, "generator": GENERATOR, **inputs}, clip=CLIP, vae=VAE,
                clip_vision=VISION, image=image, source_prompt=source, edit_prompt=edit, preset=preset)  # fmt: skip


def refused(run):
    """The sentence of an EditError, or a word that says what came instead."""
    try:
        run()
    except Exception as error:
        kind = type(error).__name__
        return str(error) if kind in ("EditError", "SourceNeeded") else f"{kind}: {error}"
    return "nothing was refused"


@check
def plain_loop():
    """Each stage of the step-by-step graph, and the node of all in one, against plain diffusers."""
    out = {}
    for name in sorted({key.split(".")[0] for key in CASES if key.startswith("loop_")}):
        case = {k.split(".", 1)[1]: v for k, v in CASES.items() if k.startswith(f"{name}.")}
        preset, source, edit = bytes(case["words"].tolist()).decode().split("|")
        image, mask = case["image"], case.get("user_mask")
        words = CLIP.encode_from_tokens_scheduled(source), CLIP.encode_from_tokens_scheduled(edit)
        inverted, first, second, found, _, _ = invert(image, *words)
        out[f"{name}.noise"] = away(torch.cat([first["samples"], second["samples"]]), case["noise"])
        if mask is None:
            small = torch.nn.functional.avg_pool2d(found, 8)
            out[f"{name}.mask"] = int((small != case["mask"]).sum())
        settings = {"layers": "all"} if preset == "custom" else {}
        made, again = latents(GENERATOR, image, found if mask is None else mask, preset, words[1], words[0], inverted,
                              **settings)  # fmt: skip
        out[f"{name}.edit"] = away(made, case["edit"])
        out[f"{name}.reconstruction"] = away(again, case["reconstruction"])
        if preset != "custom":
            picture, back, _ = whole(image, source, edit, preset, mask=mask)
            out[f"{name}.picture"] = away(picture, case["picture"])
            out[f"{name}.back"] = away(back, decoded(case["reconstruction"]))
    return out


@check
def velocity_generator():
    """A rectified flow (InstaFlow) through the same nodes."""
    case = {k.split(".", 1)[1]: v for k, v in CASES.items() if k.startswith("flow.")}
    inversion, generator = loaded(release="flow")
    inverted, _, _, mask, _, _ = invert(case["image"], model=inversion)
    made, again = latents(generator, case["image"], mask, inverted=inverted)
    picture = whole(case["image"], inversion=inversion, generator=generator)[0]
    return {"edit": away(made, case["edit"]), "reconstruction": away(again, case["reconstruction"]),
            "picture": away(picture, case["picture"])}  # fmt: skip


class Split:
    """Within the block ComfyUI believes that no two conditionings fit into memory together."""

    def __init__(self, model):
        self.model, self.calls = model.model, []

    def __enter__(self):
        self.model.memory_required = lambda *a, **k: 1e18
        self.before = self.model.apply_model
        self.model.apply_model = self._counted
        return self

    def _counted(self, x, t, **kwargs):
        self.calls.append(list(kwargs["transformer_options"]["cond_or_uncond"]))
        return self.before(x, t, **kwargs)

    def __exit__(self, *_):
        del self.model.memory_required, self.model.apply_model


@check
def rows_apart():
    """Low memory runs the source row first; conditionings that do not batch run the edit row first."""
    image, mask = CASES["image"], CASES["half"]
    together = latents(GENERATOR, image, mask)
    with Split(GENERATOR) as split:
        apart = latents(GENERATOR, image, mask)
    long = [[EDIT[0][0].repeat(1, 7, 1), EDIT[0][1]]]  # repeated tokens do not change attention, but do not batch
    inverted = invert(image)[0]
    with Split(GENERATOR) as awkward:
        del GENERATOR.model.memory_required
        GENERATOR.model.memory_required = lambda *a, **k: 0
        turned = latents(GENERATOR, image, mask, edit=long, inverted=inverted)
    return {"split": max(away(a, b) for a, b in zip(apart, together)), "calls": split.calls,
            "turned": away(turned[0], together[0]), "turned_calls": awkward.calls}  # fmt: skip


@check
def untouched():
    """A MODEL without our node gives the same bits before and after; so does one that was cloned from it."""
    import comfy.sample

    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))

    def plain(model):
        with torch.inference_mode():
            return comfy.sample.sample(model, torch.zeros_like(x), 1, 1.0, "euler", "simple", EDIT, SOURCE, x)

    before = plain(GENERATOR)
    latents(GENERATOR, CASES["image"], CASES["half"])
    keys = [k for k in GENERATOR.model_options["transformer_options"]]
    return {"same": bool(torch.equal(before, plain(GENERATOR))), "options": keys,
            "clone": bool(torch.equal(before, plain(GENERATOR.clone())))}  # fmt: skip


@check
def lora():
    """A LoRA before ARaM and after it equals the merged weights in plain diffusers."""
    case = {k.split(".", 1)[1]: v for k, v in CASES.items() if k.startswith("lora.")}
    weights = {k.removeprefix("weights_"): v for k, v in case.items() if k.startswith("weights_")}
    names = comfy.utils.unet_to_diffusers(GENERATOR.model.model_config.unet_config)
    patches = {f"diffusion_model.{names[k]}": (v,) for k, v in weights.items()}
    first = GENERATOR.clone()
    taken = first.add_patches(patches, 1.0)
    one = latents(first, CASES["image"], CASES["half"])
    inverted = invert(CASES["image"])[0]
    aram = node("SwiftEditARaM", model=GENERATOR, clip_vision=VISION, image=CASES["image"], mask=CASES["half"],
                preset="official", **SCALES, **CUSTOM)[0]  # fmt: skip
    after = aram.clone()
    after.add_patches(patches, 1.0)
    two = sampled(after, inverted)
    plain = latents(GENERATOR, CASES["image"], CASES["half"])
    return {"patched": len(taken) == len(patches), "before": away(one[0], case["edit"]),
            "after": away(two, case["edit"]), "taken_off": away(plain[0], case["without"])}  # fmt: skip


@check
def precisions():
    """Weights in fp16, bf16 and fp8, and computing in fp16 and bf16, against fp32 from the same inverted latent."""
    image, out = CASES["image"], {}
    inverted = invert(image)[0]
    exact = latents(GENERATOR, image, CASES["half"], inverted=inverted)
    for dtype in ("fp16", "bf16", "fp8_e4m3fn"):
        inversion, generator = loaded(dtype)
        made = latents(generator, image, CASES["half"], inverted=inverted)
        noise = invert(image, model=inversion)[1]["samples"]
        out[dtype] = max(away(a, b) for a, b in zip(made, exact))
        out[f"{dtype}_noise"] = away(noise, invert(image)[1]["samples"])
        out[f"{dtype}_weights"] = str(generator.model_dtype())
    for dtype in (torch.float16, torch.bfloat16):
        model = GENERATOR.clone()
        model.set_model_compute_dtype(dtype)
        made = latents(model, image, CASES["half"], inverted=inverted)
        out[f"computed_{dtype}"] = max(away(a, b) for a, b in zip(made, exact))
    return out


@check
def many_edits():
    """One photograph with a list of edits, and several photographs: each equals its own run; nothing is done twice."""
    memo.forget()
    image, calls = CASES["image"], {"inversion": 0, "vae": 0, "vision": 0}

    def counted(what, name, key):
        before = getattr(what, name)

        def run(*args, **kwargs):
            calls[key] += len(args[0]) if key == "inversion" else 1
            return before(*args, **kwargs)

        setattr(what, name, run)
        return lambda: setattr(what, name, before)

    undo = [counted(INVERSION.model.diffusion_model, "forward", "inversion"), counted(VAE, "encode", "vae"),
            counted(VISION, "encode_image", "vision")]  # fmt: skip
    texts, before = ["a black dog", "a red bird", "a white horse"], CLIP.encoded
    all_at_once = whole(image, edit="\n".join(texts), one_per_line=True)
    first = dict(calls), CLIP.encoded - before
    again = whole(image, edit="a white horse")
    other = whole(image, edit="a white horse", threshold=0.4, preset="paper")
    second = dict(calls), CLIP.encoded - before
    for back in undo:
        back()
    memo.forget()
    alone = [whole(image, edit=text)[0] for text in texts]
    two = torch.cat([image, CASES["second"]])
    pair, backs, masks = whole(two, edit="a black dog")
    singles = [whole(two[i : i + 1], edit="a black dog") for i in (0, 1)]
    return {
        "list": max(away(all_at_once[0][i : i + 1], alone[i]) for i in range(3)), "list_rows": len(all_at_once[0]),
        "list_back": len(all_at_once[1]), "first": first, "second": second, "again": away(again[0], alone[2]),
        "changed": away(other[0], again[0]), "pair": max(away(pair[i : i + 1], singles[i][0]) for i in (0, 1)),
        "pair_masks": max(away(masks[i : i + 1] + 1, singles[i][2] + 1) for i in (0, 1)), "pair_back": len(backs),
        "refused": refused(lambda: whole(two, edit="a\nb\nc", one_per_line=True)),
    }  # fmt: skip


@check
def sizes():
    """Portrait, landscape, odd sides and large photographs: own size back, bit-identical outside the mask."""
    out = {}
    for height, width, side in ((131, 77, 0), (203, 517, 128), (1201, 803, 256)):
        image = torch.rand(1, height, width, 3, generator=torch.Generator().manual_seed(height))
        mask = torch.zeros(1, height, width)
        mask[:, height // 3 : height // 2, width // 4 : width // 2] = 1
        made, back, soft = whole(image, mask=mask, side=side, composite=True, feather=6)
        exact = bool(torch.equal(made[soft == 0], image[soft == 0]))
        edited = bool((made[mask > 0.5] != image[mask > 0.5]).any())
        out[f"{height}x{width}"] = [list(made.shape), list(back.shape), exact, edited, float(soft.mean())]
        inverted, _, _, found, difference, preview = invert(image, side=side)
        shapes = [list(x.shape) for x in (found, preview, inverted["samples"])]
        out[f"{height}x{width}_invert"] = [*shapes, float(difference.min()), float(difference.max())]
    rgba = torch.rand(1, 64, 72, 4, generator=torch.Generator().manual_seed(1))
    made = whole(rgba, composite=True)[0]
    out["alpha"] = [list(made.shape), bool(torch.equal(made[..., 3], rgba[..., 3]))]
    return out


@check
def latents_in():
    """A LATENT in place of a picture, and the soft difference as ARaM's mask."""
    image = CASES["image"]
    latent = {"samples": VAE.encode(image)}
    one, two = invert(image), invert(latent=latent)
    soft = latents(GENERATOR, image, one[4], inverted=one[0])[0]
    return {"same": away(two[0]["samples"], one[0]["samples"]), "mask": int((one[3] != two[3]).sum()),
            "soft": bool(torch.isfinite(soft).all()), "unmutated": list(latent),
            "both": refused(lambda: invert(image, latent=latent))}  # fmt: skip


@check
def other_samplers():
    """Without the guider the edit row lacks its source row, and says so; with its own background it needs none."""
    import comfy.sample

    image, inverted = CASES["image"], invert(CASES["image"])[0]["samples"]

    def plain(**changes):
        model = node("SwiftEditARaM", model=GENERATOR, clip_vision=VISION, image=image, mask=CASES["half"],
                     preset="custom", **{**SCALES, **CUSTOM, **changes})[0]  # fmt: skip
        with torch.inference_mode():
            zeros = torch.zeros_like(inverted)
            return comfy.sample.sample(model, zeros, 1, 1.0, "euler", "simple", EDIT, SOURCE, inverted)

    own = plain(background="edit")
    guided = latents(GENERATOR, image, CASES["half"], "custom", background="edit")[0]
    return {"refused": refused(plain), "same": away(own, guided)}


@check
def composes():
    """A cross-attention patch that was there before still makes the text term; ARaM twice is the later one."""
    class Doubled:
        calls = 0

        def __call__(self, q, k, v, extra_options):
            from comfy.ldm.modules.attention import optimized_attention

            Doubled.calls += 1
            return 2 * optimized_attention(q, k, v, heads=extra_options["n_heads"])

    image, inverted = CASES["image"], invert(CASES["image"])[0]
    base = GENERATOR.clone()
    base.set_model_attn2_replace(Doubled(), "output", 3)
    changed = latents(base, image, CASES["half"], inverted=inverted)[0]
    plain = latents(GENERATOR, image, CASES["half"], inverted=inverted)[0]
    aram = {"clip_vision": VISION, "image": image, "mask": CASES["half"], **SCALES, **CUSTOM}
    once = node("SwiftEditARaM", model=GENERATOR, preset="paper", **aram)[0]
    twice = node("SwiftEditARaM", model=once, preset="official", **aram)[0]
    return {"calls": Doubled.calls, "changed": away(changed, plain), "later": away(sampled(twice, inverted), plain)}


@check
def sweep():
    """The sheet's pictures equal single edits with those scales, from one inversion of the source row."""
    image = CASES["image"]
    sheet, images = node("SwiftEditScaleSweep", inversion=INVERSION, generator=GENERATOR, clip=CLIP, vae=VAE,
                         clip_vision=VISION, image=image, source_prompt="a grey cat", edit_prompt="a black dog",
                         edit_scales="0, 0.5", text_scales="1, 2, 3", non_edit_scale=1.0, side=0, clamp=3.0,
                         threshold=0.5, cell=96)  # fmt: skip
    worst = 0.0
    for number, (edit_scale, text_scale) in enumerate((e, t) for e in (0.0, 0.5) for t in (1.0, 2.0, 3.0)):
        scales = {"text_scale": text_scale, "edit_scale": edit_scale, "non_edit_scale": 1.0, "global_scale": 1.0}
        mask = invert(image)[3]
        made = latents(GENERATOR, image, mask, "custom", **scales)[0]
        worst = max(worst, away(images[number : number + 1], decoded(made)))
    return {"worst": worst, "sheet": list(sheet.shape), "images": list(images.shape),
            "refused": refused(lambda: _numbers("0, x"))}  # fmt: skip


def decoded(latent):
    with torch.inference_mode():
        return VAE.decode(latent)


def _numbers(text):
    from my_x_pack.nodes.swiftedit_edit import numbers

    return numbers(text, "text_scales")


@check
def wrongly_guessed():
    """A MODEL that its loader takes for v-prediction (as ComfyUI does SwiftEdit's inversion net) still works."""
    import comfy.model_sampling as sampling

    class Guessed(sampling.ModelSamplingDiscrete, sampling.V_PREDICTION):
        pass

    image, found = CASES["image"], invert(CASES["image"])
    inversion, generator = INVERSION.clone(), GENERATOR.clone()
    for model in (inversion, generator):
        model.add_object_patch("model_sampling", Guessed(model.model.model_config))
    noise = invert(image, model=inversion)[1]["samples"]
    wired = loaded(generator=generator)[1]
    made = latents(wired, image, CASES["half"], inverted=found[0])[0]
    return {"noise": away(noise, found[1]["samples"]),
            "edit": away(made, latents(GENERATOR, image, CASES["half"], inverted=found[0])[0])}  # fmt: skip


@check
def bad_input():
    """One sentence each."""
    import types

    image, bare = CASES["image"], GENERATOR.clone()
    bare.remove_attachments(swiftedit.ATTACHED)
    sdxl = GENERATOR.clone()
    sdxl.model = types.SimpleNamespace(
        model_config=types.SimpleNamespace(unet_config={"context_dim": 2048, "channel_mult": [1, 2, 4]})
    )
    masks = torch.ones(3, 16, 16)
    mixed = SOURCE + EDIT
    aram = {"clip_vision": VISION, "image": image, "mask": CASES["half"], "preset": "official", **SCALES, **CUSTOM}

    class Small:
        def encode_image(self, image, crop):
            return {"image_embeds": torch.zeros(1, 32)}

    return {
        "no_branch": refused(lambda: node("SwiftEditARaM", model=bare, **aram)),
        "sdxl": refused(lambda: node("SwiftEditARaM", model=sdxl, **aram)),
        "sdxl_generator": refused(lambda: loaded(generator=sdxl)),
        "vision": refused(lambda: node("SwiftEditARaM", model=GENERATOR, **{**aram, "clip_vision": Small()})),
        "masks": refused(lambda: latents(GENERATOR, image, masks)),
        "mixed": refused(lambda: invert(image, source=mixed)),
        "no_folder": refused(lambda: loaded(release="nowhere")),
        "no_picture": refused(lambda: invert()),
        "no_vae": refused(lambda: node("SwiftEditInvert", model=INVERSION, source=SOURCE, edit=EDIT, side=0, clamp=3.0,
                                       threshold=0.5, grow=0, feather=0, image=image)),
        "other_latent": refused(lambda: invert(latent={"samples": torch.zeros(1, 16, 8, 8)})),
        "broken": {name: refused(lambda name=name: loaded(release=name))
                   for name in ("no_branch", "no_inversion", "corrupt", "no_generator", "wrong_family")},
    }  # fmt: skip


@check
def official_cases():
    """The recorded cases of the official code through the shipped hooks, stage by stage from the recorded inputs."""
    import os

    where = os.environ.get("EDITKIT_ARAM_CASES")
    out = {}
    if not where or not (Path(where) / "e2e_inverse_unet_diffusers.safetensors").is_file():
        return out
    from official import cases

    return cases(Path(where), FOLDER / "official", swiftedit, hooks, prompts, rows, away)


def main():
    results = {"seconds": {}}
    for name, run in CHECKS.items():
        try:
            began = time.monotonic()
            results[name] = run()
            results["seconds"][name] = round(time.monotonic() - began, 1)
        except Exception:
            results[name] = {"crashed": traceback.format_exc()[-3000:]}
    (FOLDER / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")


main()
