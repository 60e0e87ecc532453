"""What credentials tell of a picture: the systems that edited it, read off the workflow, its source and its region."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING

from ..picture_file import PNG
from ..version import pack_version

if TYPE_CHECKING:
    from torch import Tensor

GENERATOR = "ComfyUI-EditKit"
IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype/"
COMPOSITE = IPTC + "compositeWithTrainedAlgorithmicMedia"  # a photo, part of which a trained network made
GENERATED = IPTC + "trainedAlgorithmicMedia"  # all of it a trained network's
ENHANCED = IPTC + "algorithmicallyEnhanced"  # the photo's own content, corrected
CREATED = IPTC + "digitalCreation"  # made on a computer without a trained network
# The menu's category of a node → the system that software is called by.
SYSTEMS = {"blazeedit": "BlazeEdit", "swiftedit": "SwiftEdit", "editmgt": "EditMGT", "kontext": "FLUX.1 Kontext",
           "icedit": "ICEdit"}  # fmt: skip
ENHANCING = {"EditKitTone", "EditKitRelight", "EditKitSticker"}  # these put in nothing that the photo did not have
OWN_WEIGHTS = {"BlazeEdit", "EditMGT"}  # the others are built on ComfyUI's own loaders
FILES = (".safetensors", ".sft", ".gguf", ".ckpt", ".pt", ".pth", ".bin", ".onnx")
LOADERS = {"EditKitLoadBlazeEdit": "model", "EditKitLoadSwiftEdit": "release", "EditKitLoadEditMGT": "release"}
SHIPPED = "blazeedit-small"
MASK_SIDE = 512  # of the region's thumbnail


@dataclass(frozen=True)
class System:
    """A system that took part: its name, what its nodes are called, whether it only corrects, and its weights."""

    name: str
    nodes: tuple[str, ...]
    enhancing: bool
    weights: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """The picture that was edited: a file's name, type and bytes, with the credentials that it carries."""

    title: str
    kind: str
    data: bytes


@dataclass(frozen=True)
class Region:
    """Where pixels were changed: a small PNG of the mask, its box (x, y, width, height) in pixels, its share 0..1."""

    mask: bytes
    box: tuple[int, int, int, int]
    share: float


@dataclass(frozen=True)
class Story:
    """All of it. loaded: whether any picture went into the workflow; host: further software, name → version."""

    title: str
    systems: tuple[System, ...] = ()
    source: Source | None = None
    region: Region | None = None
    loaded: bool = False
    host: Mapping[str, str] = field(default_factory=dict)


def upstream(prompt: Mapping, node_id: str, inputs: tuple[str, ...] = ()) -> list[str]:
    """The nodes that a node depends on (through `inputs` alone, if any are given), sources first.

    All nodes of the workflow where it has none of that id: one that grew out of an expansion.
    """
    if node_id not in prompt:
        return list(prompt)
    found: dict[str, None] = {}
    todo = [(link, False) for name, link in prompt[node_id]["inputs"].items() if not inputs or name in inputs]
    todo = [(link[0], done) for link, done in reversed(todo) if _is_link(link, prompt)]
    while todo:  # depth first without recursion: a chain may be of any length
        current, done = todo.pop()
        if done:
            found.setdefault(current)
        elif current not in found:
            links = [v[0] for v in prompt[current].get("inputs", {}).values() if _is_link(v, prompt)]
            todo += [(current, True), *((other, False) for other in reversed(links) if other not in found)]
            if len(todo) > 100 * len(prompt):  # a cycle, which no host would have run
                break
    return list(found)


def _is_link(value: object, prompt: Mapping) -> bool:
    return isinstance(value, list) and len(value) == 2 and value[0] in prompt


def systems(prompt: Mapping, nodes: list[str], categories: Mapping[str, str], names: Mapping[str, str]) -> list[System]:
    """The systems among these nodes, in the order in which they first came to work.

    categories, names: class → category and display name, of EditKit's own nodes. Weights are named by their files,
    without folders. A workflow that loads weights without any node of EditKit's is ComfyUI's own.
    """
    kinds = {node: prompt[node].get("class_type", "") for node in nodes}
    by_system: dict[str, list[str]] = {}
    for node in nodes:
        system = SYSTEMS.get(categories.get(kinds[node], "").rpartition("/")[2])
        if system:
            by_system.setdefault(system, []).append(node)
    files = _weight_files(prompt, [n for n in nodes if kinds[n] not in categories])
    if not by_system and files:
        return [System("ComfyUI", (), False, tuple(files))]
    return [_system(name, own, prompt, kinds, names, files) for name, own in by_system.items()]


