"""Compare: two pictures under a slider on the canvas, and as files for whoever queues without one."""

import torch

from ..models import compare
from ..models.errors import EditError
from .host import previews
from .unpacking import packed, picture, region

CATEGORY = "EditKit/compare"
AUTO, DIFFERENCE, MAP, NONE = "auto", "difference", "map", "none"


class Compare:
    DESCRIPTION = (
        "Lays two pictures under one slider, before and after, with a heat map over them: a mask, a localisation map, "
        "or the difference. The pictures pass through untouched."
    )
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["before after", "slider", "image comparer", "difference", "heat map", "a/b"]
    RETURN_TYPES = ("IMAGE", "IMAGE", "IMAGE")
    RETURN_NAMES = ("image_a", "image_b", "difference")
    OUTPUT_TOOLTIPS = (
        "The first picture, as it came.",
        "The second picture, as it came, at its own size.",
        "|a - b| times the gain, at the size of the first.",
    )
    FUNCTION = "run"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "image_a": ("IMAGE", {"tooltip": "Left of the slider: the picture before."}),
                "image_b": ("IMAGE", {"tooltip": "Right of the slider: the picture after. Shown at the first one's "
                                      "size; a shorter batch repeats its last picture."}),
                "heat_map": ([AUTO, DIFFERENCE, MAP, NONE], {"tooltip": "What lies over the pictures: the difference, "
                                                             "the wired map, or nothing; auto: the map if wired."}),
                "gain": ("FLOAT", {"default": 4.0, "min": 0.1, "max": 100.0, "step": 0.1, "tooltip":
                                   "Factor for the difference, so that small ones show."}),
                "index": ("INT", {"default": 0, "min": 0, "max": 4095, "tooltip":
                                  "The pair of a batch that is shown first, from 0."}),
            },
            "optional": {
                "map": ("MASK,IMAGE", {"tooltip": "A mask or a localisation map, any size. A coloured picture is shown "
                                       "in its own colours."}),
            },
            "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"},
        }  # fmt: skip

    def run(self, *, image_a, image_b, heat_map, gain, index, map=None, prompt=None, extra_pnginfo=None):
        a, b = picture(image_a)[0], picture(image_b)[0]
        change = compare.difference(a, b) * gain
        layer = _layer(heat_map, change, map, tuple(a.shape[-2:]))
        count, texts = max(len(a), len(b)), previews.metadata(prompt, extra_pnginfo)
        ui = {
            "a_images": _files(previews.save(image_a, "compare_a", texts), count),
            "b_images": _files(previews.save(image_b, "compare_b", texts), count),
            "h_images": [] if layer is None else _files(previews.save(packed(layer), "compare_map"), count),
            "index": [min(index, count - 1)],
        }
        return {"ui": ui, "result": (image_a, image_b, packed(change))}


def _layer(chosen: str, change, shown, size):
    """The layer over the pictures [b, 4, h, w], or None. EditError where a map is asked for and there is none."""
    if chosen == MAP and shown is None:
        raise EditError("The heat map is the wired map, and none is wired; wire a mask, or choose difference.")
    if chosen == NONE:
        return None
    if chosen == DIFFERENCE or shown is None:
        return compare.layer(change.clamp(0, 1).amax(1), size)
    if shown.ndim == 4:
        return compare.layer(picture(shown)[0], size)
    wired = region(shown)
    return compare.layer(torch.zeros(1, *size) if wired is None else wired, size)


def _files(saved: list[dict], count: int) -> list[dict]:
    """One file for each pair: the last one again where the batch is shorter."""
    return saved[:count] + saved[-1:] * (count - len(saved))


NODE_CLASS_MAPPINGS = {"EditKitCompare": Compare}
NODE_DISPLAY_NAME_MAPPINGS = {"EditKitCompare": "Compare (EditKit)"}
