"""The few core nodes that a workflow needs around an edit, for when ComfyUI itself is not there.

Same names, inputs, outputs and numbers as core's (0.3.64). Loaders of models have no stand-in: a workflow
with one needs ComfyUI.
"""

import hashlib
import random
import string
import sys
from types import MappingProxyType

from . import folders, pictures
from .names import save_place

MAX_RESOLUTION = 16384
UPSCALE_METHODS = ["nearest-exact", "bilinear", "area", "bicubic", "lanczos"]
CHANNELS = ["red", "green", "blue", "alpha"]


def _picture_input() -> tuple:
    """A list of choices as in ComfyUI; VALIDATE_INPUTS names it, so any path is accepted as well."""
    places = [p for p in folders.input_folders() if p.is_dir()]
    names = {f.name for p in places for f in p.iterdir() if f.suffix.lower() in pictures.SUFFIXES}
    return (sorted(names), {"image_upload": True, "tooltip": "A path, or a name in the input folder."})


class _ReadsPicture:
    """What LoadImage and LoadImageMask share: the file must be there, and a changed file is read again."""

    @classmethod
    def IS_CHANGED(cls, image, **_):
        with folders.picture(image).open("rb") as file:
            return (
                hashlib.file_digest(file, "sha256").hexdigest()
                if sys.version_info >= (3, 11)
                else _digest(file)
            )

    @classmethod
    def VALIDATE_INPUTS(cls, image):
        return True if image is None or folders.find_picture(image) else folders.not_found(image)


def _digest(file) -> str:
    return hashlib.sha256(file.read()).hexdigest()


class LoadImage(_ReadsPicture):
    """Reads a photo; its mask is 1 where the photo is transparent."""

    CATEGORY, FUNCTION = "image", "load_image"
    RETURN_TYPES = ("IMAGE", "MASK")

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": _picture_input()}}

    def load_image(self, image):
        return pictures.read(folders.picture(image))


class LoadImageMask(_ReadsPicture):
    """Reads one channel of a picture as a mask."""

    CATEGORY, FUNCTION = "mask", "load_image"
    RETURN_TYPES = ("MASK",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": _picture_input(), "channel": (["alpha", "red", "green", "blue"],)}}

    def load_image(self, image, channel):
        return (pictures.read_channel(folders.picture(image), channel),)


class SaveImage:
    """Writes PNGs named PREFIX_00001_.png and so on, with the workflow inside."""

    CATEGORY, FUNCTION, OUTPUT_NODE = "image", "save_images", True
    RETURN_TYPES = ()
    kind, compress_level = "output", 4

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "images": ("IMAGE", {"tooltip": "The images to save."}),
                "filename_prefix": ("STRING", {"default": "ComfyUI", "tooltip": "How the file names begin."}),
            },
            "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"},
        }

    @classmethod
    def IS_CHANGED(cls, **_):
        """Saves again when the results are to go elsewhere, though the picture is the same."""
        return folders.current().stamp()

    def save_images(self, images, filename_prefix="ComfyUI", prompt=None, extra_pnginfo=None):
        metadata = {} if prompt is None else {"prompt": prompt}
        metadata |= extra_pnginfo or {}
        decided = folders.current().name if self.kind == "output" else None
        size = images.shape[2], images.shape[1]
        place = save_place(self._folder(), filename_prefix, *size, make=decided is None)
        shown = []
        for number, image in enumerate(images):
            path = decided(number) if decided else place.path(number)
            icc = folders.current().profile if image.shape[-1] > 1 else None
            pictures.save(path, image, metadata, icc, self.compress_level)
            shown.append({"filename": path.name, "subfolder": place.subfolder, "type": self.kind})
        return {"ui": {"images": shown}}

    def _folder(self):
        return folders.current().output


class PreviewImage(SaveImage):
    """As SaveImage, into a temporary folder."""

    kind, compress_level = "temp", 1

    def __init__(self):
        self.mark = "".join(random.choices(string.ascii_lowercase, k=5))

    @classmethod
    def INPUT_TYPES(cls):
        declared = SaveImage.INPUT_TYPES()
        return {**declared, "required": {"images": declared["required"]["images"]}}

    def save_images(self, images, prompt=None, extra_pnginfo=None):
        return super().save_images(images, f"ComfyUI_temp_{self.mark}", prompt, extra_pnginfo)

    def _folder(self):
        return folders.current().temp


