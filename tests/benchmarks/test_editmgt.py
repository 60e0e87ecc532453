"""Part `editmgt` of the speed table on tiny sizes: both ways make the same tokens, and do the work they are said to."""

from dataclasses import replace

import pytest
import torch

from editkit.benchmarks import editmgt, editmgt_deviation, editmgt_released, speed
from editkit.models.editmgt import padding
from editkit.models.editmgt.localise import chosen_blocks


@pytest.fixture(scope="module")
def kit():
    return editmgt.kit(quick=True)


@pytest.mark.parametrize("localised", [False, True])
def test_both_ways_make_the_same_tokens_with_the_same_random_numbers(kit, localised):
    options = kit.localised() if localised else kit.options
    with torch.inference_mode():
        tokens = editmgt.released(kit, options)
        assert torch.equal(editmgt.ours(kit, replace(options, exact_draws=True)), tokens)
        other = editmgt.released(kit, replace(options, gamma=0.05))
    assert not torch.equal(other, tokens)  # else equal tokens would say little
    held = tokens == kit.reference
    assert float(held.float().mean()) > 0.2 if localised else float(held.float().mean()) < 0.2


def test_the_released_way_works_out_what_ours_does_once(kit, monkeypatch):
    """Prompts at every step, and a vocabulary of all places in both halves."""
    prompts, places, net = [], [], kit.net
    prompt, head = net.prompt, net.mlm_layer.conv2.forward
    monkeypatch.setattr(net, "prompt", lambda *a, **k: prompts.append(1) or prompt(*a, **k))
    monkeypatch.setattr(net.mlm_layer.conv2, "forward", lambda x: places.append(x[:, 0].numel()) or head(x))
    with torch.inference_mode():
        editmgt.released(kit, kit.options)
        assert len(prompts) == 4 and places == [2 * 64] * 4
        prompts.clear(), places.clear()
        editmgt.ours(kit, kit.options)
    assert len(prompts) == 1 and places[0] == 64 and places == sorted(places, reverse=True) and places[-1] < 64


def test_the_released_way_takes_all_maps_of_both_halves_to_the_cpu(kit, monkeypatch):
    found, maps = [], editmgt_released._maps
    monkeypatch.setattr(editmgt_released, "_maps", lambda *a: found.append(maps(*a)) or found[-1])
    with torch.inference_mode():
        editmgt.released(kit, kit.localised())
    assert len(found) == 2 * 4 and found[0]["whole"].shape == (2, 2, 256 + 16, 256 + 16)
    assert torch.equal(found[0]["again"], found[0]["text_to_image"])


def test_the_scaled_network_keeps_the_share_of_blocks_and_the_prompts_have_padding(kit):
    full, scaled = (len(chosen_blocks(editmgt.READ[c.blocks], c)) / c.blocks for c in (editmgt.FULL, editmgt.SCALED))
    assert full == pytest.approx(scaled)
    double, single = (c.num_layers / c.blocks for c in (editmgt.FULL, editmgt.SCALED))
    assert double == pytest.approx(single, abs=0.03)
    states = torch.cat([kit.text.states, kit.negative.states])
    assert padding.leading(states) == 256 - max(editmgt.WORDS)


def test_the_approximations_are_off_in_what_they_are_measured_against():
    net = editmgt_deviation.trained(1)
    exact, again = (editmgt_deviation.edited(net, editmgt_deviation.EXACT, 3) for _ in range(2))
    assert torch.equal(exact[0], again[0]) and torch.equal(exact[1], again[1])
    for speed_up in editmgt_deviation.WAYS.values():
        options = speed_up.applied(editmgt_deviation.EXACT)
        assert options != editmgt_deviation.EXACT
        assert not torch.equal(editmgt_deviation.edited(net, options, 3)[1], exact[1])


def test_rows_have_a_must_on_the_tokens_and_an_aim_on_the_time():
    rows = speed.run(["editmgt"], quick=True)
    judged = [(r["what"], r["kind"], r["limit"]) for r in rows if r["kind"] != "info"]
    assert judged == [
        ("without localisation ours is faster by", "aim", 1.5),
        ("without localisation, tokens that differ", "must", 1e-3),
        ("with localisation ours is faster by", "aim", 3.0 if torch.cuda.is_available() else 2.0),
        ("with localisation, tokens that differ", "must", 1e-3),
    ]
    assert all(r["ok"] for r in rows if r["kind"] == "must")
    said = {r["what"] for r in rows}
    assert {"exact: edits followed", "reference_every 4: tokens that differ",
            "guidance_until 0.5: scores differ by"} <= said  # fmt: skip
