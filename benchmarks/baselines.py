"""The classical methods that every quality table holds, from OpenCV and NumPy alone.

A baseline takes a triplet of `triplets.py` and returns the edited picture, float32 [h, w, 3] in 0..1.
"""

import numpy as np

from ..models.measures import LUMA

RADIUS = 3  # px, of Telea and Navier-Stokes
TAILS = (0.5, 99.5)  # percentiles that a stretch takes to black and white
PARTIAL = 0.6  # w of x + w (stretch - x): `fit_partial` on 162 tone triplets of the training photographs, flat from 0.5


def in_hole(triplet, filled):
    """The filled picture in the hole, the input everywhere else."""
    return np.where(triplet.hole[..., None], filled, triplet.x).astype(np.float32)


def telea(triplet):
    """Telea 2004: fast marching from the border inwards."""
    import cv2

    return in_hole(triplet, _of_bytes(cv2.inpaint(*_bytes(triplet), RADIUS, cv2.INPAINT_TELEA)))


def navier_stokes(triplet):
    """Bertalmio 2001: continues level lines."""
    import cv2

    return in_hole(triplet, _of_bytes(cv2.inpaint(*_bytes(triplet), RADIUS, cv2.INPAINT_NS)))


def shift_map(triplet):
    """OpenCV contrib's statistics of patch offsets (He and Sun 2012)."""
    import cv2

    picture, hole = _bytes(triplet)
    out = np.zeros_like(picture)
    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2Lab)
    cv2.xphoto.inpaint(lab, 255 - hole, out, cv2.xphoto.INPAINT_SHIFTMAP)
    return in_hole(triplet, _of_bytes(cv2.cvtColor(out, cv2.COLOR_Lab2RGB)))


def frequency_selective(triplet):
    """OpenCV contrib's frequency selective reconstruction, the fast setting."""
    import cv2

    picture, hole = _bytes(triplet)
    out = np.zeros_like(picture)
    cv2.xphoto.inpaint(picture, 255 - hole, out, cv2.xphoto.INPAINT_FSR_FAST)
    return in_hole(triplet, _of_bytes(out))


def membrane(triplet):
    """The Laplace equation in the hole: this project's first guess without anything after it."""
    import torch

    from ..models.blazeedit.guess import membrane as solve

    image = torch.from_numpy(np.where(triplet.hole[..., None], 0, triplet.x).transpose(2, 0, 1).copy())[None]
    filled = solve(image.float(), torch.from_numpy(triplet.hole.astype(np.float32))[None])
    return in_hole(triplet, filled[0].permute(1, 2, 0).numpy())


def nearest(triplet):
    """Every pixel takes the nearest known one."""
    import cv2

    _, labels = cv2.distanceTransformWithLabels(
        triplet.hole.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE, labelType=cv2.DIST_LABEL_PIXEL
    )
    known = ~triplet.hole
    source = np.zeros((labels.max() + 1, 3), np.float32)
    source[labels[known]] = triplet.x[known]
    return in_hole(triplet, source[labels])


def replicate(triplet):
    """The border row and column repeated outwards."""
    return _padded(triplet, "edge")


def reflect(triplet):
    """The picture mirrored at its border."""
    return _padded(triplet, "reflect")


def _padded(triplet, mode):
    left, top, right, bottom = triplet.margins
    height, width = triplet.hole.shape
    kept = triplet.x[top : height - bottom, left : width - right]
    return in_hole(triplet, np.pad(kept, ((top, bottom), (left, right), (0, 0)), mode))


def identity(triplet):
    """The input."""
    return triplet.x


def channel_stretch(triplet):
    """Percentiles of each channel to 0 and 1: also an automatic white balance."""
    low, high = np.percentile(triplet.x, TAILS, axis=(0, 1))
    return _stretched(triplet.x, low, high)


def luminance_stretch(triplet):
    """Percentiles of the luminance to 0 and 1, one gain for all channels."""
    low, high = np.percentile(triplet.x @ LUMA, TAILS)
    return _stretched(triplet.x, low, high)


def partial_stretch(triplet, weight=PARTIAL):
    """A constant part of the way from the input to its luminance stretch.

    By the pack's own stretch, whose percentiles come from a histogram: where the constant is what ships, the bar
    compares it with itself and not with another rounding of it.
    """
    import torch

    from ..models.blazeedit.guess import partial_stretch as stretch

    image = torch.from_numpy(triplet.x.transpose(2, 0, 1).copy())[None]
    return np.ascontiguousarray(stretch(image, float(weight))[0].permute(1, 2, 0).numpy())


def clahe(triplet):
    """Contrast-limited adaptive histogram equalisation of Lab's lightness (clip 2, 8 x 8 tiles)."""
    return _clahe(triplet.x)


def gray_world_clahe(triplet):
    """Each channel's mean made grey, then CLAHE."""
    means = triplet.x.mean((0, 1))
    return _clahe(np.clip(triplet.x * (means.mean() / np.maximum(means, 1e-3)), 0, 1))


def fit_partial(triplets) -> float:
    """The constant w with the best mean PSNR over tone triplets: how PARTIAL was fixed."""
    from ..models.measures import psnr

    triplets, weights = list(triplets), np.arange(0, 1.001, 0.05)
    scores = [np.mean([psnr(partial_stretch(t, w), t.y) for t in triplets]) for w in weights]
    return float(weights[int(np.argmax(scores))])


FILLS = {"telea": telea, "navier-stokes": navier_stokes, "shift-map": shift_map, "fsr": frequency_selective,
         "membrane": membrane}  # fmt: skip
BASELINES = {
    "remove": {"untouched": identity, **FILLS, "nearest pixel": nearest},
    "outpaint": {**FILLS, "replicate": replicate, "reflect": reflect},
    "tone": {
        "identity": identity, "channel stretch": channel_stretch, "luminance stretch": luminance_stretch,
        "gray-world + clahe": gray_world_clahe, "partial stretch": partial_stretch,
    },
    "relight": {"identity": identity, "clahe": clahe, "luminance stretch": luminance_stretch},
    "sticker": {"cut-out": identity},
}  # fmt: skip
SHOWN = {"remove": "telea", "outpaint": "telea", "tone": "luminance stretch", "relight": "clahe",
         "sticker": "cut-out"}  # fmt: skip  # on the contact sheet


def _stretched(image, low, high):
    return np.clip((image - low) / np.maximum(high - low, 0.05), 0, 1).astype(np.float32)


def _clahe(image):
    import cv2

    lab = cv2.cvtColor((image * 255 + 0.5).astype(np.uint8), cv2.COLOR_RGB2Lab)
    lab[..., 0] = cv2.createCLAHE(2.0, (8, 8)).apply(np.ascontiguousarray(lab[..., 0]))
    return _of_bytes(cv2.cvtColor(lab, cv2.COLOR_Lab2RGB))


def _bytes(triplet):
    """The input without what is hidden, and the hole: uint8 [h, w, 3] and 0/255 [h, w], for OpenCV."""
    picture = np.where(triplet.hole[..., None], 0, triplet.x)
    return (picture * 255 + 0.5).astype(np.uint8), triplet.hole.astype(np.uint8) * 255


def _of_bytes(image):
    return image.astype(np.float32) * np.float32(1 / 255)
