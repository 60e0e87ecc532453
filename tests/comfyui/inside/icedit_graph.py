"""ICEdit's graph on ComfyUI: diptych, conditioning, schedule, sampling and the way back, against plain loops."""

import comfy.sd
import comfy.text_encoders.flux
import torch
from comfy_extras import nodes_flux, nodes_model_advanced
from icedit_flux import (
    CASES,
    GRID,
    MODEL,
    Noise,
    Vae,
    away,
    check,
    lora,
    make_model,
    node,
    refused,
    sampled,
    unpacked,
)

import nodes

VAE = Vae()
INPUTS = {"instruction": "the sky is green", "preset": "icedit", "width": 64, "source": ""}


class Words:
    """A text encoder whose words are the fixtures'; it remembers what it was told."""

    told = []

    def clone(self):
        return self

    def set_tokenizer_option(self, name, value):
        self.told.append((name, value))

    def tokenize(self, text):
        self.told.append(text)
        return text

    def encode_from_tokens_scheduled(self, text):
        random = torch.Generator().manual_seed(len(text))
        words = torch.randn(1, 6, 48, generator=random)
        return [[words, {"pooled_output": torch.randn(1, 40, generator=random)}]]


CLIP = Words()


def picture(height=64, width=64, count=1, seed=0, channels=3):
    """Soft colours that a file keeps exactly."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, channels, 5, 5, generator=random)
    made = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1).movedim(1, -1)
    return (made * 255).round().contiguous() / 255


def conditioned(diptych, mask, prompt="p", clip=None, **changes):
    inputs = {"guidance": 50.0, "lock_left_panel": False, "t5_length": 512, "negative": "", **changes}
    return node("ICEditConditioning", clip=clip or CLIP, vae=VAE, diptych=diptych, mask=mask, prompt=prompt, **inputs)


def edited(image, mask=None, model=None, steps=2, feather=4, noise=None, **changes):
    """The template's graph: (image, changed, latent)."""
    made = node("ICEditDiptych", image=image, mask=mask, **{**INPUTS, **changes})
    diptych, region, prompt, record, _ = made
    positive, negative, latent = conditioned(diptych, region, prompt)
    model = model or lora()[0]
    sigmas, _, _ = node("ICEditSchedule", latent=latent, steps=steps, base_shift=0.5, max_shift=1.15)
    result = sampled(model, positive, latent, sigmas, noise)
    out = node("ICEditUncrop", diptych=VAE.decode(result["samples"]), record=record, feather=feather)
    return (*out, result["samples"], latent)


@check
def plain_loop():
    """The whole graph's latent equals the release's pipeline on diffusers' FLUX, which the test ran on its own."""
    made = edited(CASES["loop.image"], noise=Noise(unpacked(CASES["loop.noise"])), steps=4)
    return {"latent": away(made[2], unpacked(CASES["loop.out"], GRID))}


@check
def same_as_core():
    """Our conditioning is the core's InpaintModelConditioning with FluxGuidance, for a hard mask; lock is its mask."""
    image = torch.cat([picture(64, 64), picture(64, 64, seed=1)], 2)
    mask = torch.zeros(1, 64, 128)
    mask[..., 64:] = 1
    words = CLIP.encode_from_tokens_scheduled("p")
    core, _, latent = nodes.InpaintModelConditioning().encode(words, words, image, VAE, mask, True)
    guide = nodes_flux.FluxGuidance()
    core = (getattr(guide, "execute", None) or guide.append)(core, 50.0)[0]
    ours, negative, locked = conditioned(image, mask, lock_left_panel=True)
    free = conditioned(image, mask)[2]
    keys = ("concat_latent_image", "concat_mask", "guidance", "pooled_output")
    return {"same": {k: away(torch.as_tensor(ours[0][1][k]), torch.as_tensor(core[0][1][k])) for k in keys},
            "keys": sorted(set(core[0][1]) ^ set(ours[0][1])), "words": away(ours[0][0], core[0][0]),
            "samples": away(locked["samples"], latent["samples"]), "negative": sorted(negative[0][1]),
            "locked": bool(torch.equal(locked["noise_mask"].float().flatten(), latent["noise_mask"].flatten())),
            "free": sorted(free)}  # fmt: skip


