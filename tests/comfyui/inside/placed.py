"""Every way through SwiftEdit's nodes on a pretended GPU: an error here is a crash there."""

import torch
from kit import (
    CASES,
    CLIP,
    CUSTOM,
    GENERATOR,
    INVERSION,
    SCALES,
    VAE,
    VISION,
    check,
    decoded,
    invert,
    latents,
    node,
    whole,
)


def on_the_device(value) -> str:
    return str(value.device.type)


@check
def single_node():
    image, mask = CASES["image"], CASES["half"]
    made = [whole(image), whole(image, mask=mask, composite=True, feather=4), whole(image, composite=True, grow=3),
            whole(image, preset="eq9"), whole(image, preset="global"),
            whole(image, edit="a dog\na bird\na horse", one_per_line=True, composite=True, feather=2),
            whole(torch.cat([image, CASES["second"]]), composite=True)]  # fmt: skip
    return [on_the_device(x) for results in made for x in results]


@check
def graph():
    image = CASES["image"]
    edits = node("SwiftEditPrompts", clip=CLIP, edits="a dog\na bird")[0]
    inverted, first, second, mask, soft, shown, fit, cells = invert(image, edit=edits, grow=1, feather=1)
    made = latents(GENERATOR, image, cells, edit=edits, inverted=inverted)[0]
    full = [node("SwiftEditDeliver", image=image, edited=decoded(made), fit=fit, feather=3, mask=m)[0]
            for m in (mask, mask.cpu(), None)]  # fmt: skip
    aram = {"clip_vision": VISION, "image": image, "preset": "custom", **SCALES, **CUSTOM}
    node("SwiftEditARaM", model=GENERATOR, mask=soft, fit=fit, **aram)
    latents_out = [x["samples"] for x in (inverted, first, second)]
    return [on_the_device(x) for x in (*latents_out, mask, soft, shown, *full)]


@check
def latent():
    return [on_the_device(x) for x in invert(latent={"samples": VAE.encode(CASES["image"])})[3:6]]


@check
def sweep():
    made = node("SwiftEditScaleSweep", inversion=INVERSION, generator=GENERATOR, clip=CLIP, vae=VAE, clip_vision=VISION,
                image=CASES["image"], source_prompt="a", edit_prompt="b", edit_scales="0,1", text_scales="1,2",
                non_edit_scale=1.0, side=0, clamp=3.0, threshold=0.5, cell=96)  # fmt: skip
    return [on_the_device(x) for x in made]


@check
def mixing_is_noticed():
    """The pretence itself: a tensor there and one here do not add up."""
    import comfy.model_management

    there = torch.ones(2).to(comfy.model_management.get_torch_device())
    try:
        there + torch.ones(2)
    except RuntimeError as error:
        return str(error)
    return "nothing was noticed"
