"""Kontext's nodes without ComfyUI: what Reference and Schedule make, and what the rest says."""

import pytest
import torch

from editkit import NODE_CLASS_MAPPINGS as NODES
from editkit.models.errors import EditError
from editkit.models.kontext import references, schedule

LATENT = {"samples": torch.zeros(1, 16, 8, 12)}
DEFAULTS = {"strength": 1.0, "placement": "offset", "index": 0, "start_percent": 0.0, "end_percent": 1.0,
            "megapixels": 0.0, "confine": "strict"}  # fmt: skip
SCHEDULE = {"steps": 4, "shift": "size", "width": 1024, "height": 1024, "tokens": 4096, "mu": 1.15, "alpha": 3.0,
            "sigma": 1.0, "base_shift": 0.5, "max_shift": 1.15, "start": 1.0}  # fmt: skip


def run(name, **inputs):
    return NODES[f"EditKitKontext{name}"]().run(**inputs)


def conditioning():
    return [[torch.zeros(1, 3, 8), {"pooled_output": None}]]


def test_a_chain_of_references():
    given = conditioning()
    one = run("Reference", conditioning=given, latent=LATENT, **{**DEFAULTS, "strength": 0.5})[0]
    two, latent = run("Reference", conditioning=one, latent=LATENT, **{**DEFAULTS, "placement": "index", "index": 3})
    found = references.chain(two[0][1])
    assert [(r.strength, r.placement, r.index) for r in found] == [(0.5, "offset", 0), (1.0, "index", 3)]
    assert latent["samples"] is LATENT["samples"] and references.NATIVE not in given[0][1]


def test_the_blank_mask_of_a_picture_without_one_is_none():
    made = run("Reference", conditioning=conditioning(), latent=LATENT, mask=torch.zeros(1, 64, 64), **DEFAULTS)[0]
    assert references.chain(made[0][1])[0].mask is None


def test_masks_are_kept_as_they_are():
    mask = torch.rand(1, 8, 12)
    made = run("Reference", conditioning=conditioning(), latent=LATENT, mask=mask, target_mask=1 - mask, **DEFAULTS)[0]
    found = references.chain(made[0][1])[0]
    assert torch.equal(found.mask, mask[0]) and torch.equal(found.target_mask, 1 - mask[0])


@pytest.mark.parametrize(
    ("changes", "mu"),
    [
        ({}, 1.15), ({"width": 512, "height": 512}, schedule.mu_of_tokens(1024)),
        ({"shift": "tokens", "tokens": 48}, schedule.mu_of_tokens(48)), ({"shift": "mu", "mu": 0.3}, 0.3),
        ({"shift": "alpha", "alpha": 2.0}, schedule.mu_of_alpha(2.0)),
        ({"base_shift": 0.2, "max_shift": 0.9}, 0.9),
    ],
)  # fmt: skip
def test_what_gives_mu(changes, mu):
    sigmas, told = run("Schedule", **{**SCHEDULE, **changes})
    assert told == pytest.approx(mu) and torch.equal(sigmas, schedule.sigmas(4, told))


def test_a_latent_is_the_outputs_size_and_none_is_linear():
    sigmas, mu = run("Schedule", latent=LATENT, **SCHEDULE)
    assert mu == pytest.approx(schedule.mu_of_tokens(24)) and torch.equal(sigmas, schedule.bfl(4, 24))
    assert torch.equal(run("Schedule", **{**SCHEDULE, "shift": "none"})[0], torch.linspace(1, 0, 5))
    assert run("Schedule", **{**SCHEDULE, "shift": "none"})[1] == 0.0


def test_sigma_and_start_count():
    made = run("Schedule", **{**SCHEDULE, "sigma": 1.5, "start": 0.8})[0]
    assert torch.equal(made, schedule.shifted(torch.linspace(0.8, 0, 5, dtype=torch.float64), 1.15, 1.5))


@pytest.mark.parametrize("name", ["Apply", "ContextReuse"])
def test_what_needs_comfyui_says_so(name):
    more = {"refresh_every": 2, "threshold": 0.0, "store": "device", "limit_gib": 1.0} if name == "ContextReuse" else {}
    with pytest.raises(EditError, match="run this workflow in ComfyUI"):
        run(name, model=object(), **more)


def test_a_latent_over_its_budget_asks_for_the_vae():
    with pytest.raises(EditError, match="wire FLUX's VAE"):
        run("Reference", conditioning=conditioning(), latent={"samples": torch.zeros(1, 16, 128, 128)},
            **{**DEFAULTS, "megapixels": 0.5})  # fmt: skip
