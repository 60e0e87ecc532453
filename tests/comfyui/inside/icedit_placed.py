"""Every way through ICEdit's nodes on a pretended GPU: an error here is a crash there."""

import torch
from icedit_flux import IO, MODEL, Vae, check, lora, node, sampled, text, text_to_image

SIGMAS = torch.tensor([1.0, 0.5, 0.0])


class PlacedVae(Vae):
    """As ComfyUI's VAE: computes on the device, and gives pictures and latents where nodes' results live."""

    def encode(self, pixels):
        import comfy.model_management as management

        there = super().encode(pixels.to(management.get_torch_device()))
        return there.to(management.intermediate_device())

    def decode(self, latent):
        import comfy.model_management as management

        return super().decode(latent.to(management.get_torch_device())).to(management.intermediate_device())


class Words:
    def tokenize(self, words):
        return words

    def encode_from_tokens_scheduled(self, words):
        return [[IO["encoder_hidden_states"], {"pooled_output": IO["pooled_projections"]}]]


def on(*values):
    return [str(v.device.type) for v in values]


@check
def fill():
    """Diptych to Uncrop with the routed LoRA, its map, and a mask."""
    image, mask, vae = torch.rand(1, 70, 90, 3), torch.zeros(1, 70, 90), PlacedVae()
    mask[:, 20:40, 20:60] = 1
    out = []
    for region in (mask, None):
        diptych, where, prompt, record, panel = node(
            "ICEditDiptych", image=image, mask=region, instruction="x", preset="icedit", width=64, source=""
        )
        positive, negative, latent = node(
            "ICEditConditioning", clip=Words(), vae=vae, diptych=diptych, mask=where, prompt=prompt, guidance=50.0,
            lock_left_panel=region is not None, t5_length=512, negative="",
        )  # fmt: skip
        model, experts, _ = lora(model=lora("plain.safetensors")[0])
        _, _, model = node("ICEditSchedule", latent=latent, steps=2, base_shift=0.5, max_shift=1.15, model=model)
        result = sampled(model, positive, latent, SIGMAS, negative=negative, cfg=2.0)
        colours, film, _ = node("ICEditExpertMap", latent=result, experts=experts, layer=2, step=-1, opacity=0.5,
                                image=diptych)  # fmt: skip
        back = node("ICEditUncrop", diptych=vae.decode(result["samples"]), record=record, feather=3)
        out += on(diptych, where, panel, colours, film, *back)
    return out


@check
def training_free():
    """Inversion and sampling, with either store and either attention."""
    model, out = text_to_image(), []
    for store, attention in (("cpu", "isolated"), ("device", "full")):
        latent = {"samples": torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(1))}
        inversion, _ = node("ICEditInvert", model=model, conditioning=text(), latent=latent, sigmas=SIGMAS, store=store,
                            solver="rf-solver", injected=1.0)  # fmt: skip
        beside, noise, sampler, sigmas, empty = node("ICEditTrainingFree", model=model, inversion=inversion, seed=1,
                                                     attention=attention)  # fmt: skip
        made = sampled(beside, text(), empty, sigmas, noise, sampler=sampler)
        PlacedVae().decode(made["samples"])
    return out


@check
def modes():
    """The mean of the experts, and patches alone."""
    latent = {"samples": torch.zeros(1, 16, 8, 16)}
    for mode in ("mean", "off"):
        sampled(lora(experts=mode)[0], text(), latent, SIGMAS)
    sampled(MODEL, text(), latent, SIGMAS)
    return []


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