@check
def lock():
    """Locked, the left panel of the result is the picture's latent; unlocked it is what the network makes."""
    out, image = {}, picture()
    diptych, region, prompt, *_ = node("ICEditDiptych", image=image, **INPUTS)
    for name, locked in (("locked", True), ("free", False)):
        positive, _, latent = conditioned(diptych, region, prompt, lock_left_panel=locked)
        made = sampled(MODEL, positive, latent, torch.tensor([1.0, 0.6, 0.3, 0.0]))["samples"]
        out[name] = away(made[..., :8], latent["samples"][..., :8])
        out[f"{name}_right"] = away(made[..., 8:], latent["samples"][..., 8:])
    return out


@check
def t5_length():
    """ComfyUI's own tokenizer pads to 512 with our node and to 256 without, and the given CLIP keeps its options."""
    clip = comfy.sd.CLIP(no_init=True)
    clip.tokenizer, clip.tokenizer_options = comfy.text_encoders.flux.FluxTokenizer(), {}
    clip.patcher = clip.cond_stage_model = clip.layer_idx = clip.use_clip_schedule = clip.apply_hooks_to_conds = None
    seen, original = [], comfy.sd.CLIP.encode_from_tokens_scheduled
    clone = comfy.sd.CLIP.clone

    def copied(self):
        made = comfy.sd.CLIP(no_init=True)
        made.__dict__.update(self.__dict__, tokenizer_options=self.tokenizer_options.copy())
        return made

    def encode(self, tokens):
        seen.append([len(tokens["t5xxl"][0]), len(tokens["l"][0])])
        return CLIP.encode_from_tokens_scheduled("p")

    comfy.sd.CLIP.encode_from_tokens_scheduled, comfy.sd.CLIP.clone = encode, copied
    try:
        image = torch.zeros(1, 64, 128, 3)
        for length in (512, 0, 300):
            conditioned(image, torch.ones(1, 64, 128), "a diptych", clip, t5_length=length)
    finally:
        comfy.sd.CLIP.encode_from_tokens_scheduled, comfy.sd.CLIP.clone = original, clone
    return {"lengths": seen, "options": clip.tokenizer_options}


@check
def schedule():
    """The MODEL output's shift, by the core's `simple`, and by the core's ModelSamplingFlux of the same size."""
    import comfy.samplers

    latent, out = {"samples": torch.zeros(1, 16, 64, 128)}, {}
    sigmas, mu, model = node("ICEditSchedule", latent=latent, steps=28, base_shift=0.5, max_shift=1.15, model=MODEL)
    core = nodes_model_advanced.ModelSamplingFlux().patch(MODEL, 1.15, 0.5, 1024, 512)[0]
    ours, theirs = (m.get_model_object("model_sampling") for m in (model, core))
    out["same"] = away(ours.sigmas, theirs.sigmas)
    out["simple"] = float((comfy.samplers.calculate_sigmas(ours, "simple", 28) - sigmas).abs().max())
    unshifted = MODEL.get_model_object("model_sampling")
    out["forgotten"] = float((comfy.samplers.calculate_sigmas(unshifted, "simple", 28) - sigmas).abs().max())
    return {**out, "mu": mu, "untouched": unshifted is MODEL.model.model_sampling}


