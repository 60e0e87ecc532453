"""Which classical result each task starts from: the denoiser predicts x0 as a residual to its latent."""

import torch
from torch import Tensor

from .guess import extend, membrane, partial_stretch, sticker_guess
from .tasks import TASKS

TONE_BLEND, TONE_LIMIT = 0.6, 2.0  # of the luminance stretch: fixed on photographs held back from training


def first_guess(task_name: str, image: Tensor, mask: Tensor) -> Tensor:
    """The first guess of a task; a task that is not one of the five starts from the picture itself.

    image: [b, 3, h, w] in 0..1, mask: [b, h, w] of 0 and 1. Returns [b, 3, h, w].
    """
    delivery = TASKS[task_name].delivery if task_name in TASKS else "none"
    if task_name == "outpaint":
        return extend(image, mask)
    if delivery == "paste":
        return membrane(image, mask)
    if delivery == "colour_map":
        return partial_stretch(image, TONE_BLEND, TONE_LIMIT)
    if delivery == "sticker":
        return torch.where(mask[:, None] > 0, sticker_guess(image, mask), image)
    return image
