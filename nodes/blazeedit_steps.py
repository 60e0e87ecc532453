"""BlazeEdit step by step: load, encode mask and task, sample, decode, deliver."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..models.blazeedit import pipeline, work
from ..models.blazeedit.tasks import TASKS
from ..models.errors import EditError
from .blazeedit import CHANGED, MODEL, SEED_INPUT, STRENGTH_INPUT, TEXTURE_INPUT
from .host import models
from .host.bundles import ENGINES
from .host.folders import model_folder, model_folders
from .host.progress import reporter
from .painting import TakesPaint, paint_input, region_given
from .unpacking import on_device, packed, packed_mask, picture, region

NOISE_TIP = "Changes the noise that a fill of two steps or more starts from."
CONDITIONING, LATENT = "EDITKIT_CONDITIONING", "EDITKIT_LATENT"
MODEL_INPUT = (MODEL, {"tooltip": "From Load BlazeEdit."})
LOAD_ENGINE_TIP = (
    "torch, LiteRT (a bundle of these weights, made by `python . export`), or whichever is faster here."
)
CONDITIONING_INPUT = (CONDITIONING, {"tooltip": "From Mask Task."})


@dataclass(frozen=True)
class Encoded:
    """What Mask Task hands on: the pipeline's conditioning, and the alpha that delivery gives back."""

    conditioning: pipeline.Conditioning
    alpha: Tensor | None  # [b, h, w]

    def working(self, decoded: Tensor, net) -> list[Tensor]:
        """Decoded pictures [b, 3, h, w], one by one. EditError for another batch or size than was encoded."""
        sizes = [net.canvas(*one.small.shape[-2:]) for one in self.conditioning.works]
        height, width = (max(side) for side in zip(*sizes, strict=True))
        if (len(decoded), *decoded.shape[-2:]) != (len(sizes), height, width):
            raise EditError(
                f"{len(decoded)} decoded pictures of {decoded.shape[-1]}x{decoded.shape[-2]} px do not fit this "
                f"conditioning, which is for {len(sizes)} of {width}x{height}; wire both from the same Mask Task."
            )
        return list(decoded.split(1))


def same_model(name: str, channels: int, expected: int) -> None:
    """EditError when an input was made by a model of another shape than the one that is wired."""
    if channels != expected:
        raise EditError(
            f"The {name} comes from another model ({channels} channels, this one has {expected}); "
            "wire the same Load BlazeEdit into every node."
        )


class LoadBlazeEdit:
    DESCRIPTION = "Loads a BlazeEdit model: the one that ships with the pack, or one from models/editkit."
    CATEGORY = "EditKit/blazeedit"
    SEARCH_ALIASES = ["load model", "checkpoint", "blazeedit"]
    RETURN_TYPES, RETURN_NAMES, OUTPUT_TOOLTIPS = (
        (MODEL,),
        ("model",),
        ("The model, in ComfyUI's memory management.",),
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        names = [models.SHIPPED, *model_folders()]
        tip = "shipped: the small model in the pack. Others: folders below models/editkit."
        return {
            "required": {"model": (names, {"tooltip": tip})},
            "optional": {"engine": (ENGINES, {"default": "auto", "tooltip": LOAD_ENGINE_TIP})},
        }

    @classmethod
    def IS_CHANGED(cls, model, engine="auto"):
        return models.SHIPPED if model == models.SHIPPED else models.fingerprint(model_folder(model))

    def run(self, *, model, engine="auto"):
        return (models.blazeedit(model, engine),)


class MaskTask(TakesPaint):
    DESCRIPTION = (
        "Encodes the picture, the mask and the task (its τ) into what the sampler is conditioned on."
    )
    CATEGORY = "EditKit/blazeedit"
    SEARCH_ALIASES = ["task", "encode", "inpaint conditioning", "tau"]
    RETURN_TYPES, RETURN_NAMES = (CONDITIONING,), ("conditioning",)
    OUTPUT_TOOLTIPS = ("Picture, mask and task as the sampler, decoder and delivery need them.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": MODEL_INPUT,
                "image": ("IMAGE", {"tooltip": "The picture to edit; for outpaint, padded with Pad for Outpaint."}),
                "task": ([*TASKS], {"tooltip": "What to do. remove, outpaint and sticker need a mask."}),
                "shadow": ("BOOLEAN", {"default": True, "tooltip": "remove: also lifts the object's shadow."}),
            },
            "optional": {
                "mask": ("MASK", {"tooltip": "White is the region to edit. tone and relight take the whole picture."}),
                "custom_task": ("STRING", {"default": "", "tooltip": "A task that your finetuning registered; "
                                           "replaces the choice above."}),
                "mask_paint": paint_input("grey is the opacity of what Deliver Edit lays on."),
            },
        }  # fmt: skip

    def run(self, *, model, image, task, shadow, mask=None, custom_task="", mask_paint=""):
        net = model.ready()
        rgb, alpha = picture(image)
        rgb, mask = on_device(rgb, region(region_given(mask, mask_paint, image)))
        return (Encoded(pipeline.encode(net, rgb, mask, custom_task.strip() or task, shadow=shadow), alpha),)


