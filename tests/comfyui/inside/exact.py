"""What the nodes compute, against references: plain diffusers, other orders of the rows, LoRA, precisions."""

import torch
from kit import (
    CASES,
    CLIP,
    CUSTOM,
    EDIT,
    GENERATOR,
    SCALES,
    SOURCE,
    VISION,
    away,
    check,
    decoded,
    invert,
    latents,
    loaded,
    node,
    sampled,
    whole,
)
from my_x_pack.models.swiftedit.aram import Aram
from my_x_pack.nodes.host import swiftedit


@check
def plain_loop():
    """Each stage of the step-by-step graph, and the node of all in one, against plain diffusers."""
    out = {}
    for name in sorted({key.split(".")[0] for key in CASES if key.startswith("loop_")}):
        case = {k.split(".", 1)[1]: v for k, v in CASES.items() if k.startswith(f"{name}.")}
        preset, source, edit = bytes(case["words"].tolist()).decode().split("|")
        image, mask = case["image"], case.get("user_mask")
        words = CLIP.encode_from_tokens_scheduled(source), CLIP.encode_from_tokens_scheduled(edit)
        inverted, first, second, found, *_ = invert(image, *words)
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
    inverted, _, _, mask, *_ = invert(case["image"], model=inversion)
    made, again = latents(generator, case["image"], mask, inverted=inverted)
    picture = whole(case["image"], inversion=inversion, generator=generator)[0]
    return {"edit": away(made, case["edit"]), "reconstruction": away(again, case["reconstruction"]),
            "picture": away(picture, case["picture"])}  # fmt: skip


@check
def trained():
    """What `python . train swiftedit` exported, through Load SwiftEdit, the inversion and ARaM."""
    case = {k.split(".", 1)[1]: v for k, v in CASES.items() if k.startswith("trained.")}
    inversion, generator = loaded(release="trained")
    source, edit = ([[row[None], {}]] for row in case["texts"])
    latent = case["latent"] / 0.18215
    with torch.inference_mode():
        noises = swiftedit.invert(inversion, latent, source, edit)
        model = swiftedit.with_aram(generator, case["embedding"], case["mask"], Aram())
        made, _ = swiftedit.generate(model, swiftedit.start(model, latent, noises.source), source, edit)
    return {"noise": away(noises.edit, case["noise"]), "edit": away(made * 0.18215, case["edit"])}


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
    import comfy.utils

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
    return {"patched": len(taken) == len(patches), "matters": away(case["edit"], case["without"]),
            "before": away(one[0], case["edit"]),
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
