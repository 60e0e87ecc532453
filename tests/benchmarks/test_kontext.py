"""Kontext's part of the speed table on tiny sizes: that both ways are what they are called, not how fast they are."""

import pytest
import torch

from editkit.benchmarks import kontext, speed
from editkit.models.kontext.reuse import Cache, Reuse


@pytest.fixture(scope="module")
def net():
    return kontext.network(quick=True)


def test_every_token_is_diffusers_own_flux(net):
    made = kontext.kit(2, True, net)
    with torch.inference_mode():
        ours = made.core(made.x, kontext.NOW)
        net.set_attn_processor(kontext_default())
        theirs = made.velocity(made.x, kontext.NOW)
    assert float((ours - theirs).abs().max() / theirs.abs().max()) < 1e-5


def kontext_default():
    from diffusers.models.transformers.transformer_flux import FluxAttnProcessor

    return FluxAttnProcessor()


def test_a_filling_step_is_every_token_and_a_reusing_one_is_near(net):
    made, cache = kontext.kit(2, True, net), Cache(Reuse(0))
    with torch.inference_mode():
        full, filled = made.core(made.x, kontext.BEFORE), made.reused(cache, made.x, kontext.BEFORE)
        again, kept = made.core(made.x, kontext.NOW), made.reused(cache, made.x, kontext.NOW)
        without = made.alone(made.x, kontext.NOW)
    assert torch.equal(full, filled) and cache.fills == cache.reuses == 1
    assert 0 < float((kept - again).norm()) < 0.5 * float((without - again).norm())


def test_a_reusing_step_computes_the_targets_tokens_only(net, monkeypatch):
    made, cache, seen = kontext.kit(3, True, net), Cache(Reuse(0)), []
    real = net.x_embedder.forward
    monkeypatch.setattr(net.x_embedder, "forward", lambda x: seen.append(x.shape[1]) or real(x))
    with torch.inference_mode():
        for time in (kontext.BEFORE, kontext.NOW):
            made.reused(cache, made.x, time)
    assert seen == [4 * 64, 64]


def test_the_rows_have_the_issues_aims_beside_the_deviation():
    rows = kontext.rows(speed.row, repeats=1, quick=True)
    aims = {r["what"]: r["limit"] for r in rows if r["kind"] == "aim"}
    assert list(aims.values()) == [1.8, 2.6, 3.4] and all("faster" in what for what in aims)
    assert sum("apart by" in r["what"] for r in rows) == 12
    assert all(r["ok"] and r["value"] == 0 for r in rows if r["kind"] == "must")
