"""Interpolations that make a localisation map coherent (EditMGT, appendix B.2): RBF, cubic, linear and nearest.

The paper enlarges the grid of tokens `factor` times, fills the dense grid by interpolation and reduces it again. The
released code has none of this, and the paper does not name the reduction. Here a token's place on the dense grid is
factor x factor points spread evenly over its square, and the reduction is their mean: so factor 1 leaves a map as it
is, and a larger one smooths, as in Figure 17. Nearest leaves a map as it is at every factor: the paper's baseline.

All of them are linear in the map, and so each is worked out once per size of grid.
"""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import EditError
from . import smoothing


def smooth(maps: Tensor, method: str = "rbf", factor: int = 3, preserve_peaks: bool = True) -> Tensor:
    """Smooths [b, h, w] by interpolation and brings each map back to its own range.

    method: rbf, cubic, linear or nearest. factor: how many times the grid is enlarged along each side (1, 3 and 5 in
    the paper). preserve_peaks: as in the filters. EditError for another method and for a factor below 1.
    """
    if method not in INTERPOLATIONS:
        raise EditError(f"There is no interpolation {method!r}; choose one of {', '.join(INTERPOLATIONS)}.")
    if factor < 1 or factor != int(factor):
        raise EditError(f"A grid cannot be enlarged {factor} times; use a whole number from 1.")
    return smoothing.finish(maps, INTERPOLATIONS[method](maps, int(factor)), preserve_peaks)


def nearest(maps: Tensor, factor: int) -> Tensor:
    """Each dense point has the value of its own token (Eq. 18), and so has their mean."""
    return maps.clone()


def linear(maps: Tensor, factor: int) -> Tensor:
    """Barycentric within triangles (Eq. 17), and constant beyond the outermost tokens' centres.

    A square of four tokens parts into two triangles along either diagonal; both are taken, and averaged, so that a
    mirrored map gives the mirrored result.
    """
    x = smoothing.precise(maps)
    (top, down), (left, right) = (_cell(n, factor, x.device) for n in x.shape[-2:])
    v, u = (t.to(x.dtype).to(x.device) for t in (down[1][:, None], right[1][None]))
    corners = [x[:, rows][:, :, columns] for rows in (top, down[0]) for columns in (left, right[0])]
    least, above = torch.minimum, lambda t: t.clamp_min(0)  # noqa: E731
    falling = [least(1 - v, 1 - u), above(u - v), above(v - u), least(v, u)]
    rising = [above(1 - v - u), least(u, 1 - v), least(v, 1 - u), above(v + u - 1)]
    dense = sum((a + b) / 2 * corner for a, b, corner in zip(falling, rising, corners))
    return F.avg_pool2d(dense[:, None], factor)[:, 0].to(maps.dtype)


def cubic(maps: Tensor, factor: int) -> Tensor:
    """Bicubic (Eq. 16): along each axis the natural spline, of all C² curves through the tokens the least bent."""
    x = smoothing.precise(maps)
    rows, columns = (_spline(n, factor).to(x.dtype).to(x.device) for n in maps.shape[-2:])
    return (rows @ x @ columns.T).to(maps.dtype)


def rbf(maps: Tensor, factor: int) -> Tensor:
    """Thin-plate spline r² log r through all tokens, with a plane (Eq. 15), at the means of the dense points."""
    made = _thin_plate(*maps.shape[-2:])
    return made.means(maps, factor)


INTERPOLATIONS = {"rbf": rbf, "cubic": cubic, "linear": linear, "nearest": nearest}


def dense_offsets(factor: int) -> Tensor:
    """Where the dense points of a token lie along an axis, from its centre: [factor] within -1/2..1/2."""
    return (torch.arange(factor, dtype=torch.float64) + 0.5) / factor - 0.5


