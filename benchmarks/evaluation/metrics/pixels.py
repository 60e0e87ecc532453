"""Distances of pixels. PSNR and SSIM are torchmetrics', as PIE-Bench's own evaluation takes them."""

import numpy as np
import torch
from torch import Tensor

CEILING = 99.0  # dB; PSNR of equal pictures, so that a mean over samples stays a number


def l1(image: np.ndarray, truth: np.ndarray, region: np.ndarray | None = None) -> float:
    """Mean absolute difference, 0..1 (MagicBrush's L1); of a region's pixels where one is given, NaN for none."""
    difference = np.abs(image - truth) if region is None else np.abs(image - truth)[region]
    return float(np.mean(difference, dtype=np.float64)) if difference.size else float("nan")


def l2(image: np.ndarray, truth: np.ndarray) -> float:
    """Mean squared difference (MagicBrush's L2)."""
    return float(np.mean(np.square(image - truth, dtype=np.float64)))


def outside(image: np.ndarray, truth: np.ndarray, region: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Both with the region black, as PIE-Bench compares what was not to be edited; None where nothing is outside."""
    if region.all():
        return None
    kept = ~region[..., None]
    return image * kept, truth * kept


def mse(image: np.ndarray, truth: np.ndarray) -> float:
    """Mean squared difference over all pixels, black ones included."""
    return l2(image, truth)


def psnr(image: np.ndarray, truth: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB for a peak of 1, at most 99."""
    from torchmetrics.functional.image import peak_signal_noise_ratio

    found = float(peak_signal_noise_ratio(as_batch(image), as_batch(truth), data_range=1.0))
    return min(found, CEILING)


def ssim(image: np.ndarray, truth: np.ndarray) -> float:
    """Structural similarity over RGB (Gaussian window of sigma 1.5), -1..1. NaN for pictures under 11 px."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    if min(image.shape[:2]) < 11:
        return float("nan")
    return float(structural_similarity_index_measure(as_batch(image), as_batch(truth), data_range=1.0))


def as_batch(image: np.ndarray) -> Tensor:
    """[h, w, 3] as [1, 3, h, w]."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
