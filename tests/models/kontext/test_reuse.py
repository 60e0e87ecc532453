"""When the context is computed anew, how exactly it is kept, and that it is bounded."""

import pytest
import torch

from editkit.models.errors import EditError
from editkit.models.kontext.reuse import Cache, Kept, Reuse, megabytes, moved

X = torch.ones(1, 16, 4, 4)
LAYOUT = object()


def run(settings, sigmas, x=lambda _: X, key="a", cache=None):
    """Whether each step was computed in full."""
    cache = cache or Cache(settings)
    out = []
    for sigma in sigmas:
        entry = cache.usable(key, sigma, x(sigma), LAYOUT)
        out.append(entry is None)
        if entry is None:
            entry = cache.fill(key, sigma, x(sigma), LAYOUT)
            cache.keep(entry, torch.ones(1, 2, 3, 4), torch.ones(1, 2, 3, 4))
            entry.complete = True
    return out


@pytest.mark.parametrize(
    ("refresh", "wanted"), [(1, "111111"), (2, "101010"), (3, "100100"), (5, "100001"), (0, "100000")]
)
def test_every_so_many_steps(refresh, wanted):
    assert run(Reuse(refresh), [1.0, 0.8, 0.6, 0.4, 0.2, 0.1]) == [w == "1" for w in wanted]
    assert Reuse(refresh).off is (refresh == 1)


def test_a_second_pass_at_a_level_is_no_further_step():
    assert run(Reuse(2), [1.0, 0.8, 0.8, 0.6, 0.6, 0.4]) == [True, False, False, True, True, False]


def test_when_the_target_has_moved():
    def x(sigma):
        return X * (2 - sigma)

    assert run(Reuse(0, 0.25), [1.0, 0.9, 0.8, 0.7, 0.6, 0.5], x) == [True, False, False, True, False, False]
    assert moved(X * 1.5, X) == pytest.approx(0.5) and moved(X[..., :2], X) == float("inf")


def test_a_run_that_starts_again_and_other_references_fill_anew():
    cache = Cache(Reuse(0))
    assert run(None, [1.0, 0.5], cache=cache) == [True, False]
    assert run(None, [1.0, 0.5], cache=cache) == [True, False]
    assert cache.usable("a", 0.4, X, LAYOUT) is not None and cache.usable("a", 0.4, X, object()) is None
    assert cache.usable("b", 0.4, X, LAYOUT) is None
    cache.clear()
    assert cache.bytes == 0 and cache.usable("a", 0.3, X, LAYOUT) is None


def test_an_entry_that_was_not_finished_is_not_used():
    cache = Cache(Reuse(0))
    cache.fill("a", 1.0, X, LAYOUT)
    assert cache.usable("a", 0.5, X, LAYOUT) is None


@pytest.mark.parametrize("store", ["device", "cpu", "fp8"])
def test_what_is_kept_comes_back(store):
    values = torch.randn(2, 3, 7, 8, generator=torch.Generator().manual_seed(1)).bfloat16() * 30
    kept = Kept(values[:, :, 2:], store)
    assert kept.get().dtype == torch.bfloat16
    away = (kept.get().float() - values[:, :, 2:].float()).abs().max() / values.float().abs().max()
    assert float(away) == 0 if store != "fp8" else 0 < float(away) < 0.05
    assert kept.bytes == 2 * 3 * 5 * 8 * 2 if store != "fp8" else kept.bytes == 2 * 3 * 5 * 8 + 2 * 3 * 4
    values += 1
    assert float((kept.get().float() - values[:, :, 2:].float()).abs().max()) > 0.5  # a copy


def test_the_estimate_is_what_is_taken():
    cache = Cache(Reuse(2))
    entry = cache.fill("a", 1.0, X)
    for _ in range(3):
        cache.keep(entry, torch.zeros(2, 4, 9, 16), torch.zeros(2, 4, 9, 16))
    assert cache.bytes == megabytes(3, 4 * 16, 9, 2, "device", 4) * 2**20


def test_more_than_the_limit_is_refused():
    cache = Cache(Reuse(2, limit=1e-6))
    with pytest.raises(EditError, match="1e-06 GiB"):
        cache.keep(cache.fill("a", 1.0, X), torch.zeros(1, 2, 99, 16), torch.zeros(1, 2, 99, 16))


@pytest.mark.parametrize("wrong", [{"store": "disk"}, {"refresh": -1}])
def test_unknown_settings_are_refused(wrong):
    with pytest.raises(EditError, match="disk|-1"):
        Reuse(**wrong)
