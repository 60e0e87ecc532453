"""What credentials tell of a workflow: which systems took part, in which order, with which weights."""

import pytest
import torch

from editkit.models.picture_file import PNG
from editkit.models.provenance import story
from editkit.models.provenance.story import COMPOSITE, CREATED, ENHANCED, GENERATED, Source, Story, System

CATEGORIES = {
    "EditKitTone": "EditKit/blazeedit", "EditKitRemoveObject": "EditKit/blazeedit",
    "EditKitLoadBlazeEdit": "EditKit/blazeedit", "EditKitLoadEditMGT": "EditKit/editmgt",
    "EditKitEditMGTSample": "EditKit/editmgt", "EditKitKontextApply": "EditKit/kontext",
    "EditKitGrowMask": "EditKit/region",
}  # fmt: skip
NAMES = {name: name.removeprefix("EditKit") for name in CATEGORIES}


def prompt(**nodes):
    return {key: {"class_type": kind, "inputs": inputs} for key, (kind, inputs) in nodes.items()}


def found(graph, node="save"):
    return story.systems(graph, story.upstream(graph, node, ("images",)), CATEGORIES, NAMES)


REMOVE_THEN_TONE = prompt(
    save=("EditKitSaveEditedImage", {"images": ["tone", 0], "source": ["load", 0], "quality": 95}),
    tone=("EditKitTone", {"image": ["remove", 0], "strength": 1.0}),
    remove=("EditKitRemoveObject", {"image": ["load", 0], "mask": ["grow", 0], "model": ["own", 0]}),
    grow=("EditKitGrowMask", {"mask": ["load", 1]}),
    own=("EditKitLoadBlazeEdit", {"model": "mine/big"}),
    load=("LoadImage", {"image": "a.jpg"}),
    other=("EditKitEditMGTSample", {"model": "x"}),
)


def test_sources_come_before_what_needs_them_and_others_not_at_all():
    order = story.upstream(REMOVE_THEN_TONE, "save", ("images",))
    assert sorted(order) == ["grow", "load", "own", "remove", "tone"]
    assert order.index("load") < order.index("grow") < order.index("remove") < order.index("tone")
    assert story.upstream(REMOVE_THEN_TONE, "save", ("source",)) == ["load"]


def test_a_node_that_grew_out_of_another_sees_the_whole_workflow():
    assert story.upstream(REMOVE_THEN_TONE, "12.0.3") == list(REMOVE_THEN_TONE)


def test_a_cycle_and_a_long_chain_end():
    ring = prompt(save=("S", {"images": ["a", 0]}), a=("A", {"x": ["b", 0]}), b=("B", {"x": ["a", 0]}))
    assert set(story.upstream(ring, "save")) <= {"a", "b"}
    chain = prompt(**{str(n): ("A", {"x": [str(n + 1), 0]}) for n in range(5000)}, **{"5000": ("A", {})})
    assert len(story.upstream(chain, "0")) == 5000


def test_a_wide_workflow_is_walked_once():
    layers = {f"{a}_{b}": ("A", {str(c): [f"{a + 1}_{c}", 0] for c in range(4)}) for a in range(30) for b in range(4)}
    layers |= {f"30_{b}": ("A", {}) for b in range(4)}
    assert len(story.upstream(prompt(save=("S", {"images": ["0_0", 0]}), **layers), "save")) == 121


def test_one_system_with_all_its_nodes_and_weights():
    (system,) = found(REMOVE_THEN_TONE)
    assert system.name == "BlazeEdit" and system.nodes == ("RemoveObject", "Tone")
    assert system.weights == ("big", "blazeedit-small"), "names alone, no folders"
    assert not system.enhancing


def test_correcting_is_told_from_generating():
    (tone,) = found(prompt(save=("S", {"images": ["t", 0]}), t=("EditKitTone", {"image": ["l", 0]}), l=("L", {})))
    assert tone.enhancing and tone.weights == ("blazeedit-small",)


def test_systems_in_the_order_of_their_work_with_the_files_that_they_load():
    graph = prompt(
        save=("S", {"images": ["decode", 0]}),
        decode=("VAEDecode", {"samples": ["sample", 0]}),
        sample=("KSampler", {"model": ["apply", 0], "image": ["mgt", 0]}),
        apply=("EditKitKontextApply", {"model": ["unet", 0]}),
        unet=("UNETLoader", {"unet_name": "flux\\kontext-dev.safetensors", "weight_dtype": "default"}),
        mgt=("EditKitEditMGTSample", {"model": ["release", 0]}),
        release=("EditKitLoadEditMGT", {"release": "editmgt"}),
    )
    kontext, editmgt = found(graph)
    assert (kontext.name, kontext.weights) == ("FLUX.1 Kontext", ("kontext-dev.safetensors",))
    assert editmgt.name == "EditMGT" and editmgt.weights == ("editmgt",) and editmgt.nodes == ("EditMGTSample",)


def test_core_nodes_with_weights_are_comfyuis_own_and_without_any_nobodys():
    loader = ("CheckpointLoaderSimple", {"ckpt_name": "sd15.ckpt"})
    graph = prompt(save=("S", {"images": ["d", 0]}), d=("VAEDecode", {"vae": ["c", 2]}), c=loader)
    assert found(graph) == [System("ComfyUI", (), False, ("sd15.ckpt",))]
    assert found(prompt(save=("S", {"images": ["l", 0]}), l=("LoadImage", {"image": "a.png"}))) == []


def actions(told: Story):
    return story.manifest(told, PNG)["assertions"][0]["data"]["actions"]


MADE, TONED = System("EditMGT", ("Sample",), False, ()), System("BlazeEdit", ("Tone",), True, ())


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        (Story("x", (MADE,)), GENERATED),
        (Story("x", (MADE,), loaded=True), COMPOSITE),
        (Story("x", (TONED,), loaded=True), ENHANCED),
        (Story("x"), CREATED),
    ],
)
def test_without_a_source_the_picture_was_created_and_how(told, kind):
    first = actions(told)[0]
    assert first == {"action": "c2pa.created", "digitalSourceType": kind}


def test_with_a_source_it_was_opened_and_then_edited_system_by_system():
    opened, one, two = actions(Story("x", (MADE, TONED), Source("a.png", PNG, b"")))
    assert opened["action"] == "c2pa.opened"
    assert [a["digitalSourceType"] for a in (one, two)] == [COMPOSITE, ENHANCED]
    assert [a["softwareAgent"]["name"] for a in (one, two)] == ["EditKit EditMGT", "EditKit BlazeEdit"]


def test_comfyuis_version_stands_beside_the_packs():
    told = story.manifest(Story("x", host={"comfyui": "0.3.64"}), PNG)
    assert told["claim_generator_info"][0]["org.editkit.comfyui"] == "0.3.64"


def test_a_region_has_its_box_and_share_and_an_empty_mask_has_none():
    mask = torch.zeros(40, 60)
    mask[4:8, 10:20] = 0.5
    region = story.region(mask)
    assert region.box == (10, 4, 10, 4) and region.share == pytest.approx(20 / 2400)
    assert story.region(torch.zeros(40, 60)) is None


def test_a_large_mask_becomes_a_small_thumbnail():
    region = story.region(torch.ones(3000, 4000))
    assert region.box == (0, 0, 4000, 3000) and len(region.mask) < 5000
