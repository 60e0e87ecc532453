"""`train icedit export`: what was trained, in the files and under the names that the release has."""

import argparse
import json
from pathlib import Path

from ...models.errors import EditError
from ...models.icedit.lora import ROUTING, SOFTMAX_FIRST
from ..prepared import TYPES
from ..store import Store, write_weights
from . import adapters, running

FILES = {"lora": "pytorch_lora_weights.safetensors", "mixture": "ICEdit-MoE-LoRA.safetensors"}


def export(arguments: argparse.Namespace, store: Store) -> dict:
    """Writes what is named, or what there is. Returns where. EditError for nothing trained."""
    card, wanted = running.card_of(store), [arguments.trained] if arguments.trained else list(FILES)
    name = store.last(wanted)
    if name is None:
        raise EditError(f"{store.root} holds no trained {' or '.join(wanted)}; name the --state of a training.")
    choice = adapters.Choice(**card["choices"][name])
    told = {"format": "pt", "recipe": json.dumps(card["recipes"][name])}
    if choice.softmax_first:
        told[ROUTING] = SOFTMAX_FIRST
    path = Path(arguments.out).expanduser() if arguments.out else store.root / "export" / FILES[name]
    state = adapters.to_file(store.read_part(name), choice)
    write_weights(path, state, TYPES[arguments.dtype], told)
    summary = {"written": str(path), "kind": name, "tensors": len(state), "megabytes": path.stat().st_size / 1e6}
    return summary if choice.chosen == 1 else summary | {"experts_per_token": choice.chosen}
