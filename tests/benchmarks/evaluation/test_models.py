"""Metrics of models, tiny and random, against transformers' own way, hand-written formulas and a loopback judge."""

import math
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from editkit.benchmarks.evaluation.metrics import clip, dino, face, judge, perceptual, transformer, views
from editkit.benchmarks.evaluation.metrics.engines import Engines
from editkit.benchmarks.evaluation.metrics.missing import Missing
from editkit.models.icedit.judging import JudgeFailed
from editkit.tests import faces
from editkit.tests.benchmarks.evaluation import layouts
from editkit.tests.loopback_judge import serving

ONE, OTHER = layouts.photographs()[0], layouts.edited(layouts.photographs()[0])
CAPTION = "a dog in a doorway"


@pytest.fixture(scope="module")
def scorer(models):
    return clip.Clip(transformer.CLIP_B32, models)


def by_transformers(models, pictures, captions):
    """(image embeddings, text embeddings) of transformers' own processor and model."""
    import transformers

    folder = models / transformer.CLIP_B32.name
    processor = transformers.CLIPProcessor.from_pretrained(folder)
    model = transformers.CLIPModel.from_pretrained(folder)
    with torch.inference_mode():
        made = model(**processor(text=captions, images=pictures, return_tensors="pt", padding=True, truncation=True))
    return F.normalize(made.image_embeds, dim=-1), F.normalize(made.text_embeds, dim=-1)


def test_clip_is_transformers_own(scorer, models):
    images, texts = by_transformers(models, [ONE, OTHER], [CAPTION])
    assert scorer.images(ONE, OTHER) == pytest.approx(float(images[0] @ images[1]), abs=1e-5)
    assert scorer.caption(OTHER, CAPTION) == pytest.approx(float(images[1] @ texts[0]), abs=1e-5)
    assert scorer.images(ONE, ONE) == pytest.approx(1, abs=1e-6)
    assert scorer.score(OTHER, CAPTION) == pytest.approx(max(100 * float(images[1] @ texts[0]), 0), abs=1e-3)


def test_a_long_caption_is_cut(scorer, models):
    _, texts = by_transformers(models, [ONE], ["word " * 60])
    assert torch.allclose(scorer.text("word " * 60), texts[0], atol=1e-5)


def test_the_edited_part_is_seen_alone():
    region = np.asarray(layouts.mask()) > 127
    made = np.asarray(clip.edited(views.values(OTHER), region))
    assert np.array_equal(made, np.asarray(OTHER) * region[..., None])


def test_dino_is_the_cosine_of_the_class_tokens(models, capfd):
    import transformers

    own = dino.Dino(transformer.DINO_S16, models)
    assert capfd.readouterr().err == "", "the pooler that is not needed is nothing to tell of"
    assert transformers.utils.logging.is_progress_bar_enabled()
    model = transformers.ViTModel.from_pretrained(models / "dino-vits16", add_pooling_layer=False).eval()
    vectors = []
    for picture in (ONE, OTHER):  # 256 of 224: 37 of 32
        width, height = picture.size
        resized = picture.resize((int(37 * width / height), 37), Image.Resampling.BICUBIC)
        left = (resized.width - 32) // 2
        square = np.asarray(resized.crop((left, 2, left + 32, 34)), np.float32) / 255
        x = (square - np.float32(dino.MEAN)) / np.float32(dino.DEVIATION)
        with torch.inference_mode():
            vectors.append(model(torch.from_numpy(x.transpose(2, 0, 1))[None]).last_hidden_state[0, 0])
    assert own.images(ONE, OTHER) == pytest.approx(float(F.cosine_similarity(*vectors, dim=0)), abs=1e-5)
    assert own.images(ONE, ONE) == pytest.approx(1, abs=1e-6) and own.images(ONE, OTHER) < 0.9999


