"""VIE-Score by the judges of the ICEdit nodes: a vision model behind an address, or one in a local folder."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from ....models.icedit import vie
from ....models.icedit.judging import JudgeFailed
from ....nodes.host.endpoint import Endpoint
from ....nodes.host.judges import ModelJudge
from ....nodes.host.vision_models import LocalModel
from . import missing


@dataclass(frozen=True)
class Wanted:
    """Which judge the user named: an endpoint (url, model, the NAME of the key's variable), or a folder's name."""

    url: str = ""
    model: str = ""
    key_variable: str = ""
    folder: str = ""


class Judge:
    """Marks for edits. A judge that is down is not asked again in this run."""

    def __init__(self, wanted: Wanted):
        if wanted.url:
            voice = Endpoint(wanted.url, wanted.model, wanted.key_variable)
        elif wanted.folder:
            voice = LocalModel(wanted.folder)
        else:
            raise missing.Missing("No judge is named: --judge-url and --judge-model, or --judge FOLDER.")
        self.judge, self.down = ModelJudge(voice), ""
        self.identity = f"judge {voice.name}"

    def score(self, source: Image.Image, result: Image.Image, instruction: str) -> vie.Scores:
        """SC's two marks and PQ's. JudgeFailed, in one sentence, when the judge gives none."""
        if self.down:
            raise JudgeFailed(self.down, down=True)
        try:
            return self.judge.score(_tensor(source), _tensor(result), instruction)
        except JudgeFailed as failed:
            self.down = str(failed) if failed.down else ""
            raise


def _tensor(picture: Image.Image) -> torch.Tensor:
    """[3, h, w] in 0..1."""
    return torch.from_numpy(np.asarray(picture, np.float32).transpose(2, 0, 1) / 255)
