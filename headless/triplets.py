"""`data`: hands the builder of training triplets what only this side knows, workflows as editors and the judges."""

import copy
from collections.abc import Sequence
from pathlib import Path

from . import workflow
from .editor import Editor
from .errors import EditError


def main(argv: list[str]) -> int:
    """Runs `data build` or `data look`; its exit status."""
    from ..training.triplets import cli
    from ..training.triplets.tools import Tools

    return cli.main(argv, Tools(editor, voice, judge))


def editor(file: Path, server: str | None, sets: Sequence[str], needed: Sequence[str]) -> Editor:
    """An Editor whose workflow has these titles besides image and result. EditError for one without."""
    made = Editor(file, server=server, sets=sets)
    for title in needed:
        try:
            workflow.assign(copy.deepcopy(made.work.prompt), f"{title}=", made.registry)
        except EditError as error:
            raise EditError(
                f"{file} does not take the instruction ({str(error).rstrip('.')}); title the node that does {title!r}, "
                "or name it with --instruction-title (none for an editor that does one thing)."
            ) from None
    return made


def voice(speaker, pictures: bool):
    """A model to ask: an endpoint, a vision-language model below models/editkit, or a language model's folder."""
    from ..nodes.host.endpoint import Endpoint
    from ..nodes.host.vision_models import LocalModel

    if speaker.remote:
        return Endpoint(
            speaker.place, speaker.model, speaker.key_variable, speaker.seconds, speaker.retries,
            tokens=speaker.tokens, temperature=speaker.temperature,
        )  # fmt: skip
    if pictures:
        return LocalModel(speaker.place, speaker.tokens)
    from ..training.triplets.language import Language

    return Language(Path(speaker.place).expanduser(), speaker.tokens, speaker.temperature)


def judge(asked, swapped: bool):
    """The judge of the ICEdit nodes, who compares two at a time."""
    from ..nodes.host.judges import ModelJudge

    return ModelJudge(asked, swapped)