class BlazeEditSampler:
    DESCRIPTION = "Runs the few-step sampler of BlazeEdit on the encoded task."
    CATEGORY = "EditKit/blazeedit"
    SEARCH_ALIASES = ["ksampler", "denoise", "sample"]
    RETURN_TYPES, RETURN_NAMES, OUTPUT_TOOLTIPS = (
        (LATENT,),
        ("latent",),
        ("BlazeEdit's own latents, one per picture.",),
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": MODEL_INPUT,
                "conditioning": CONDITIONING_INPUT,
                "steps": ("INT", {"default": 0, "min": 0, "max": 50,
                                  "tooltip": "0: the task's own number, 1 with the shipped weights."}),
                "seed": (SEED_INPUT[0], {**SEED_INPUT[1], "tooltip": NOISE_TIP}),
            }
        }  # fmt: skip

    def run(self, *, model, conditioning, steps, seed):
        net = model.ready()
        encoded, steps = conditioning.conditioning, steps or None
        same_model(
            "conditioning",
            conditioning.conditioning.works[0].features.shape[1],
            net.config.condition_channels,
        )
        return (pipeline.sample(net, encoded, steps=steps, seed=seed, callback=reporter()),)


class BlazeEditDecode:
    DESCRIPTION = "Decodes BlazeEdit latents to pictures at the network's working size."
    CATEGORY = "EditKit/blazeedit"
    SEARCH_ALIASES = ["vae decode", "decoder"]
    RETURN_TYPES, RETURN_NAMES = ("IMAGE",), ("decoded",)
    OUTPUT_TOOLTIPS = (
        "The working pictures; of different sizes in a batch, they are padded to the largest.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"model": MODEL_INPUT, "latent": (LATENT, {"tooltip": "From BlazeEdit Sampler."})}
        }

    def run(self, *, model, latent):
        net = model.ready()
        same_model("latent", latent[0].shape[1], net.config.latent_channels)
        return (packed(torch.cat(work.padded_alike(pipeline.decode(net, latent)))),)


class Deliver:
    DESCRIPTION = (
        "Brings a decoded edit to the picture's full size; pixels outside the change stay bit-identical."
    )
    CATEGORY = "EditKit/blazeedit"
    SEARCH_ALIASES = ["paste back", "composite", "full resolution", "upscale edit"]
    RETURN_TYPES, RETURN_NAMES = ("IMAGE", "MASK"), ("image", "changed")
    OUTPUT_TOOLTIPS = ("The edited picture at full size.", CHANGED)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": MODEL_INPUT,
                "conditioning": CONDITIONING_INPUT,
                "decoded": ("IMAGE", {"tooltip": "From BlazeEdit Decode."}),
                "feather": ("INT", {"default": 4, "min": 0, "max": 128,
                                    "tooltip": "Pixels over which a fill blends into its surroundings."}),
                "strength": STRENGTH_INPUT,
                "texture": TEXTURE_INPUT,
            }
        }  # fmt: skip

    def run(self, *, model, conditioning, decoded, feather, strength, texture):
        net = model.ready()
        small = conditioning.working(on_device(picture(decoded)[0])[0], net)
        encoded, options = conditioning.conditioning, {"feather": feather, "strength": strength}
        edit = pipeline.deliver(net, encoded, small, texture=texture, **options)
        alpha = conditioning.alpha if edit.image.shape[1] == 3 else None  # a sticker has its own
        return packed(edit.image, alpha), packed_mask(edit.changed)


NODE_CLASS_MAPPINGS = {
    "EditKitLoadBlazeEdit": LoadBlazeEdit,
    "EditKitMaskTask": MaskTask,
    "EditKitBlazeEditSampler": BlazeEditSampler,
    "EditKitBlazeEditDecode": BlazeEditDecode,
    "EditKitDeliver": Deliver,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "EditKitLoadBlazeEdit": "Load BlazeEdit",
    "EditKitMaskTask": "Mask Task",
    "EditKitBlazeEditSampler": "BlazeEdit Sampler",
    "EditKitBlazeEditDecode": "BlazeEdit Decode",
    "EditKitDeliver": "Deliver Edit",
}