def test_the_structure_distance_is_that_of_the_keys_computed_by_hand(models):
    import transformers

    own = dino.Structure(transformer.DINO_B8, models)
    model = transformers.ViTModel.from_pretrained(models / "dino-vitb8", add_pooling_layer=False).eval()
    state = model.state_dict()
    name = next(k for k in state if k.endswith(("key.weight", "k_proj.weight")) and "1." in k)
    bias, norm = name.replace("weight", "bias"), [k for k in state if k.endswith("layernorm_before.weight")][-1]

    def similarity(picture):
        x = torch.from_numpy(np.asarray(picture, np.float32).transpose(2, 0, 1))[None]  # levels, as the official code
        x = F.interpolate(x, (224, 252), mode="bilinear", align_corners=False, antialias=True)
        x = (x - torch.tensor(dino.MEAN).view(3, 1, 1)) / torch.tensor(dino.DEVIATION).view(3, 1, 1)
        with torch.inference_mode():
            hidden = model(x, output_hidden_states=True, interpolate_pos_encoding=True).hidden_states[-2][0]
        hidden = F.layer_norm(hidden, hidden.shape[-1:], state[norm], state[norm.replace("weight", "bias")], 1e-12)
        units = F.normalize(hidden @ state[name].T + state[bias], dim=-1)
        return units @ units.T

    expected = ((similarity(ONE) - similarity(OTHER)) ** 2).mean()
    found = own.distance(views.values(ONE), views.values(OTHER))
    assert found == pytest.approx(float(expected), rel=1e-3) and found > 1e-6
    assert own.distance(views.values(ONE), views.values(ONE)) == 0


@pytest.mark.parametrize(
    ("size", "resized"), [((512, 512), (224, 224)), ((100, 150), (224, 336)), ((900, 300), (480, 160))]
)
def test_the_structure_distance_resizes_as_torchvision(size, resized):
    assert dino._resized(*size) == resized


def test_lpips_is_the_formula_on_the_published_weights(torchvision, models):
    from torchmetrics.functional.image import lpips

    own = perceptual.Lpips(models)
    a, b = (torch.from_numpy(views.values(p).transpose(2, 0, 1))[None] for p in (ONE, OTHER))
    weights = torch.load(f"{lpips.__file__.removesuffix('lpips.py')}lpips_models/squeeze.pth", "cpu", weights_only=True)
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    x, y = (((2 * p - 1) - shift.view(3, 1, 1)) / scale.view(3, 1, 1) for p in (a, b))
    ends, total = (1, 4, 7, 9, 10, 11, 12), 0.0
    with torch.inference_mode():
        for number, layer in enumerate(torchvision.features):
            x, y = layer(x), layer(y)
            if number in ends:
                u, v = (p / torch.sqrt(1e-8 + (p**2).sum(1, keepdim=True)) for p in (x, y))
                linear = weights[f"lin{ends.index(number)}.model.1.weight"]
                total += float(((u - v) ** 2 * linear.view(1, -1, 1, 1)).sum(1).mean())
    assert own.distance(views.values(ONE), views.values(OTHER)) == pytest.approx(total, rel=1e-4)
    assert own.distance(views.values(ONE), views.values(ONE)) == 0 and total > 1e-4
    assert math.isnan(own.distance(views.values(ONE)[:10], views.values(ONE)[:10]))


def test_lpips_without_torchvision_or_with_damaged_weights_is_named(models, torchvision, tmp_path, monkeypatch):
    (tmp_path / "squeezenet1_1.pth").write_bytes(b"no weights")
    with pytest.raises(Missing, match="cannot be loaded; download it again"):
        perceptual.Lpips(tmp_path)
    from torchmetrics.functional.image import lpips

    monkeypatch.setattr(sys.modules[lpips.__name__], "_TORCHVISION_AVAILABLE", False)
    with pytest.raises(Missing, match="torchvision, whose SqueezeNet LPIPS runs on, is not installed"):
        perceptual.Lpips(models)


def marks(request) -> str:
    """A judge that sees: the redder the box, the better the edit; a picture of noise has no quality."""
    left, top, right, bottom = layouts.BOX
    shown = [np.asarray(p.convert("RGB"), float) for p in request.pictures]
    box = shown[-1][top:bottom, left:right].mean((0, 1))
    rough = np.abs(np.diff(shown[-1], axis=1)).mean()
    if len(shown) == 1:
        return f'{{"score": {round(max(0, 10 - rough / 5))}, "reasoning": "r"}}'
    success = round(10 * max(0, min(1, (box[0] - box[1:].mean()) / 180)))
    return f'{{"score": [{success}, 9], "reasoning": "r"}}'