@check
def sizes():
    """Any size, batch and mask: the picture comes back at its size, exact outside the mask, and edited inside."""
    out = {}
    for height, width, count, channels in ((77, 131, 1, 3), (300, 50, 2, 3), (64, 64, 1, 4), (517, 203, 1, 3)):
        image = picture(height, width, count, channels=channels)
        mask = torch.zeros(1, height, width)
        mask[:, height // 4 : height // 2, width // 3 : width - 5] = 1
        whole, everywhere, latent, _ = edited(image)
        made, changed, *_ = edited(image, mask)
        outside = (mask == 0)[..., None].expand_as(image)
        out[f"{width}x{height}x{count}"] = {
            "shapes": [list(image.shape), list(whole.shape), list(made.shape)], "latent": list(latent.shape),
            "exact": bool(torch.equal(made[outside], image[outside])), "everywhere": float(everywhere.min()),
            "inside": away(made[..., :3] * mask[..., None], image[..., :3] * mask[..., None]),
            "changed": bool(torch.equal(changed > 0, (mask > 0).expand_as(changed))),
            "alpha": bool(torch.equal(made[..., 3:], image[..., 3:])),
        }  # fmt: skip
    return out


@check
def several_seeds():
    """Many diptychs of one picture come back as many pictures, each through its mask."""
    image, mask = picture(80, 96), torch.zeros(1, 80, 96)
    mask[:, 20:40, 10:50] = 1
    diptych, region, prompt, record, _ = node("ICEditDiptych", image=image, mask=mask, **INPUTS)
    positive, _, latent = conditioned(diptych, region, prompt)
    noise = torch.randn(3, *latent["samples"].shape[1:], generator=torch.Generator().manual_seed(2))
    many = {"samples": latent["samples"].repeat(3, 1, 1, 1)}
    sigmas = torch.tensor([1.0, 0.5, 0.0])
    made = VAE.decode(sampled(MODEL, positive, many, sigmas, Noise(noise))["samples"])
    out, _ = node("ICEditUncrop", diptych=made, record=record, feather=0)
    single = [node("ICEditUncrop", diptych=one[None], record=record, feather=0)[0] for one in made]
    larger = torch.nn.functional.interpolate(made.movedim(-1, 1), scale_factor=2).movedim(1, -1)
    return {"shape": list(out.shape), "same": away(out, torch.cat(single)),
            "larger": list(node("ICEditUncrop", diptych=larger, record=record, feather=0)[0].shape),
            "refused": refused(lambda: node("ICEditUncrop", diptych=made[:, :, :64], record=record, feather=0)),
            }  # fmt: skip


@check
def grey_masks():
    """The network sees a grey mask as white; the picture gets the edit in that part."""
    image, grey = picture(64, 64), torch.full((1, 64, 64), 0.5)
    diptych, region, prompt, record, _ = node("ICEditDiptych", image=image, mask=grey, **INPUTS)
    positive = conditioned(diptych, region, prompt)[0]
    red = torch.zeros(1, 64, 128, 3)
    red[..., 0] = 1
    out = node("ICEditUncrop", diptych=red, record=record, feather=0)[0]
    return {"seen": positive[0][1]["concat_mask"].unique().tolist(), "given": region.unique().tolist(),
            "blended": away(out, 0.5 * image + 0.5 * red[:, :, 64:])}  # fmt: skip


@check
def fp8_graph():
    """Weights in fp8 computed in bf16, through the whole graph."""
    state = {k: v.to(torch.float8_e4m3fn) for k, v in MODEL.model.diffusion_model.state_dict().items()}
    model = make_model(torch.float8_e4m3fn, torch.bfloat16, state)
    made = edited(picture(), model=lora(model=model)[0])[2]
    return {"finite": bool(torch.isfinite(made).all()), "near": away(made, edited(picture())[2])}


@check
def bad_pictures():
    return {
        "empty": refused(lambda: node("ICEditDiptych", image=picture(), **{**INPUTS, "instruction": "  "})),
        "mask": refused(lambda: node("ICEditDiptych", image=picture(), mask=torch.ones(1, 65, 64), **INPUTS)),
        "black": refused(lambda: node("ICEditDiptych", image=picture(), mask=torch.zeros(1, 60, 60), **INPUTS)),
        "source": refused(lambda: node("ICEditDiptych", image=picture(), **{**INPUTS, "preset": "descriptions"})),
        "size": refused(lambda: conditioned(torch.zeros(1, 60, 128, 3), torch.ones(1, 60, 128))),
        "model": refused(lambda: node("ICEditSchedule", latent={"samples": torch.zeros(1, 16, 8, 16)}, steps=2,
                                      base_shift=0.5, max_shift=1.15, model=type("M", (), {
                                          "get_model_object": lambda *_: torch.nn.Linear(2, 2), "model": None})())),
    }  # fmt: skip
