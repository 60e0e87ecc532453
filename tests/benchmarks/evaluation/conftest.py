"""Tiny models of random weights in the published layouts, editors without a network, and runs of the evaluation."""

import hashlib
import json
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from editkit.tests.benchmarks.evaluation import layouts
from editkit.tests.comfyui.inside import tiny_vision

FIELDS = ("instruction", "source caption", "target caption", "mask")


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """--models: both CLIPs and both DINOs, tiny."""
    import transformers

    root = tmp_path_factory.mktemp("metric_models")
    for name in ("clip-vit-base-patch32", "clip-vit-large-patch14"):
        tiny_vision.write_clip(root / name)
    for seed, name in enumerate(("dino-vits16", "dino-vitb8")):
        config = transformers.ViTConfig(
            hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=32, image_size=32,
            patch_size=8,
        )  # fmt: skip
        torch.manual_seed(seed)
        transformers.ViTModel(config).save_pretrained(root / name)
    return root


def squeezenet():
    """torchvision's SqueezeNet 1.1 with random weights: its `features` are what LPIPS looks at."""
    from torch import nn

    class Fire(nn.Module):
        def __init__(self, given, squeeze, expand):
            super().__init__()
            self.squeeze = nn.Conv2d(given, squeeze, 1)
            self.expand1x1, self.expand3x3 = nn.Conv2d(squeeze, expand, 1), nn.Conv2d(squeeze, expand, 3, padding=1)

        def forward(self, x):
            x = self.squeeze(x).relu()
            return torch.cat([self.expand1x1(x).relu(), self.expand3x3(x).relu()], 1)

    def pool():
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    layers = [nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool(), Fire(64, 16, 64), Fire(128, 16, 64), pool(),
              Fire(128, 32, 128), Fire(256, 32, 128), pool(), Fire(256, 48, 192), Fire(384, 48, 192),
              Fire(384, 64, 256), Fire(512, 64, 256)]  # fmt: skip
    return types.SimpleNamespace(features=nn.Sequential(*layers))


@pytest.fixture
def torchvision(monkeypatch, models):
    """A torchvision that makes that network, and its weights' file as torchvision publishes it. Returns the network."""
    import sys

    lpips = pytest.importorskip("torchmetrics.functional.image.lpips", reason="torchmetrics is not installed")
    package = types.ModuleType("torchvision")
    package.models = types.SimpleNamespace(squeezenet1_1=lambda weights=None: squeezenet())
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setattr(lpips, "_TORCHVISION_AVAILABLE", True)
    torch.manual_seed(5)
    made = squeezenet()
    path = models / "squeezenet1_1-b8a52dc0.pth"
    torch.save({f"features.{name}": value for name, value in made.features.state_dict().items()}, path)
    yield made
    path.unlink(missing_ok=True)


def workflow(titles=FIELDS) -> dict:
    """An API workflow whose nodes bear these titles, beside `image` and `result`."""
    nodes = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "fig_bowl.jpg"}, "_meta": {"title": "image"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"},
              "_meta": {"title": "result"}},
    }  # fmt: skip
    for title in titles:
        kind = "LoadImageMask" if title in ("mask", "reference") else "PrimitiveString"
        inputs = {"image": "fig_bowl_mask.png", "channel": "red"} if kind == "LoadImageMask" else {"value": ""}
        nodes[title] = {"class_type": kind, "inputs": inputs, "_meta": {"title": title}}
    return nodes


class Edits:
    """An editor that is a function of (picture's path, sets); remembers what it was asked."""

    def __init__(self, function, prompt):
        self.function, self.asked = function, []
        self.workflow_hash = hashlib.sha256(json.dumps(prompt).encode()).hexdigest()

    def edit(self, image: Path, *, sets=None):
        copies = {k: np.asarray(Image.open(v)) if str(v).endswith(".png") else v for k, v in (sets or {}).items()}
        self.asked.append((Path(image), copies))
        return self.function(Image.open(image).convert("RGB"), sets or {})


@pytest.fixture
def evaluate(tmp_path):
    """evaluate("folder", data, function, …): a run with that editor; `.editor` of the report's namespace was asked."""
    from editkit.benchmarks.evaluation import cli, evaluating

    def run(benchmark, data, function=lambda picture, sets: picture, *more, out=None, titles=FIELDS):
        prompt = workflow(titles)
        file = tmp_path / "workflow.json"
        file.write_text(json.dumps(prompt))
        given = [benchmark, "--data", data, "--workflow", file, "--out", out or tmp_path / "out", *more]
        options = cli.parser().parse_args([str(word) for word in given])
        editor = Edits(function, prompt)
        report = evaluating.evaluate(options, editor, prompt)
        return types.SimpleNamespace(report=report, editor=editor, out=options.out)

    return run


@pytest.fixture
def data(tmp_path):
    """A plain folder with everything that it may have."""
    return layouts.plain(tmp_path / "data")
