"""What the quality table measures. Pictures are float32 [h, w, 3] in 0..1, regions are bool [h, w].

PSNR alone rewards blur, gradient ratio and patch distance alone are satisfied by streaks, tiles and combs
(pretty in the numbers, ugly to the eye): a fill has to pass all of them, with `autocorrelation` and `lattice`.
"""

from functools import lru_cache

import numpy as np

CEILING = 99.0  # dB; PSNR of equal pictures, so that every value stays a finite number
HIGH_PASS_SIGMA = 2.0  # px; what is finer than this is texture
PATCH, PROJECTIONS, QUANTILES = 7, 64, 256
RING = 32  # px around a hole that its texture is compared with
LAGS = (4, 24)  # px; shorter ones are plain smoothness, longer ones leave too few pairs
PITCH = 8  # px of picture per latent pixel
WINDOW = 5  # px to each side: SSIM's window is 11x11
FLOOR = 0.25 / 255  # texture fainter than this counts as none, so that a smooth fill is no pattern
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def psnr(image, truth, region=None) -> float:
    """Peak signal-to-noise ratio in dB over a region (default: all), at most 99. NaN for an empty region."""
    difference = (image - truth) if region is None else (image - truth)[region]
    if difference.size == 0:
        return float("nan")
    error = float(np.mean(np.square(difference, dtype=np.float64)))
    return CEILING if error <= 10 ** (-CEILING / 10) else float(-10 * np.log10(error))


