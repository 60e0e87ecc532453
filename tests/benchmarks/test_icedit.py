"""The part `icedit` of `bench speed`: the three networks are what they are called."""

import pytest
import torch

from editkit.benchmarks import icedit, speed
from editkit.models.icedit import lora


@pytest.fixture(scope="module")
def kit():
    made = icedit.kit(quick=True)
    with made.stack:
        yield made


def test_every_layer_of_the_released_files_is_there(kit):
    plain, routed = icedit.adapters(kit.networks[icedit.NONE])
    assert all(lora.MIXED.fullmatch(name) for name in routed.experts) and len(routed.experts) == 3
    assert plain.plain.keys() == routed.plain.keys() | routed.experts.keys() and len(plain.plain) == 1 + 6 + 2 * 6
    assert {(one.rank, one.count, one.chosen) for one in routed.experts.values()} == {(32, 4, 1)}


def test_only_the_routed_network_has_hooks_and_each_gives_another_velocity(kit):
    hooks = {name: sum(len(m._forward_hooks) for m in net.modules()) for name, net in kit.networks.items()}
    assert hooks == {icedit.NONE: 0, icedit.PLAIN: 0, icedit.ROUTED: 3}
    with torch.inference_mode():
        made = [kit.step(name) for name in kit.networks]
    assert len({float(one.sum()) for one in made}) == 3


def test_layers_without_a_lora_are_shared(kit):
    one, two = (kit.networks[name].state_dict() for name in (icedit.NONE, icedit.PLAIN))
    shared = [name for name in one if one[name].data_ptr() == two[name].data_ptr()]
    assert len(one) - len(shared) == 1 + 6 + 2 * 6


def test_the_aim_is_ten_percent_over_a_plain_lora():
    rows = speed.run(["icedit"], quick=True)
    judged = [(r["what"], r["kind"], r["limit"]) for r in rows if r["kind"] != "info"]
    assert judged == [("routed experts take longer than a plain LoRA by", "aim", 10.0)]