def _cell(n: int, factor: int, device) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Of each of n · factor dense points: the token before it, and (the one after it, how far it is from before)."""
    places = (torch.arange(n)[:, None] + dense_offsets(factor)).flatten().clamp(0, n - 1)
    before = places.floor().long().clamp(0, max(n - 2, 0))
    after = (before + 1).clamp(max=n - 1)
    return before.to(device), (after.to(device), places - before)


@lru_cache(maxsize=16)
def _spline(n: int, factor: int) -> Tensor:
    """[n, n]: values at n tokens to the means of the spline over their dense points, in float64.

    Beyond the outermost tokens a natural spline goes on straight.
    """
    values = torch.eye(n, dtype=torch.float64)
    if n < 3:
        curvature = torch.zeros_like(values)  # two points make a line
    else:
        inner = torch.eye(n - 2, dtype=torch.float64) * 2 / 3
        inner = inner + (torch.diag(torch.ones(n - 3), 1) + torch.diag(torch.ones(n - 3), -1)).double() / 6
        second = values[2:] - 2 * values[1:-1] + values[:-2]
        curvature = F.pad(torch.linalg.solve(inner, second), (0, 0, 1, 1))
    if n == 1:
        return values
    places = torch.arange(n)[:, None] + dense_offsets(factor)
    before = places.floor().long().clamp(0, n - 2)
    t = (places - before)[..., None]
    t, beyond = t.clamp(0, 1), t - t.clamp(0, 1)
    a, b, ca, cb = values[before], values[before + 1], curvature[before], curvature[before + 1]
    on_curve = (1 - t) * a + t * b + (((1 - t) ** 3 - (1 - t)) * ca + (t**3 - t) * cb) / 6
    slope = b - a + ((1 - 3 * (1 - t) ** 2) * ca + (3 * t**2 - 1) * cb) / 6
    return (on_curve + beyond * slope).mean(1)


@lru_cache(maxsize=4)
def _thin_plate(h: int, w: int) -> "ThinPlate":
    return ThinPlate(h, w)


class ThinPlate:
    """The thin-plate splines through the tokens of an h x w grid.

    A grid looks the same in a mirror, and so the system of all h·w tokens falls apart into four, one per kind of
    symmetry (even or odd along either axis), each a quarter as wide: factoring costs 1/16 and the factors take 1/4 of
    the memory. On one core 32x32 takes 0.02 s and 2 MB once and 1 ms a map, 64x64 takes 0.4 s and 34 MB once and 4 ms
    a map. The kernel depends on differences of places alone, so that its means over the dense points are a
    small table, and summing over all tokens is a convolution. In float64, on the CPU: it is too little for a device.
    """

    def __init__(self, h: int, w: int):
        self.size = (h, w)
        self.y, self.x = (torch.arange(n, dtype=torch.float64) - (n - 1) / 2 for n in (h, w))
        kernel = self._kernel()
        self.parts = []
        for rows, y in zip(_symmetric(h), (None, self.y)):
            for columns, x in zip(_symmetric(w), (None, self.x)):
                if rows.shape[1] * columns.shape[1]:
                    plane = self._plane(y, x)
                    self.parts.append((rows, columns, plane, self._factored(kernel, rows, columns, plane)))
        self._tables: dict[int, Tensor] = {}

    def means(self, maps: Tensor, factor: int) -> Tensor:
        """The mean over each token's dense points of the spline through maps [b, h, w]; same shape and device."""
        if factor not in self._tables:
            self._tables[factor] = self._table(factor)
        weights, planes = self.solve(maps.detach().cpu().double())
        return (self._convolved(weights, self._tables[factor]) + planes).to(maps.dtype).to(maps.device)

    def solve(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Weights [b, h, w] of the kernels, and the plane [b, h, w] that goes with them."""
        weights, planes = torch.zeros_like(maps), torch.zeros_like(maps)
        for rows, columns, plane, factors in self.parts:
            right = (rows.T @ maps @ columns).flatten(1).T
            solved = torch.linalg.lu_solve(*factors, F.pad(right, (0, 0, 0, int(plane is not None))))
            count = len(right)
            part = solved[:count].T.unflatten(1, (rows.shape[1], columns.shape[1]))
            weights = weights + rows @ part @ columns.T
            if plane is not None:
                planes = planes + solved[count][:, None, None] * plane
        return weights, planes

    def _plane(self, y: Tensor | None, x: Tensor | None) -> Tensor | None:
        """Which of 1, x and y has this symmetry, as [h, w]; x·y is no plane."""
        if y is not None and x is not None:
            return None
        flat = torch.ones(self.size, dtype=torch.float64)
        return flat if y is None and x is None else flat * (x if y is None else y[:, None])

    @staticmethod
    def _factored(kernel: Tensor, rows: Tensor, columns: Tensor, plane: Tensor | None):
        # a symmetric vector is known from its first half, and so is what the kernel makes of it
        part = kernel[: rows.shape[1], : columns.shape[1]] @ columns
        part = torch.einsum("ijcl,ck->ijkl", part, rows)
        part = part / rows.diagonal()[:, None, None, None] / columns.diagonal()[:, None, None]
        part = part.flatten(2).flatten(0, 1)
        if plane is not None:
            edge = (rows.T @ plane @ columns).flatten()
            part = F.pad(part, (0, 1, 0, 1))
            part[-1, :-1] = part[:-1, -1] = edge
        return torch.linalg.lu_factor(part)

    def _table(self, factor: int) -> Tensor:
        """Mean over the dense points of r² log r, for every difference of places: [2h - 1, 2w - 1]."""
        h, w = self.size
        offsets = dense_offsets(factor)
        dy, dx = (torch.arange(1 - n, n, dtype=torch.float64)[:, None] + offsets for n in (h, w))
        squared = dy[:, None, :, None] ** 2 + dx[None, :, None, :] ** 2
        return torch.special.xlogy(squared, squared).mean((2, 3)) / 2

    def _kernel(self) -> Tensor:
        """r² log r between the tokens of the first quarter and all, [ceil(h / 2), ceil(w / 2), h, w]."""
        rows, columns = (torch.arange((n + 1) // 2)[:, None] - torch.arange(n) + n - 1 for n in self.size)
        return self._table(1)[rows[:, None, :, None], columns[None, :, None, :]]

    def _convolved(self, weights: Tensor, table: Tensor) -> Tensor:
        h, w = self.size
        shape = (3 * h - 2, 3 * w - 2)
        spectrum = torch.fft.rfft2(weights, shape) * torch.fft.rfft2(table, shape)
        return torch.fft.irfft2(spectrum, shape)[:, h - 1 : 2 * h - 1, w - 1 : 2 * w - 1]


def _symmetric(n: int) -> tuple[Tensor, Tensor]:
    """An orthonormal basis of the even vectors of length n, [n, ceil(n / 2)], and one of the odd, [n, floor(n / 2)]."""
    unit = torch.eye(n, dtype=torch.float64)
    half = n // 2
    first, last = unit[:, :half], unit.flip(1)[:, :half]
    even, odd = (first + last) / 2**0.5, (first - last) / 2**0.5
    return torch.cat([even, unit[:, half : n - half]], 1), odd
