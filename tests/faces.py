"""AuraFace without its weights: two files by its names, and an onnxruntime whose networks are written out here."""

import sys
import types

import numpy as np

EMBEDDER, DETECTOR = "glintr100.onnx", "scrfd_10g_bnkps.onnx"
FACE_AT = 4 * 20 + 4  # cell of the detector's grid of stride 32


class Session:
    """The detector finds one face at one place, and none on a black picture; a face's embedding is its mean colour."""

    def __init__(self, path, providers):
        self.finds = "scrfd" in path

    def get_inputs(self):
        return [types.SimpleNamespace(name="x", shape=[1, 3, 640, 640] if self.finds else [1, 3, 112, 112])]

    def run(self, outputs, feed):
        x = feed["x"]
        return self._found(x) if self.finds else [x.mean((2, 3)) + 2]  # 1..3

    def _found(self, x):
        from editkit.models.kontext.face import TEMPLATE

        found = [np.zeros((2 * (640 // s) ** 2, n), np.float32) for n in (1, 4, 10) for s in (8, 16, 32)]
        if x.max() > 0:
            found[2][2 * FACE_AT], found[5][2 * FACE_AT] = 0.9, 2
            found[8][2 * FACE_AT] = ((np.array(TEMPLATE) - 56) / 32).ravel()
        return found


def install(monkeypatch, folder) -> None:
    """Puts AuraFace's two files into the folder, and that onnxruntime in the place of the real one."""
    for name in (EMBEDDER, DETECTOR):
        (folder / name).write_bytes(b"x")
    package = types.ModuleType("onnxruntime")
    package.InferenceSession, package.__spec__ = Session, types.SimpleNamespace(name="onnxruntime")
    monkeypatch.setitem(sys.modules, "onnxruntime", package)
