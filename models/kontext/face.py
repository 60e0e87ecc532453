"""Who a face is: a detector (SCRFD) and an embedder (AuraFace, ArcFace's kind) from local ONNX files (Fig. 12).

Both files are in fal/AuraFace-v1: scrfd_10g_bnkps.onnx and glintr100.onnx. onnxruntime is imported when they are read.
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import EditError
from ..image import resize
from ..masks import bounding_box

SIDE = 112  # px: what ArcFace's kind sees
# eyes, nose and corners of the mouth, (x, y) on that square: what such networks were trained on
TEMPLATE = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
CANVAS, SCORE, OVERLAP = 640, 0.5, 0.4
AROUND = 1.25  # side of what is cut out around a face that was only marked, over the mark's longer side


@dataclass(frozen=True)
class Face:
    """A found face in pixels of its picture: box (x0, y0, x1, y1), five points [5, 2], and the detector's score."""

    box: Tensor
    points: Tensor
    score: float

    @property
    def area(self) -> float:
        return float((self.box[2] - self.box[0]) * (self.box[3] - self.box[1]))


def can_run() -> bool:
    """Whether onnxruntime is installed."""
    return importlib.util.find_spec("onnxruntime") is not None


def _session(path: Path):
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as problem:  # its own exceptions have no common base
        raise EditError(f"{path.name} cannot be read as an ONNX network ({problem}); download it again.") from problem


class Embedder:
    """A face [3, 112, 112], 0..1, as a vector: ArcFace's kind (AuraFace's glintr100.onnx)."""

    def __init__(self, path: Path):
        self.session, self.name = _session(path), path.name
        shape = self.session.get_inputs()[0].shape
        if len(shape) != 4 or list(shape[1:]) != [3, SIDE, SIDE]:
            raise EditError(f"{path.name} takes {shape}, not [1, 3, 112, 112]; choose AuraFace's glintr100.onnx.")

    def __call__(self, face: Tensor) -> Tensor:
        """[d]. EditError for a network that gives no vector."""
        x = (face[None] * 255 - 127.5) / 127.5
        found = torch.from_numpy(self.session.run(None, {self.session.get_inputs()[0].name: x.float().numpy()})[0])
        if found.ndim != 2 or len(found) != 1 or not bool(torch.isfinite(found).all()):
            raise EditError(f"{self.name} gave {list(found.shape)}, not one finite vector; choose AuraFace's file.")
        return found[0]


class Detector:
    """Faces of a picture by SCRFD with key points (scrfd_…_bnkps.onnx, also AuraFace's and InsightFace's)."""

    def __init__(self, path: Path):
        self.session, self.name = _session(path), path.name
        shape = self.session.get_inputs()[0].shape
        self.side = shape[-1] if isinstance(shape[-1], int) else CANVAS

    def __call__(self, rgb: Tensor) -> list[Face]:
        """Faces of [3, h, w], the largest first. EditError for a network without key points."""
        factor = self.side / max(rgb.shape[-2:])
        size = [max(1, min(self.side, round(n * factor))) for n in rgb.shape[-2:]]
        small = resize(rgb[None].float(), tuple(size), "bilinear")
        canvas = torch.zeros(1, 3, self.side, self.side)
        canvas[..., : size[0], : size[1]] = small * 255
        x = (canvas - 127.5) / 128
        given = self.session.run(None, {self.session.get_inputs()[0].name: x.numpy()})
        found = decoded([torch.from_numpy(g).float() for g in given], self.side, self.name)
        scale = torch.tensor([rgb.shape[-1] / size[1], rgb.shape[-2] / size[0]])
        faces = [Face(f.box * scale.repeat(2), f.points * scale, f.score) for f in found]
        return sorted(faces, key=lambda f: -f.area)