def test_vie_scores_come_from_the_judge_that_is_named(monkeypatch):
    with serving(marks) as server:
        held = judge.Judge(judge.Wanted(server.url, "m"))
        good, bad = (held.score(ONE, picture, "Make it red") for picture in (OTHER, ONE))
        assert "Make it red" in server.requests[0].question and len(server.requests) == 4
    assert (good.success, good.restraint) == (10, 9) and good.consistency == 9 and bad.success < 5
    assert good.overall == pytest.approx(math.sqrt(9 * good.quality))


def test_a_judge_that_is_down_is_asked_once(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with serving(lambda request: (401, b"no", {})) as server:
        held = judge.Judge(judge.Wanted(server.url, "m"))
        for _ in range(3):
            with pytest.raises(JudgeFailed):
                held.score(ONE, OTHER, "Make it red")
        assert len(server.requests) == 1


def test_faces_are_compared_and_a_missing_one_is_no_number(monkeypatch, tmp_path):
    faces.install(monkeypatch, tmp_path)
    found = face.Faces(tmp_path)
    red, blue, black = (Image.new("RGB", (96, 96), c) for c in ((255, 0, 0), (0, 0, 255), (0, 0, 0)))
    a, b = np.array([3.0, 1, 1]), np.array([1.0, 1, 3])
    assert found.similarity(red, red) == pytest.approx(1)
    assert found.similarity(red, blue) == pytest.approx(a @ b / (a @ a), abs=1e-3)
    assert math.isnan(found.similarity(red, black))


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ("clip-b32", r"605 MB, from huggingface.co/openai/clip-vit-base-patch32.*put it into .*clip-vit-base-patch32"),
        ("clip-l14", r"1.7 GB, from huggingface.co/openai/clip-vit-large-patch14"),
        ("dino-s16", r"87 MB, from huggingface.co/facebook/dino-vits16"),
        ("dino-b8", r"343 MB, from huggingface.co/facebook/dino-vitb8"),
        ("lpips", r"5 MB, from download.pytorch.org"),
        ("judge", r"No judge is named"),
    ],
)
def test_what_is_missing_is_named_with_its_size_and_source(engine, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(Missing, match=said):
        Engines(tmp_path).get(engine)


def test_without_a_comfyui_models_are_to_lie_below_the_current_folder(tmp_path, monkeypatch):
    """Not beside the pack's parent, which need not be anybody's ComfyUI."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("editkit.nodes.host.folders.PACK", tmp_path / "deep" / "custom_nodes" / "pack")
    assert f"put it into {tmp_path / 'models/editkit/dino-vits16'}." in Engines(None).missing("dino-s16")
    (tmp_path / "deep" / "models").mkdir(parents=True)
    assert f"put it into {tmp_path / 'deep/models/editkit/dino-vits16'}." in Engines(None).missing("dino-s16")


def test_face_similarity_without_onnxruntime_or_files_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("editkit.models.kontext.face.can_run", lambda: False)
    assert "pip install onnxruntime" in Engines(tmp_path).missing("face")
    monkeypatch.setattr("editkit.models.kontext.face.can_run", lambda: True)
    assert "261 MB and 17 MB, from huggingface.co/fal/AuraFace-v1" in Engines(tmp_path).missing("face")


def test_damaged_weights_are_named_and_tell_models_apart(models, tmp_path):
    import shutil

    folder = tmp_path / "dino-vits16"
    shutil.copytree(models / "dino-vits16", folder)
    before = transformer.identity(folder)
    (folder / "model.safetensors").write_bytes(b"12345678901")
    with pytest.raises(Missing, match="cannot be loaded; download it again"):
        dino.Dino(transformer.DINO_S16, tmp_path)
    assert transformer.identity(folder) != before
