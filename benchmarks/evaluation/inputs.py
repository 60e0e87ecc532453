"""How a sample reaches a workflow: by the titles of its nodes, or by what --map says."""

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ...headless import workflow
from ...headless.registry import node_classes
from ...models.errors import EditError
from .samples import Picture, Sample

# Title of a node -> the sample's field. `image` and `result` are the workflow's own ends.
FIELDS: dict[str, Callable[[Sample], str | Picture | None]] = {
    "instruction": lambda sample: sample.instruction,
    "source caption": lambda sample: sample.source_caption,
    "target caption": lambda sample: sample.target_caption,
    "mask": lambda sample: sample.mask,
    "reference": lambda sample: sample.reference,
}
WORDS = ("instruction", "source caption", "target caption")


class Inputs:
    """Which names of a workflow are set for each sample, and from which of its fields."""

    def __init__(self, prompt: Mapping, mapped: Sequence[str], file: Path):
        """mapped: NAME=FIELD of the command line; NAME= leaves a node alone that its title would have set.

        EditError for a field that samples do not have, and for a name that the workflow does not have.
        """
        self.file, self.given = file, bool(mapped)
        self.routes = {title: title for title in FIELDS if title in workflow.titles(prompt)}
        for text in mapped:
            name, equals, field = (part.strip() for part in text.partition("="))
            if not equals or not name or field not in ("", *FIELDS):
                raise EditError(f"--map {text!r} is no NAME=FIELD; the fields are {', '.join(FIELDS)}, or none.")
            self.routes.pop(name, None)
            if field:
                self.routes[name] = field
        self._try(prompt)

    def _try(self, prompt: Mapping) -> None:
        registry, trial = node_classes(), copy.deepcopy(dict(prompt))
        for name in self.routes:
            workflow.assign(trial, f"{name}=x", registry)

    @property
    def fields(self) -> set[str]:
        """What of a sample the workflow takes."""
        return set(self.routes.values())

    def check(self, samples: Sequence[Sample], words: bool, what: str) -> None:
        """words: whether the benchmark's edits are told in words. EditError when they cannot reach the workflow, or
        when the workflow wants what not one sample has."""
        if words and not self.given and not self.fields & set(WORDS):
            raise EditError(
                f"{what} tells its edits in words, and {self.file} has no node titled 'instruction' (or 'target "
                "caption'); title one so, or say where they go with --map, such as --map 'ICEdit Diptych."
                "instruction=instruction'."
            )
        for field in sorted(self.fields):
            if not any(FIELDS[field](sample) for sample in samples):
                name = next(name for name, routed in self.routes.items() if routed == field)
                raise EditError(
                    f"The workflow's node {name!r} takes the {field}, and no sample of {what} has one; leave the node "
                    f"as it is with --map '{name}='."
                )

    def sets(self, sample: Sample, folder: Path) -> dict[str, str]:
        """NAME -> VALUE for one sample; its pictures are written into the folder.

        EditError for a sample without what the workflow takes.
        """
        return {name: self._value(sample, field, folder) for name, field in self.routes.items()}

    def _value(self, sample: Sample, field: str, folder: Path) -> str:
        value = FIELDS[field](sample)
        if not value:
            raise EditError(f"This sample has no {field}, which the workflow takes.")
        if isinstance(value, str):
            return value
        path = folder / f"{field}.png"
        (value.grey() if field == "mask" else value.load()).save(path)
        return str(path)
