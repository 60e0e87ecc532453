"""Drift Meter as the canvas calls it, with lists and batches; Kontext Turn without ComfyUI."""

import math
import types

import numpy as np
import pytest
import torch

from editkit.models.errors import EditError
from editkit.models.kontext import face
from editkit.nodes import NODE_CLASS_MAPPINGS
from editkit.nodes.host import embeddings
from editkit.tests import faces
from editkit.tests.nodes.test_blazeedit import image, mask, run

NAMES = NODE_CLASS_MAPPINGS["EditKitDriftMeter"].RETURN_NAMES


def meter(**inputs):
    """Outputs by name; every input as the list that ComfyUI hands over."""
    listed = {name: value if isinstance(value, list) else [value] for name, value in inputs.items()}
    found = run("EditKitDriftMeter", **{"face_model": ["none"], "face_detector": ["none"], **listed})
    return dict(zip(NAMES, found, strict=True))


def turns(count=3):
    return torch.cat([0.1 + 0.6 * image() + 0.04 * k for k in range(count + 1)])


def test_a_batch_a_list_and_a_first_picture_are_the_same_session():
    batch = turns()
    kept = batch.clone()
    one = meter(images=batch)
    two = meter(images=[batch[:2], batch[2:]])
    three = meter(images=[batch[1:]], first=batch[:1])
    bare = NODE_CLASS_MAPPINGS["EditKitDriftMeter"]().run(images=batch, face_model="none", face_detector="none")
    assert one["text"] == two["text"] == three["text"] == bare[1] and torch.equal(batch, kept)
    assert torch.equal(one["plot"], three["plot"]) and one["plot"].ndim == 4
    assert one["psnr_first"] == pytest.approx(-20 * math.log10(0.12), abs=1e-3)
    assert one["psnr_previous"] == pytest.approx(-20 * math.log10(0.04), abs=1e-3)
    assert all(isinstance(one[name], float) for name in NAMES[2:])
    assert math.isnan(one["clip_first"]) and math.isnan(one["face_previous"])


def test_the_edit_is_left_out():
    first, region = image(), mask()
    edited = torch.where(region[..., None] > 0, 1 - first, first)
    found = meter(images=torch.cat([first, edited]), mask=region)
    assert found["psnr_first"] == 99 and found["delta_e_first"] == 0 and found["ssim_first"] == pytest.approx(1)
    assert "outside the mask" in found["text"]
    assert meter(images=torch.cat([first, edited]), mask=torch.zeros(1, 64, 64))["psnr_first"] < 20  # no mask


def test_turns_may_have_masks_of_their_own():
    first, upper, lower = image(), torch.zeros(1, 70, 90), torch.zeros(1, 35, 45)
    upper[:, :20], lower[:, 25:] = 1, 1
    one = torch.where(upper[..., None] > 0, 0.0, first)
    two = one.clone()
    two[:, 55:] = 1
    found = meter(images=torch.cat([first, one, two]), mask=[upper, lower])
    assert found["psnr_first"] == found["psnr_previous"] == 99


class Vision:
    """CLIP vision whose embedding is the mean colour."""

    def encode_image(self, picture, crop):
        assert crop is False and picture.shape[0] == 1
        return {"image_embeds": picture.mean((1, 2))}


def test_a_clip_vision_gives_the_cosine():
    red, green = torch.zeros(1, 8, 8, 3), torch.zeros(1, 8, 8, 3)
    red[..., 0], green[..., 1] = 1, 1
    found = meter(images=torch.cat([red, red + green, green]), clip_vision=Vision())
    assert found["clip_first"] == pytest.approx(0) and found["clip_previous"] == pytest.approx(0.5**0.5)


def test_a_clip_vision_without_an_embedding_is_named():
    vision = types.SimpleNamespace(encode_image=lambda picture, crop: {"image_embeds": None})
    with pytest.raises(EditError, match="no embedding"):
        meter(images=turns(1), clip_vision=vision)


@pytest.fixture
def auraface(monkeypatch, tmp_path):
    """AuraFace's two files as a user has them, answered by stand-ins."""
    folder = tmp_path / "models" / "editkit"
    (folder / "auraface").mkdir(parents=True)
    faces.install(monkeypatch, folder / "auraface")
    monkeypatch.setattr(embeddings, "roots", lambda: [folder])
    return {"face_model": f"auraface/{faces.EMBEDDER}", "face_detector": f"auraface/{faces.DETECTOR}"}


def test_faces_are_found_and_compared(auraface):
    red, blue = torch.zeros(1, 96, 96, 3), torch.zeros(1, 96, 96, 3)
    red[..., 0], blue[..., 2] = 1, 1
    found = meter(images=torch.cat([red, red, blue, 0 * red]), **auraface)
    lines = [line.split() for line in found["text"].splitlines() if line.strip()[:1].isdigit()]
    a, b = np.array([3.0, 1, 1]), np.array([1.0, 1, 3])
    assert float(lines[0][-1]) == pytest.approx(1) and lines[2][-1] == "-"
    assert float(lines[1][-1]) == pytest.approx(a @ b / (a @ a), abs=1e-3)
    assert math.isnan(found["face_first"]) and "No face was found in picture 3." in found["text"]


def test_a_marked_face_needs_no_detector(auraface):
    marked = meter(images=turns(1), faces=mask(), **{**auraface, "face_detector": "none"})
    assert marked["face_first"] == pytest.approx(1, abs=0.05) and "not turned upright" in marked["text"]
    without = meter(images=turns(1), **{**auraface, "face_detector": "none"})
    assert math.isnan(without["face_first"]) and embeddings.NO_FACE in without["text"]


def test_without_onnxruntime_faces_are_left_out_with_a_note(auraface, monkeypatch):
    monkeypatch.setattr(face, "can_run", lambda: False)
    found = meter(images=turns(1), **auraface)
    assert math.isnan(found["face_first"]) and "pip install onnxruntime" in found["text"]


def test_the_files_are_offered_and_one_that_is_gone_is_named(auraface):
    kinds = NODE_CLASS_MAPPINGS["EditKitDriftMeter"].INPUT_TYPES()["required"]
    assert kinds["face_model"][0] == ["none", "auraface/glintr100.onnx", "auraface/scrfd_10g_bnkps.onnx"]
    with pytest.raises(EditError, match="no ONNX file 'gone.onnx'"):
        meter(images=turns(1), **{**auraface, "face_model": "gone.onnx"})


@pytest.mark.parametrize(("inputs", "said"), [
    ({"images": image()}, "nothing to compare"),
    ({"images": [image(), image(h=90, w=70)]}, "turns of one session have one shape"),
    ({"images": turns(2), "mask": torch.ones(3, 9, 9)}, "3 masks do not fit 2"),
    ({"images": turns(1) * float("nan")}, "NaN"),
])  # fmt: skip
def test_bad_input_is_named(inputs, said):
    with pytest.raises(EditError, match=said):
        meter(**inputs)


def test_a_turn_needs_comfyui():
    with pytest.raises(EditError, match="run this workflow in ComfyUI"):
        run("EditKitKontextTurn", model=None, conditioning=[], latent={"samples": torch.zeros(1, 16, 4, 4)})
