"""The models behind the metrics, each loaded once when the first metric asks for it."""

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path

from ....models.errors import EditError
from .judge import Judge, Wanted
from .missing import Missing, package

PIXELS, LPIPS, CLIP_B32, CLIP_L14 = "pixels", "lpips", "clip-b32", "clip-l14"
DINO_S16, DINO_B8, JUDGE, FACE = "dino-s16", "dino-b8", "judge", "face"


@dataclass
class Engines:
    """models: where metric models are looked for first; judge: who gives VIE-Score's marks."""

    models: Path | None = None
    judge: Wanted = field(default_factory=Wanted)
    _held: dict = field(default_factory=dict)

    def get(self, name: str):
        """The engine. Missing, in one sentence, when it cannot be had; asking again costs nothing."""
        if name not in self._held:
            try:
                self._held[name] = self._made(name)
            except Missing as missing:
                self._held[name] = missing
        if isinstance(self._held[name], Missing):
            raise self._held[name]
        return self._held[name]

    def missing(self, name: str) -> str:
        """Why an engine cannot be had, or nothing."""
        try:
            self.get(name)
        except Missing as missing:
            return missing.sentence
        return ""

    def identities(self) -> dict[str, str]:
        """Engine -> what it is, of those that were loaded."""
        held = {name: getattr(engine, "identity", "") for name, engine in self._held.items()}
        return {name: identity for name, identity in held.items() if identity}

    def _made(self, name: str):
        from . import clip, dino, face, perceptual, transformer

        makers = {
            PIXELS: _pixels,
            LPIPS: lambda: perceptual.Lpips(self.models),
            CLIP_B32: lambda: clip.Clip(transformer.CLIP_B32, self.models),
            CLIP_L14: lambda: clip.Clip(transformer.CLIP_L14, self.models),
            DINO_S16: lambda: dino.Dino(transformer.DINO_S16, self.models),
            DINO_B8: lambda: dino.Structure(transformer.DINO_B8, self.models),
            FACE: lambda: face.Faces(self.models),
            JUDGE: lambda: Judge(self.judge),
        }
        if name not in makers:
            raise EditError(f"There is no metric engine {name!r}.")
        return makers[name]()


def _pixels():
    """torchmetrics, of which PSNR and SSIM are."""
    if importlib.util.find_spec("torchmetrics") is None:
        raise package("torchmetrics", "pip install -r requirements-eval.txt")
    return PIXELS
