"""Face similarity (Kontext, Fig. 8f): the cosine of AuraFace embeddings of the largest face before and after."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ....models.errors import EditError
from ....models.kontext import drift, face
from . import finding, missing

EMBEDDER, DETECTOR = "glintr100.onnx", "scrfd_10g_bnkps.onnx"
SIZE, SOURCE = "261 MB and 17 MB", "huggingface.co/fal/AuraFace-v1"


class Faces:
    """AuraFace's two networks by onnxruntime, as in Drift Meter."""

    def __init__(self, models: Path | None):
        if not face.can_run():
            raise missing.package("onnxruntime, which face similarity needs,", "pip install onnxruntime")
        places = finding.places(models)
        paths = [finding.file(name, places) for name in (EMBEDDER, DETECTOR)]
        if None in paths:
            raise missing.weights(f"AuraFace ({EMBEDDER} and {DETECTOR})", SIZE, SOURCE, finding.home(models))
        try:
            self.embed, self.find = face.Embedder(paths[0]), face.Detector(paths[1])
        except EditError as error:
            raise missing.Missing(str(error)) from None
        self.identity = " ".join(f"{path.name} {path.stat().st_size}" for path in paths)

    def similarity(self, one: Image.Image, other: Image.Image) -> float:
        """The cosine, -1..1. NaN where one of the two shows no face."""
        found = [self._face(picture) for picture in (one, other)]
        return float("nan") if None in (found[0], found[1]) else drift.cosine(*found)

    def _face(self, picture: Image.Image) -> torch.Tensor | None:
        rgb = torch.from_numpy(np.asarray(picture, np.float32).transpose(2, 0, 1) / 255)
        faces = self.find(rgb)
        return self.embed(face.upright(rgb, faces[0].points)) if faces else None