def decoded(outputs: list[Tensor], side: int, name: str = "The detector") -> list[Face]:
    """SCRFD's outputs (scores, box and point distances per stride) as faces on its canvas of side² px.

    Distances are in strides from the anchor's centre: to left, top, right and bottom; to each point. Overlapping
    faces are reduced to the surest. EditError when the kinds do not belong together.
    """
    flat = [o.reshape(-1, o.shape[-1]) for o in outputs]
    kinds = {width: sorted((o for o in flat if o.shape[-1] == width), key=len, reverse=True) for width in (1, 4, 10)}
    if not kinds[1] or not len(kinds[1]) == len(kinds[4]) == len(kinds[10]):
        raise EditError(f"{name} does not give scores, boxes and five points; choose a scrfd_…_bnkps.onnx.")
    faces = []
    for level, (scores, boxes, points) in enumerate(zip(kinds[1], kinds[4], kinds[10], strict=True)):
        stride = 8 * 2**level
        centres = _centres(side, stride, len(scores))
        for i in (scores[:, 0] >= SCORE).nonzero()[:, 0].tolist():
            x, y = centres[i]
            left, top, right, bottom = boxes[i] * stride
            box = torch.stack([x - left, y - top, x + right, y + bottom])
            faces.append(Face(box, centres[i] + points[i].view(5, 2) * stride, float(scores[i, 0])))
    return _surest(faces)


def _centres(side: int, stride: int, count: int) -> Tensor:
    """(x, y) of the anchors of a level, row by row, each cell's anchors together: [count, 2]."""
    cells = side // stride
    y, x = torch.meshgrid(torch.arange(cells), torch.arange(cells), indexing="ij")
    places = torch.stack([x, y], -1).reshape(-1, 2).float() * stride
    return places.repeat_interleave(count // len(places), 0)


def _surest(faces: list[Face]) -> list[Face]:
    """The faces of which none surer overlaps them."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda f: -f.score):
        if all(_overlap(face, other) <= OVERLAP for other in kept):
            kept.append(face)
    return kept


def _overlap(one: Face, other: Face) -> float:
    """Intersection over union."""
    low, high = torch.maximum(one.box[:2], other.box[:2]), torch.minimum(one.box[2:], other.box[2:])
    shared = float((high - low).clamp_min(0).prod())
    return shared / max(one.area + other.area - shared, 1e-9)


def upright(rgb: Tensor, points: Tensor) -> Tensor:
    """The face of [3, h, w] at five points [5, 2], turned and scaled onto the template: [3, 112, 112].

    The similarity that brings the template nearest to the points (least squares; Umeyama 1991).
    """
    source, target = (torch.view_as_complex(p.double().contiguous()) for p in (torch.tensor(TEMPLATE), points))
    a, b = source - source.mean(), target - target.mean()
    turn = (a.conj() * b).sum() / (a.abs() ** 2).sum()
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    places = torch.view_as_real(turn * (torch.complex(x.double(), y.double()) - source.mean()) + target.mean())
    return _sampled(rgb, places, float(turn.abs()))


def cut_out(rgb: Tensor, mark: Tensor) -> Tensor:
    """The square around a face marked white in [h, w], not turned: [3, 112, 112]. EditError when nothing is."""
    top, left, bottom, right = bounding_box(mark[None])
    side = AROUND * max(bottom - top, right - left)
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    step = side / SIDE
    places = torch.stack([
        (left + right) / 2 - side / 2 + (x + 0.5) * step - 0.5, (top + bottom) / 2 - side / 2 + (y + 0.5) * step - 0.5
    ], -1).double()  # fmt: skip
    return _sampled(rgb, places, step)


def _sampled(rgb: Tensor, places: Tensor, step: float) -> Tensor:
    """[3, h, w] at (x, y) [112, 112, 2], black outside; from a smaller copy where the places lie far apart."""
    height, width = rgb.shape[-2:]
    factor = max(1.0, step)
    small = resize(rgb[None].float(), (max(1, round(height / factor)), max(1, round(width / factor))), "bilinear")
    scale = torch.tensor([width, height], dtype=torch.float64)
    grid = ((places + 0.5) / scale * 2 - 1).float()[None]
    return F.grid_sample(small, grid, mode="bilinear", padding_mode="zeros", align_corners=False)[0]