class ImageScale:
    """Resizes images; a side of 0 follows from the other one."""

    CATEGORY, FUNCTION = "image/upscaling", "upscale"
    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls):
        side = ("INT", {"default": 512, "min": 0, "max": MAX_RESOLUTION, "step": 1})
        return {
            "required": {
                "image": ("IMAGE",),
                "upscale_method": (UPSCALE_METHODS,),
                "width": side,
                "height": side,
                "crop": (["disabled", "center"],),
            }
        }

    def upscale(self, image, upscale_method, width, height, crop):
        if width == 0 and height == 0:
            return (image,)
        old_height, old_width = image.shape[1:3]
        width = width or max(1, round(old_width * height / old_height))
        height = height or max(1, round(old_height * width / old_width))
        samples = image.movedim(-1, 1)  # [b, c, h, w]
        if crop == "center":
            samples = _crop_to_aspect(samples, width / height)
        return (_resize(samples, width, height, upscale_method).movedim(1, -1),)


def _crop_to_aspect(samples, aspect: float):
    """Cuts both sides, or top and bottom, by the same whole number of pixels."""
    height, width = samples.shape[-2:]
    old = width / height
    x = round((width - width * (aspect / old)) / 2) if old > aspect else 0
    y = round((height - height * (old / aspect)) / 2) if old < aspect else 0
    return samples[..., y : height - y, x : width - x]


def _resize(samples, width: int, height: int, method: str):
    import torch

    if method != "lanczos":
        return torch.nn.functional.interpolate(samples, size=(height, width), mode=method)
    return torch.stack([_lanczos(one, width, height) for one in samples]).to(samples)


def _lanczos(image, width: int, height: int):
    """One image [c, h, w] through Pillow, in 8 bits."""
    import numpy
    import torch
    from PIL import Image

    picture = pictures.to_pillow(image.movedim(0, -1)).resize((width, height), Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(numpy.array(picture).astype(numpy.float32) / 255.0)
    return pixels.reshape(height, width, -1).movedim(-1, 0)


class ImageToMask:
    """One channel of an image as a mask."""

    CATEGORY, FUNCTION = "mask", "image_to_mask"
    RETURN_TYPES = ("MASK",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",), "channel": (CHANNELS,)}}

    def image_to_mask(self, image, channel):
        index = CHANNELS.index(channel)
        if index >= image.shape[-1]:
            raise ValueError(
                f"The image has {image.shape[-1]} channels and no {channel} one; choose another channel."
            )
        return (image[..., index],)


class MaskToImage:
    """A mask as a grey image."""

    CATEGORY, FUNCTION = "mask", "mask_to_image"
    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"mask": ("MASK",)}}

    def mask_to_image(self, mask):
        return (mask.reshape(-1, *mask.shape[-2:], 1).expand(-1, -1, -1, 3),)


class EmptyImage:
    """Images of one colour."""

    CATEGORY, FUNCTION = "image", "generate"
    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls):
        side = ("INT", {"default": 512, "min": 1, "max": MAX_RESOLUTION, "step": 1})
        return {
            "required": {
                "width": side,
                "height": side,
                "batch_size": ("INT", {"default": 1, "min": 1, "max": 4096}),
                "color": ("INT", {"default": 0, "min": 0, "max": 0xFFFFFF, "step": 1, "display": "color"}),
            }
        }

    def generate(self, width, height, batch_size=1, color=0):
        import torch

        rgb = [((color >> shift) & 0xFF) / 0xFF for shift in (16, 8, 0)]
        return (torch.tensor(rgb).expand(batch_size, height, width, 3).contiguous(),)


class _Primitive:
    """A constant that several inputs can share."""

    CATEGORY, FUNCTION = "utils/primitive", "execute"
    options = MappingProxyType({})

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": (cls.RETURN_TYPES[0], dict(cls.options))}}

    def execute(self, value):
        return (value,)


class PrimitiveInt(_Primitive):
    RETURN_TYPES = ("INT",)
    options = MappingProxyType({"min": -sys.maxsize, "max": sys.maxsize, "control_after_generate": True})


class PrimitiveFloat(_Primitive):
    RETURN_TYPES = ("FLOAT",)
    options = MappingProxyType({"min": -sys.maxsize, "max": sys.maxsize})


class PrimitiveString(_Primitive):
    RETURN_TYPES = ("STRING",)


class PrimitiveStringMultiline(PrimitiveString):
    options = MappingProxyType({"multiline": True})


class PrimitiveBoolean(_Primitive):
    RETURN_TYPES = ("BOOLEAN",)


STANDINS = {
    "LoadImage": LoadImage,
    "LoadImageMask": LoadImageMask,
    "SaveImage": SaveImage,
    "PreviewImage": PreviewImage,
    "ImageScale": ImageScale,
    "ImageToMask": ImageToMask,
    "MaskToImage": MaskToImage,
    "EmptyImage": EmptyImage,
    "PrimitiveInt": PrimitiveInt,
    "PrimitiveFloat": PrimitiveFloat,
    "PrimitiveString": PrimitiveString,
    "PrimitiveStringMultiline": PrimitiveStringMultiline,
    "PrimitiveBoolean": PrimitiveBoolean,
}
