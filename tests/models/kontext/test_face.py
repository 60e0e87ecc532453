"""Faces by networks that are stood in for: what goes into them, what comes out, and where a face is cut out."""

import sys
import types

import numpy as np
import pytest
import torch
from skimage.transform import SimilarityTransform

from editkit.models.errors import EditError
from editkit.models.kontext import face

TURN = SimilarityTransform(scale=1.7, rotation=0.4, translation=(150.0, 60.0))  # template to picture


def ramps(height=360, width=480):
    """A picture whose red is x and whose green is y, in shares of 1024 px."""
    y, x = torch.meshgrid(torch.arange(height) / 1024, torch.arange(width) / 1024, indexing="ij")
    return torch.stack([x, y, torch.full_like(x, 0.5)])


def points(noise=0.0):
    clean = TURN(np.array(face.TEMPLATE))
    return clean + noise * np.random.default_rng(0).standard_normal(clean.shape)


class Session:
    """An onnxruntime session that answers from a function."""

    def __init__(self, shape, answer):
        self.shape, self.answer, self.seen = shape, answer, []

    def get_inputs(self):
        return [types.SimpleNamespace(name="input.1", shape=self.shape)]

    def run(self, outputs, feed):
        self.seen.append(feed["input.1"])
        return self.answer(feed["input.1"])


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """installed(shape, answer): a file whose network answers so."""

    def make(shape, answer):
        session = Session(shape, answer)
        package = types.ModuleType("onnxruntime")
        package.InferenceSession = lambda path, providers: session
        monkeypatch.setitem(sys.modules, "onnxruntime", package)
        return tmp_path / "net.onnx", session

    return make


@pytest.mark.parametrize("noise", [0.0, 3.0])
def test_a_face_is_turned_onto_the_template_as_umeyama_says(noise):
    found = face.upright(ramps(), torch.from_numpy(points(noise)))
    estimated = SimilarityTransform.from_estimate(np.array(face.TEMPLATE), points(noise))
    y, x = np.mgrid[8:104, 8:104]
    expected = estimated(np.stack([x.ravel(), y.ravel()], 1)).reshape(96, 96, 2)
    ours = found[:2, 8:104, 8:104].permute(1, 2, 0).numpy() * 1024
    assert np.abs(ours - expected).max() < 0.6  # px; it is read from a smaller copy


def test_a_marked_face_is_cut_out_as_a_square_around_it():
    mark = torch.zeros(360, 480)
    mark[100:180, 200:260] = 1
    found = face.cut_out(ramps(), mark)
    side = face.AROUND * 80
    xs, ys = (found[i].mean().item() * 1024 for i in (0, 1))
    assert xs == pytest.approx(229.5, abs=0.5) and ys == pytest.approx(139.5, abs=0.5)
    across = (found[0, 56, -1] - found[0, 56, 0]).item() * 1024
    assert across == pytest.approx(side * 111 / 112, rel=0.01)


def test_the_embedder_sees_what_arcface_was_trained_on(installed):
    path, session = installed([None, 3, 112, 112], lambda x: [x.reshape(1, -1)[:, :512]])
    image = torch.rand(3, 112, 112, generator=torch.Generator().manual_seed(0))
    assert face.Embedder(path)(image).shape == (512,)
    assert session.seen[0].shape == (1, 3, 112, 112) and session.seen[0].dtype == np.float32
    assert np.abs(session.seen[0][0] - (image.numpy() * 255 - 127.5) / 127.5).max() < 1e-5


def outputs(faces, side=640, anchors=2, batch=False):
    """SCRFD's nine outputs for faces (score, box, points) on its canvas: each at the anchor nearest to its middle."""
    made = []
    for stride, wanted in zip((8, 16, 32), faces):
        cells = side // stride
        scores, boxes, marks = (np.zeros((cells * cells * anchors, n), np.float32) for n in (1, 4, 10))
        for score, (x0, y0, x1, y1), five in wanted:
            column, row = (round((a + b) / 2 / stride) for a, b in ((x0, x1), (y0, y1)))
            x, y, place = column * stride, row * stride, (row * cells + column) * anchors + 1
            scores[place], boxes[place] = score, np.array([x - x0, y - y0, x1 - x, y1 - y]) / stride
            marks[place] = ((np.array(five) - [x, y]) / stride).ravel()
        made.append((scores, boxes, marks))
    flat = [level[kind] for kind in range(3) for level in made]
    return [x[None] for x in flat] if batch else flat


FIVE = [(310.0, 210.0), (350, 212), (330, 235), (315, 255), (345, 256)]


@pytest.mark.parametrize("batch", [False, True])
def test_the_detectors_outputs_are_read(batch):
    large = (0.9, (280.0, 180.0, 380.0, 300.0), FIVE)
    small = (0.8, (100.0, 90.0, 130.0, 125.0), [(x / 8 + 80, y / 8 + 80) for x, y in FIVE])
    double = (0.6, (284.0, 184.0, 376.0, 296.0), FIVE)
    weak = (0.3, (500.0, 500.0, 560.0, 560.0), FIVE)
    given = [torch.from_numpy(x) for x in outputs([[small], [double, weak], [large]], batch=batch)]
    found = face.decoded(given, 640)
    assert [round(f.score, 1) for f in found] == [0.9, 0.8]
    assert torch.allclose(found[0].box, torch.tensor(large[1]), atol=1e-3)
    assert torch.allclose(found[0].points, torch.tensor(FIVE), atol=1e-3)


def test_found_faces_are_in_the_pictures_own_pixels_the_largest_first(installed):
    near, far = (0.7, (280.0, 180.0, 380.0, 300.0), FIVE), (0.9, (100.0, 90.0, 130.0, 125.0), FIVE)
    path, session = installed(["b", 3, "h", "w"], lambda x: outputs([[far], [], [near]]))
    found = face.Detector(path)(ramps(720, 1280))  # half as large on the canvas
    assert torch.allclose(found[0].box, 2 * torch.tensor(near[1]), atol=1e-2)
    assert torch.allclose(found[0].points, 2 * torch.tensor(FIVE), atol=1e-2) and len(found) == 2
    seen = session.seen[0]
    assert seen.shape == (1, 3, 640, 640)
    assert seen[0, 0, 100, 600] == pytest.approx((1200.5 / 1024 * 255 - 127.5) / 128, abs=0.01)
    assert seen[0, 0, 400, 10] == pytest.approx(-127.5 / 128)  # below the picture


def test_other_networks_are_named(installed):
    path, _ = installed([1, 3, 224, 224], lambda x: [x])
    with pytest.raises(EditError, match="choose AuraFace's glintr100.onnx"):
        face.Embedder(path)
    path, _ = installed([1, 3, 112, 112], lambda x: [np.full((1, 512), np.nan)])
    with pytest.raises(EditError, match="not one finite vector"):
        face.Embedder(path)(torch.zeros(3, 112, 112))
    path, _ = installed([1, 3, 640, 640], lambda x: outputs([[], [], []])[:6])
    with pytest.raises(EditError, match="choose a scrfd_…_bnkps.onnx"):
        face.Detector(path)(ramps())


def test_a_file_that_is_no_network_is_named(monkeypatch, tmp_path):
    package = types.ModuleType("onnxruntime")

    def refuse(path, providers):
        raise RuntimeError("no protobuf")

    package.InferenceSession = refuse
    monkeypatch.setitem(sys.modules, "onnxruntime", package)
    with pytest.raises(EditError, match="net.onnx cannot be read.*no protobuf"):
        face.Embedder(tmp_path / "net.onnx")
