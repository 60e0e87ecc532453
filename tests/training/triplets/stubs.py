"""A build without a process or a port: editors that turn pictures, and models that answer by a function."""

from contextlib import contextmanager
from types import SimpleNamespace

from PIL import Image, ImageOps

from editkit.models.errors import EditError
from editkit.nodes.host.judges import ModelJudge
from editkit.tests.training.triplets import scenes
from editkit.training.triplets import cli
from editkit.training.triplets.tools import Tools

EDITS = {"invert": ImageOps.invert, "mirror": ImageOps.mirror, "same": lambda p: p.copy(),
         "blank": lambda p: Image.new("RGB", p.size, (200, 30, 30)), "half": lambda p: p.reduce(2),
         "tall": lambda p: p.resize((p.width, 2 * p.height))}  # fmt: skip


class Editor:
    """Turns a picture as its file is called; says no to the numbers in `bad`. told: what it was asked."""

    workflow_hash, seeds = "0" * 64, {"3.seed": 7}

    def __init__(self, name: str, bad=()):
        self.name, self.bad, self.told, self.drawn = name, bad, [], []

    def edit(self, image, *, sets=None):
        said = (sets or {}).get("instruction", "")
        self.told.append((image.name, said))
        self.drawn.append((sets or {}).get("3.seed"))
        if any(f"scene {n:02d}" in said for n in self.bad):
            raise EditError("the network did not like it")
        return EDITS[self.name](Image.open(image).convert("RGB"))


class Speaking:
    """A model whose words are a function of (question, pictures)."""

    def __init__(self, name, say):
        self.name, self.say = name, say

    def ask(self, question, pictures):
        return self.say(question, pictures)


def writing(healed=True):
    """The scenes' language model, asked directly."""
    script = scenes.Language(healed)
    return lambda question, pictures: script(SimpleNamespace(question=question))


class World:
    """Tools whose editors and words a test can look at. write, see: (question, pictures) -> words."""

    def __init__(self, write=None, see=None, bad=()):
        self.editors: dict[str, Editor] = {}
        self.write, self.see, self.bad = write or writing(), see or (lambda q, p: "1, it is better."), bad

    def tools(self) -> Tools:
        return Tools(self.editor, self.voice, ModelJudge)

    @contextmanager
    def editor(self, file, server, sets, needed):
        yield self.editors.setdefault(file.stem, Editor(file.stem, self.bad))

    def voice(self, speaker, pictures):
        return Speaking("seer", self.see) if pictures else Speaking("writer", self.write)

    def run(self, images, out, *more, editors=("invert", "mirror")) -> int:
        said = ["build", "--images", images, "--out", out, "--short-side", 32, "--llm", "writer", "--judge", "seer"]
        for name in editors:
            said += ["--editor", f"{name}.json"]
        return cli.main([str(word) for word in (*said, "--skip", "clip", "--workers", 1, *more)], self.tools())