def _system(name: str, nodes: list[str], prompt: Mapping, kinds: Mapping, names: Mapping, files: list[str]) -> System:
    working = [n for n in nodes if kinds[n] not in LOADERS]
    own = [str(prompt[n]["inputs"].get(LOADERS[kinds[n]], "")) for n in nodes if kinds[n] in LOADERS]
    own += _weight_files(prompt, nodes)
    if name == "BlazeEdit":
        bare = any("model" not in prompt[n]["inputs"] for n in working)
        own = [SHIPPED if w == "shipped" else w for w in own] + ([SHIPPED] if bare else [])
    elif name not in OWN_WEIGHTS:
        own += files
    own = [PurePath(w.replace("\\", "/")).name for w in own if w]
    said = tuple(dict.fromkeys(names.get(kinds[n], kinds[n]) for n in working))
    return System(name, said, all(kinds[n] in ENHANCING for n in working), tuple(dict.fromkeys(own)))


def _weight_files(prompt: Mapping, nodes: list[str]) -> list[str]:
    """The names of weight files among the constants of these nodes."""
    values = [v for n in nodes for v in prompt[n].get("inputs", {}).values() if isinstance(v, str)]
    names = [PurePath(v.replace("\\", "/")).name for v in values if v.lower().endswith(FILES)]
    return list(dict.fromkeys(names))


def region(mask: "Tensor") -> Region | None:
    """The region of a mask [h, w] of the picture's size, 0..1; None for one that is empty."""
    import torch
    from PIL import Image

    inside = mask > 0
    if not bool(inside.any()):
        return None
    rows, columns = (torch.nonzero(inside.any(dim)).flatten().tolist() for dim in (1, 0))
    box = columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1
    picture = Image.fromarray((mask.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy())
    picture.thumbnail((MASK_SIDE, MASK_SIDE), Image.Resampling.BOX)
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return Region(file.getvalue(), box, float(mask.clamp(0, 1).mean()))


def manifest(story: Story, kind: str) -> dict:
    """The story as c2pa's manifest definition (C2PA 2.2: claim v2, c2pa.actions.v2, c2pa.ingredient.v3)."""
    generator = {"name": GENERATOR, "version": pack_version()}
    generator |= {f"org.editkit.{name}": version for name, version in story.host.items()}
    actions = [_first(story), *(_edited(system, story) for system in story.systems or (None,))]
    return {
        "claim_generator_info": [generator],
        "title": story.title,
        "format": kind,
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": actions}}],
    }


def _first(story: Story) -> dict:
    """Every history begins with c2pa.opened, of the source, or c2pa.created."""
    if story.source is not None:
        return {"action": "c2pa.opened", "parameters": {"ingredientIds": ["source"]}}
    if not story.systems:
        kind = CREATED
    elif all(system.enhancing for system in story.systems):
        kind = ENHANCED
    else:
        kind = COMPOSITE if story.loaded else GENERATED
    return {"action": "c2pa.created", "digitalSourceType": kind}


def _edited(system: System | None, story: Story) -> dict:
    """One c2pa.edited by one system, or by the workflow as such where none took part."""
    action: dict = {"action": "c2pa.edited"}
    parameters: dict = {}
    if system is None:
        action["softwareAgent"] = {"name": GENERATOR, "version": pack_version()}
    else:
        own = system.name != "ComfyUI"
        agent = {"name": f"EditKit {system.name}" if own else system.name}
        version = pack_version() if own else story.host.get("comfyui")
        action["softwareAgent"] = agent | ({"version": version} if version else {})
        action["digitalSourceType"] = ENHANCED if system.enhancing else COMPOSITE
        if system.nodes:
            action["description"] = ", ".join(system.nodes)
        if system.weights:
            parameters["org.editkit.weights"] = list(system.weights)
    if story.region is not None:
        parameters["ingredientIds"] = ["region"]
        action["changes"] = [_change(story.region)]
    return action | ({"parameters": parameters} if parameters else {})


def _change(changed: Region) -> dict:
    x, y, width, height = changed.box
    shape = {"type": "rectangle", "unit": "pixel", "origin": {"x": x, "y": y}, "width": width, "height": height}
    said = f"{changed.share:.1%} of the picture, within this rectangle; the ingredient 'changed region' is its mask"
    return {"region": [{"type": "spatial", "shape": shape}], "description": said}


def region_ingredient() -> dict:
    """The mask as an ingredient that was given to the systems (inputTo); its thumbnail is the mask itself."""
    thumbnail = {"format": PNG, "identifier": "region.png"}
    return {"title": "changed region", "relationship": "inputTo", "label": "region", "thumbnail": thumbnail}
