"""What users do with the nodes: many edits, any size, latents, other samplers and patches, sweeps, mistakes."""

import torch
from kit import (
    CASES,
    CLIP,
    CUSTOM,
    EDIT,
    GENERATOR,
    INVERSION,
    NODES,
    SCALES,
    SOURCE,
    VAE,
    VISION,
    away,
    check,
    decoded,
    invert,
    latents,
    loaded,
    node,
    refused,
    sampled,
    whole,
)
from my_x_pack.models import masks
from my_x_pack.nodes.host import memo, swiftedit


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


def batch(*texts):
    return node("SwiftEditPrompts", clip=CLIP, edits="\n".join(texts))[0]


@check
def off_the_grid():
    """A photograph whose scaled size is no multiple of the cells: the graph's M is the single node's, to the cell."""
    out = {}
    for height, width, side in ((384, 512, 256), (100, 150, 64)):
        image = torch.rand(1, height, width, 3, generator=torch.Generator().manual_seed(height))
        inverted, *_, fit, cells = invert(image, side=side)
        made = decoded(latents(GENERATOR, image, cells, inverted=inverted)[0])
        full = node("SwiftEditDeliver", image=image, edited=made, fit=fit, feather=0)[0]
        out[f"{height}x{width}"] = away(full, whole(image, side=side)[0])
        mask = torch.zeros(1, height, width)
        mask[:, : height // 3, width // 5 :] = 1
        aram = {"clip_vision": VISION, "image": image, "preset": "official", **SCALES, **CUSTOM}
        model = node("SwiftEditARaM", model=GENERATOR, mask=mask, fit=fit, **aram)[0]
        full = node("SwiftEditDeliver", image=image, edited=decoded(sampled(model, inverted)), fit=fit, feather=0)[0]
        out[f"{height}x{width}_own"] = away(full, whole(image, side=side, mask=mask)[0])
    return out


@check
def batches_that_do_not_fit():
    """Edits of one inverted photograph with other pictures for ARaM; prompts that are more than the latents."""
    image, half = CASES["image"], CASES["half"]
    edits, both = batch("a black dog", "a red bird"), torch.cat([image, CASES["second"]])
    inverted = invert(image, edit=edits)[0]
    made = latents(GENERATOR, both, half, edit=edits, inverted=inverted)
    bird = CLIP.encode_from_tokens_scheduled("a red bird")
    alone = latents(GENERATOR, CASES["second"], half, edit=bird, inverted=invert(image, edit=bird)[0])
    three, one = batch("a", "b", "c"), invert(image)[0]
    two = invert(both)[0]
    return {"other_picture": max(away(m[1:], a) for m, a in zip(made, alone)),
            "one_latent": refused(lambda: latents(GENERATOR, image, half, edit=three, inverted=one)),
            "two_latents": refused(lambda: latents(GENERATOR, both, half, edit=three, inverted=two)),
            "masks": refused(lambda: whole(image, mask=torch.ones(2, 64, 72)))}  # fmt: skip


@check
def many_in_parts():
    """More edits than run at once equal those edits alone."""
    texts = [f"a thing of the kind {i}" for i in range(10)]
    made, back, _ = whole(CASES["image"], edit="\n".join(texts), one_per_line=True)
    alone = {i: whole(CASES["image"], edit=texts[i])[0] for i in (0, 7, 8, 9)}
    return {"rows": len(made), "back": len(back), "worst": max(away(made[i : i + 1], one) for i, one in alone.items())}


@check
def odd_inputs():
    """What a user may wire by mistake or by habit."""
    image, half = CASES["image"], CASES["half"]
    ranged = [[SOURCE[0][0], {**SOURCE[0][1], "start_percent": 0.0, "end_percent": 0.3}]]
    plain, loud = (latents(GENERATOR, image, m, inverted=invert(image)[0])[0] for m in (half, 3 * half.ceil()))
    full = latents(GENERATOR, image, half.ceil(), inverted=invert(image)[0])[0]
    inverted, *_, fit, _ = invert(image)
    empty = node("SwiftEditDeliver", image=image, edited=1 - image, fit=fit, feather=0, mask=torch.zeros(1, 64, 64))[0]
    return {"generator_as_inversion": refused(lambda: invert(image, model=GENERATOR)),
            "range": refused(lambda: invert(image, source=ranged)), "clamped": away(loud, full),
            "grey": away(plain, full), "no_mask": away(empty, 1 - image),
            "linked": NODES["EditKitLoadSwiftEdit"].VALIDATE_INPUTS(None)}  # fmt: skip


@check
def other_attention():
    """Another pack's attention is used in the patched layers too."""
    from comfy.ldm.modules import attention

    calls = []

    def counted(function, *args, **kwargs):
        calls.append(1)
        return function(*args, **kwargs)

    model = GENERATOR.clone()
    model.model_options["transformer_options"]["optimized_attention_override"] = counted
    inverted = invert(CASES["image"])[0]
    made = latents(model, CASES["image"], CASES["half"], inverted=inverted)[0]
    layers = sum(isinstance(m, attention.CrossAttention) for m in GENERATOR.model.diffusion_model.modules())
    return {"calls": len(calls), "layers": layers,
            "same": away(made, latents(GENERATOR, CASES["image"], CASES["half"], inverted=inverted)[0])}  # fmt: skip


@check
def let_go():
    """What was remembered goes with the photograph and the MODEL that it was made from."""
    import gc
    import weakref

    import comfy.model_sampling as sampling

    class Guessed(sampling.ModelSamplingDiscrete, sampling.V_PREDICTION):
        pass

    image, model = CASES["image"].clone(), INVERSION.clone()
    model.add_object_patch("model_sampling", Guessed(model.model.model_config))
    whole(image, inversion=model)
    before, seen = len(memo._results), [weakref.ref(image), weakref.ref(model)]
    del image, model
    gc.collect()
    return {"before": before, "after": len(memo._results), "alive": [ref() is not None for ref in seen]}


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
        inverted, _, _, found, difference, preview, *_ = invert(image, side=side)
        shapes = [list(x.shape) for x in (found, preview, inverted["samples"])]
        out[f"{height}x{width}_invert"] = [*shapes, float(difference.min()), float(difference.max())]
    rgba = torch.rand(1, 64, 72, 4, generator=torch.Generator().manual_seed(1))
    made = whole(rgba, composite=True)[0]
    out["alpha"] = [list(made.shape), bool(torch.equal(made[..., 3], rgba[..., 3]))]
    return out


@check
def delivered():
    """The step-by-step graph at full size: exact outside the mask, the edit of the node of all in one inside."""
    image = torch.rand(1, 128, 192, 3, generator=torch.Generator().manual_seed(4))
    inverted, _, _, found, _, _, fit, _ = invert(image, side=78)  # half the size: cells stay cells
    made = decoded(latents(GENERATOR, image, found, inverted=inverted)[0])
    full = node("SwiftEditDeliver", image=image, edited=made, fit=fit, feather=3, mask=found)[0]
    everywhere = node("SwiftEditDeliver", image=image, edited=made, fit=fit, feather=3)[0]
    single = whole(image, side=78)[0]
    outside = masks.feather(found, 3) == 0
    return {"shape": list(full.shape), "exact": bool(torch.equal(full[outside], image[outside])),
            "outside": int(outside.sum()), "everywhere": away(everywhere, single),
            "edited": away(full[found == 1], everywhere[found == 1]),
            "refused": refused(lambda: node("SwiftEditDeliver", image=image, edited=image, fit=fit, feather=3)),
            }  # fmt: skip


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
        "text_width": refused(lambda: invert(image, edit=[[torch.zeros(1, 77, 768), {}]])),
        "guider_width": refused(lambda: node("SwiftEditGuider", model=GENERATOR, source=SOURCE, result="edit",
                                             edit=[[torch.zeros(1, 77, 768), {}]])),
        "mixed": refused(lambda: invert(image, source=mixed)),
        "no_folder": refused(lambda: loaded(release="nowhere")),
        "no_picture": refused(lambda: invert()),
        "no_vae": refused(lambda: node("SwiftEditInvert", model=INVERSION, source=SOURCE, edit=EDIT, side=0, clamp=3.0,
                                       threshold=0.5, grow=0, feather=0, image=image)),
        "other_latent": refused(lambda: invert(latent={"samples": torch.zeros(1, 16, 8, 8)})),
        "broken": {name: refused(lambda name=name: loaded(release=name))
                   for name in ("no_branch", "no_inversion", "corrupt", "no_generator", "wrong_family")},
    }  # fmt: skip
