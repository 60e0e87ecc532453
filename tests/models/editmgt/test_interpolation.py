"""The interpolations of appendix B.2 against scipy's, dense grid by dense grid."""

import numpy as np
import pytest
import torch

from editkit.models.editmgt import interpolation
from editkit.models.errors import EditError


def maps(size, count=2, seed=0):
    return torch.rand(count, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dense(size, factor, inside=False):
    """The dense points of a grid of tokens, row by row: [h·factor·w·factor, 2]."""
    axes = [np.concatenate([i + interpolation.dense_offsets(factor).numpy() for i in range(n)]) for n in size]
    if inside:
        axes = [a.clip(0, n - 1) for a, n in zip(axes, size)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)


def reduced(values, size, factor):
    return torch.from_numpy(values.reshape(size[0], factor, size[1], factor).mean((1, 3)))


def tokens(size):
    return np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), -1).reshape(-1, 2).astype(float)


@pytest.mark.parametrize("factor", [1, 2, 3, 5])
@pytest.mark.parametrize("size", [(8, 8), (5, 9), (7, 4), (2, 3)])
def test_rbf_is_scipys_thin_plate_spline(size, factor):
    interpolate, x = pytest.importorskip("scipy.interpolate"), maps(size)
    for made, one in zip(interpolation.rbf(x, factor), x):
        spline = interpolate.RBFInterpolator(tokens(size), one.numpy().ravel(), kernel="thin_plate_spline")
        assert torch.allclose(made, reduced(spline(dense(size, factor)), size, factor), atol=1e-9)


@pytest.mark.parametrize("factor", [2, 3, 5])
@pytest.mark.parametrize("size", [(8, 8), (5, 9), (3, 4), (2, 6)])
def test_cubic_is_scipys_natural_spline_along_each_axis(size, factor):
    interpolate, x = pytest.importorskip("scipy.interpolate"), maps(size)
    offsets = interpolation.dense_offsets(factor).numpy()

    def along(values, n):
        """Means over the dense points, of the spline along the first axis; straight on beyond its ends."""
        spline = interpolate.CubicSpline(np.arange(n), values, bc_type="natural")
        places = (np.arange(n)[:, None] + offsets).ravel()
        inside = places.clip(0, n - 1)
        made = spline(inside) + (places - inside)[:, None] * spline(inside, 1)
        return made.reshape(n, factor, -1).mean(1)

    for made, one in zip(interpolation.cubic(x, factor), x):
        expected = along(along(one.numpy(), size[0]).T, size[1]).T
        assert torch.allclose(made, torch.from_numpy(expected), atol=1e-9)


@pytest.mark.parametrize("factor", [2, 3, 5])
@pytest.mark.parametrize("size", [(6, 6), (4, 7)])
def test_linear_is_scipys_barycentric_one_over_both_diagonals(size, factor):
    interpolate, x = pytest.importorskip("scipy.interpolate"), maps(size)

    def scipys(values, shear):
        """scipy's triangles; a slight shear says along which diagonal it parts the squares."""
        lean = np.array([[1.0, shear], [shear, 1.0]])
        made = interpolate.LinearNDInterpolator(tokens(size) @ lean, values)
        points = dense(size, factor, inside=True)
        # pulled in by a hair: on the very border a point may fall outside by rounding
        centre = (np.array(size) - 1) / 2
        return made((centre + (points - centre) * (1 - 1e-9)) @ lean)

    for made, one in zip(interpolation.linear(x, factor), x):
        both = sum(scipys(one.numpy().ravel(), shear) for shear in (1e-6, -1e-6)) / 2
        assert torch.allclose(made, reduced(both, size, factor), atol=1e-6)


@pytest.mark.parametrize("method", interpolation.INTERPOLATIONS)
def test_factor_one_leaves_a_map_as_it_is(method):
    x = maps((11, 6))
    assert torch.allclose(interpolation.smooth(x, method, 1), x, atol=1e-9)


@pytest.mark.parametrize("factor", [1, 3, 5])
def test_nearest_leaves_a_map_as_it_is_at_every_factor(factor):
    x = maps((6, 8))
    assert torch.allclose(interpolation.smooth(x, "nearest", factor), x, atol=1e-12)


@pytest.mark.parametrize("method", ["rbf", "cubic", "linear"])
def test_a_larger_factor_is_smoother(method):
    x = maps((16, 16))
    rough = [interpolation.INTERPOLATIONS[method](x, k).diff(dim=2).abs().mean() for k in (1, 3, 5)]
    assert rough[0] > rough[1] > rough[2]


@pytest.mark.parametrize("method", ["rbf", "cubic"])
def test_a_plane_stays_a_plane(method):
    y, x = torch.meshgrid(torch.arange(9.0), torch.arange(7.0), indexing="ij")
    plane = (1 + 2 * x - 3 * y)[None].double()
    assert torch.allclose(interpolation.INTERPOLATIONS[method](plane, 3), plane, atol=1e-9)


@pytest.mark.parametrize("method", interpolation.INTERPOLATIONS)
def test_a_mirrored_map_gives_the_mirrored_result(method):
    x = maps((7, 10))
    for dims in ((1,), (2,)):
        made = interpolation.smooth(x.flip(dims), method, 3)
        assert torch.allclose(made, interpolation.smooth(x, method, 3).flip(dims), atol=1e-9)


@pytest.mark.parametrize("method", interpolation.INTERPOLATIONS)
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (4, 1), (2, 2), (64, 64)])
def test_any_grid_passes_and_keeps_range_shape_and_kind(method, size):
    x = torch.rand(2, *size) * 0.5 + 0.1
    made = interpolation.smooth(x, method, 5)
    assert made.shape == x.shape and made.dtype == x.dtype
    assert torch.allclose(made.amin((1, 2)), x.amin((1, 2)), atol=1e-6)
    assert torch.allclose(made.amax((1, 2)), x.amax((1, 2)), atol=1e-6)


def test_a_grid_is_factored_once():
    interpolation._thin_plate.cache_clear()
    for _ in range(3):
        interpolation.smooth(torch.rand(1, 12, 10), "rbf", 3)
    assert interpolation._thin_plate.cache_info().misses == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [({"method": "sinc"}, "'sinc'"), ({"factor": 0}, "0 times"), ({"factor": 1.5}, "1.5 times")],
)
def test_a_wrong_option_is_refused_with_its_value(options, said):
    with pytest.raises(EditError, match=said):
        interpolation.smooth(torch.rand(1, 4, 4), **options)
