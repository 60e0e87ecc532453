"""ComfyUI's Python with the pack in it, the tiny SwiftEdit of a folder, and short ways to run its nodes."""

import sys
from pathlib import Path

from start import start

COMFYUI, PACK, FOLDER = (Path(a) for a in sys.argv[1:4])
PLACE = sys.argv[4] if len(sys.argv) > 4 else "cpu"
pack = start(COMFYUI, PACK, FOLDER)
if PLACE != "cpu":
    import placement

    placement.enter(gpu_only=PLACE == "gpu-only")

import comfy.clip_vision  # noqa: E402 - ComfyUI's modules exist from here on
import comfy.sd  # noqa: E402
import folder_paths  # noqa: E402
import torch  # noqa: E402
from comfy_extras import nodes_custom_sampler as custom  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from tiny_parts import SIZES, Words  # noqa: E402

folder_paths.folder_names_and_paths["editkit"] = ([str(FOLDER / "release")], {".safetensors"})
NODES = pack.NODE_CLASS_MAPPINGS
CASES = load_file(FOLDER / "cases.safetensors")
CHECKS = {}


def check(function):
    CHECKS[function.__name__] = function
    return function


class Clip(Words):
    """The tests' text encoder, which counts."""

    encoded = 0

    def encode_from_tokens_scheduled(self, text):
        self.encoded += 1
        return super().encode_from_tokens_scheduled(text)


def make_vae():
    parameters = {"params": {"ddconfig": SIZES, "embed_dim": 4}}
    made = comfy.sd.VAE(sd=load_file(FOLDER / "vae.safetensors"), config=parameters)
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


def decoded(latent):
    with torch.inference_mode():
        return VAE.decode(latent)
