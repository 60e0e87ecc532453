"""`--c2pa`: a workflow's results signed, by putting Save Edited Image where it saves."""

from collections.abc import Mapping

from ..models.errors import EditError
from ..models.provenance import keys
from .graph import link
from .workflow import titled

SAVE, NODE = "SaveImage", "EditKitSaveEditedImage"
SIGNED = (".png", ".jpg", ".jpeg")
# Outputs of these names are the region that an edit changed.
REGIONS = {"changed"}
REGION_OF = {"EditKitSwiftEdit": "mask"}


def choose() -> str:
    """What to sign with: the user's own certificate, else the self-signed one. EditError before any edit when the
    library or a certificate is missing, or when it cannot sign."""
    from ..nodes.saving import ready

    choice = keys.choose()
    ready(choice)
    return choice


def sign_results(prompt: dict, registry: Mapping[str, type], choice: str | None = None) -> dict:
    """Changes a workflow in place so that all that it saves is signed, and returns it.

    Every SaveImage becomes a Save Edited Image under the same id, title and prefix; the picture titled `image` is its
    source, and the region is what the nearest edit before it says it changed. Those that are there already are
    switched on. choice: of `keys.CHOICES`; None takes choose(). EditError for a workflow that saves nothing.
    """
    choice = choice or choose()
    saving = [i for i, node in prompt.items() if node.get("class_type") in (SAVE, NODE)]
    if not saving:
        raise EditError("The workflow saves no picture that could be signed; give it a SaveImage.")
    for node_id in saving:
        node = prompt[node_id]
        if node["class_type"] == SAVE:
            _replace(node, prompt, registry)
        if node["inputs"].get("credentials", keys.OFF) == keys.OFF:
            node["inputs"]["credentials"] = choice
    return prompt


def _replace(node: dict, prompt: Mapping, registry: Mapping[str, type]) -> None:
    node["class_type"] = NODE
    node["inputs"] |= {"format": "png", "quality": 95, "credentials": keys.OFF}
    image = titled(prompt, "image")
    if image is not None and prompt[image].get("class_type") == "LoadImage":
        node["inputs"]["source"] = [image, 0]
    region = _region(node, prompt, registry)
    if region is not None:
        node["inputs"]["mask"] = region


def _region(node: Mapping, prompt: Mapping, registry: Mapping[str, type]) -> list | None:
    """The link to the changed region, of the node nearest before this one that gives one."""
    todo, seen = [link(node["inputs"].get("images"))], set()
    while todo:  # breadth first: the nearest comes first
        source = todo.pop(0)
        if source is None or source.node in seen or source.node not in prompt:
            continue
        seen.add(source.node)
        kind = prompt[source.node].get("class_type", "")
        names = getattr(registry.get(kind), "RETURN_NAMES", None) or ()
        for slot, name in enumerate(names):
            if name in REGIONS or REGION_OF.get(kind) == name:
                return [source.node, slot]
        todo += [link(value) for value in prompt[source.node]["inputs"].values()]
    return None