def ssim(image, truth, region=None) -> float:
    """Structural similarity of the luminance (Wang 2004: 11x11 Gaussian window, sigma 1.5), mean over a region.

    NaN for an empty region.
    """
    if region is not None and not region.any():
        return float("nan")
    a, b = (picture.astype(np.float64) @ LUMA for picture in (image, truth))
    mean_a, mean_b = _windowed(a), _windowed(b)
    var_a, var_b = _windowed(a * a) - mean_a**2, _windowed(b * b) - mean_b**2
    covariance = _windowed(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    top = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    values = top / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return float(values.mean() if region is None else values[region].mean())


def _windowed(values):
    """The mean of [h, w] over SSIM's window, mirrored at the border. Without OpenCV, which ComfyUI need not have."""
    weights = np.exp(-(np.arange(-WINDOW, WINDOW + 1) ** 2) / (2 * 1.5**2))
    weights = (weights / weights.sum()).astype(values.dtype)
    for _ in range(2):
        padded = np.pad(values, ((WINDOW, WINDOW), (0, 0)), mode="reflect")
        values = sum(weight * padded[i : i + len(values)] for i, weight in enumerate(weights)).T
    return values


def gradient_energy(image, region) -> float:
    """Mean absolute difference to the right and lower neighbour, of pairs that lie inside the region."""
    right, down = _steps(image)
    across, along = region[:, 1:] & region[:, :-1], region[1:] & region[:-1]
    count = int(across.sum()) + int(along.sum())
    if count == 0:
        return float("nan")
    return float((right[across].sum(dtype=np.float64) + down[along].sum(dtype=np.float64)) / count)


def gradient_ratio(image, truth, region) -> float:
    """How textured a fill is: its gradient energy (L1) over the truth's; 1 is right, below is blur."""
    return gradient_energy(image, region) / max(gradient_energy(truth, region), FLOOR)


def patch_distance(image, hole) -> float:
    """Sliced-Wasserstein distance of 7x7 high-pass patches between the hole and its 32-px ring.

    In 8-bit grey levels times the patch's norm; needs no truth. NaN where hole or ring hold no whole patch.
    """
    inside, outside = _patches(image, hole), _patches(image, _ring(hole))
    if inside is None or outside is None:
        return float("nan")
    return float(np.abs(inside - outside).mean())


def _patches(image, region):
    """Quantiles [256, 64] of the random projections of the patches centred in a region."""
    half = PATCH // 2
    field = _high_pass(image) * np.float32(255)
    windows = np.lib.stride_tricks.sliding_window_view(field, (PATCH, PATCH))
    rows, columns = np.nonzero(region[half:-half, half:-half])
    if len(rows) == 0:
        return None
    step = max(1, len(rows) // 4096)  # evenly spread over the region: the quantiles do not need every pixel
    patches = windows[rows[::step], columns[::step]].reshape(-1, PATCH * PATCH)
    projected = np.sort(patches @ _projections(), axis=0)
    where = (np.arange(QUANTILES) + 0.5) / QUANTILES * len(projected)
    return projected[where.astype(int)]


@lru_cache(maxsize=1)
def _projections():
    """64 fixed random directions of unit length in patch space, [49, 64]."""
    directions = np.random.default_rng(0).standard_normal((PATCH * PATCH, PROJECTIONS)).astype(np.float32)
    return directions / np.linalg.norm(directions, axis=0)


def autocorrelation(image, hole) -> float:
    """The highest autocorrelation of the hole's high-pass at lags of 4 to 24 px, -1..1.

    Only pairs with both ends in the hole count; lags with fewer pairs than a quarter of the hole are left out.
    """
    import cv2

    field = np.where(hole, _high_pass(image), 0).astype(np.float32)
    inside = hole.astype(np.float32)
    size = [cv2.getOptimalDFTSize(n + LAGS[1]) for n in hole.shape]
    f, s, m = (np.fft.rfft2(v, size) for v in (field, field * field, inside))
    product = np.fft.irfft2(f.conj() * f, size)
    energy = np.fft.irfft2(
        m.conj() * s, size
    )  # of the shifted end; the other end's is the same at minus the lag
    count = np.fft.irfft2(m.conj() * m, size)
    opposite = np.roll(energy[::-1, ::-1], (1, 1), (0, 1))
    wanted = _lags(tuple(size)) & (count > max(16.0, inside.sum() / 4))
    scale = np.sqrt(np.maximum(energy, 0) * np.maximum(opposite, 0)) + count * FLOOR**2
    values = product[wanted] / scale[wanted]
    return float(values.max()) if values.size else 0.0


@lru_cache(maxsize=8)
def _lags(size):
    """Where a circular correlation map of that size holds lags of 4 to 24 px."""
    y, x = (np.minimum(np.arange(n), n - np.arange(n)) for n in size)
    distance = np.hypot(y[:, None], x[None])
    return (distance >= LAGS[0]) & (distance <= LAGS[1])


def lattice(image, hole) -> float:
    """How much an 8-px grid shows: the strongest phase of the mean |gradient| over its mean, 1 where none does."""
    right, down = _steps(image)
    across = _strongest_phase(right.mean(2), hole[:, 1:] & hole[:, :-1], axis=1)
    along = _strongest_phase(down.mean(2), hole[1:] & hole[:-1], axis=0)
    return max(across, along)


def _strongest_phase(gradient, region, axis):
    phase = np.broadcast_to(np.expand_dims(np.arange(gradient.shape[axis]) % PITCH, 1 - axis), gradient.shape)
    count = np.bincount(phase[region], minlength=PITCH)
    if count.min() == 0:
        return 1.0
    mean = np.bincount(phase[region], weights=gradient[region], minlength=PITCH) / count
    return float((mean.max() + FLOOR) / (mean.mean() + FLOOR))


def fill_measures(image, truth, hole) -> dict[str, float]:
    """Everything that is said about a filled hole."""
    return {
        "psnr_mask": psnr(image, truth, hole),
        "ssim_mask": ssim(image, truth, hole),
        "gradient_ratio": gradient_ratio(image, truth, hole),
        "patch_distance": patch_distance(image, hole),
        "autocorrelation": autocorrelation(image, hole),
        "lattice": lattice(image, hole),
    }


def whole_measures(image, truth) -> dict[str, float]:
    """Everything that is said about a whole picture."""
    return {"psnr": psnr(image, truth), "ssim": ssim(image, truth)}


def dilated(region, radius):
    """A bool region grown by a disc of `radius` px."""
    import cv2

    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return cv2.dilate(region.astype(np.uint8), kernel) > 0


def _ring(hole):
    return dilated(hole, RING) & ~hole


def _high_pass(image):
    """Luminance minus its Gaussian blur."""
    import cv2

    grey = (image @ LUMA).astype(np.float32)
    return grey - cv2.GaussianBlur(grey, (0, 0), HIGH_PASS_SIGMA)


def _steps(image):
    return np.abs(np.diff(image, axis=1)), np.abs(np.diff(image, axis=0))
