"""Finds Node and Chromium, and runs the page's JavaScript on arrays from Python, with Node.

Tests that need what is missing skip with a reason.
"""

import itertools
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from editkit.models.mobile.constants import constants

PAGE = Path(__file__).resolve().parents[2] / "models" / "mobile" / "page"
RUNNER = Path(__file__).with_name("run.mjs")
K = constants()


@pytest.fixture(scope="session")
def browser_tools(root):
    """Where Node, Chromium and the npm packages are. Skips with the first that is missing."""
    named = os.environ.get("EDITKIT_NODE_MODULES")
    places = [folder / "node_modules" for folder in (root, *root.parents, Path.home())]  # as Node looks, and at home
    packages = Path(named) if named else next((p for p in places if (p / "playwright-core").is_dir()), places[0])
    browsers = (os.environ.get("EDITKIT_CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
    chromium = next((path for name in browsers if name and (path := shutil.which(name))), None)
    found = {"node": shutil.which("node"), "chromium": chromium}
    for name, path in found.items():
        if path is None:
            pytest.skip(f"{name} is not installed; it runs what this pack has for the browser")
    if not (packages / "playwright-core").is_dir():
        pytest.skip(f"playwright-core is not in {packages}; it drives the browser")
    return {**found, "packages": packages}


@pytest.fixture(scope="session")
def modules(tmp_path_factory):
    """The page's modules where Node takes them for what they are, whatever its version."""
    folder = tmp_path_factory.mktemp("page")
    for file in PAGE.glob("*.js"):
        shutil.copy(file, folder)
    (folder / "package.json").write_text('{"type": "module"}')
    return folder


@pytest.fixture
def js(modules, tmp_path):
    """js(module, function, *arguments): a function of the page (module "": an adapter of run.mjs), on tensors."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is not installed; it runs the page's functions")
    return lambda module, name, *values: Job(node, modules, tmp_path)(module, name, values)


class Job:
    """One call: pictures [1, c, h, w] or [c, h, w] and masks [1, h, w] go out as planar floats and come back so."""

    def __init__(self, node: str, modules: Path, folder: Path):
        self.node, self.modules, self.folder, self.numbers = node, modules, folder, itertools.count()

    def __call__(self, module: str, name: str, values: tuple):
        call = {"module": module, "name": name, "arguments": [self.packed(v) for v in values]}
        job = {"page": str(self.modules), "folder": str(self.folder), "calls": [call]}
        (self.folder / "job.json").write_text(json.dumps(job))
        command = [self.node, str(RUNNER), str(self.folder / "job.json")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        return self.unpacked(json.loads((self.folder / "result.json").read_text())[0])

    def packed(self, value):
        if isinstance(value, torch.Tensor):
            planar = value.detach().float().numpy()
            planar = planar[0] if planar.ndim == 4 else planar
            return {"picture": self.stored(planar.astype("<f4")), "shape": list(planar.shape)}
        if isinstance(value, np.ndarray) and value.dtype == np.uint8:  # [h, w] or [h, w, 4]
            stride = 1 if value.ndim == 2 else value.shape[2]
            return {"bytes": self.stored(value), "shape": [*value.shape[:2], stride]}
        if isinstance(value, np.ndarray):
            return {"vector": self.stored(value.astype("<f4"))}
        if isinstance(value, dict):
            return {k: self.packed(v) for k, v in value.items()}
        return [self.packed(v) for v in value] if isinstance(value, list | tuple) else value

    def stored(self, array: np.ndarray) -> str:
        name = f"in-{next(self.numbers)}.raw"
        (self.folder / name).write_bytes(np.ascontiguousarray(array).tobytes())
        return name

    def unpacked(self, value):
        if isinstance(value, dict) and "picture" in value:
            array = np.fromfile(self.folder / value["picture"], "<f4").reshape(value["shape"])
            return torch.from_numpy(array.copy())[None]
        if isinstance(value, dict) and "vector" in value:
            return np.fromfile(self.folder / value["vector"], "<f4")
        if isinstance(value, dict):
            return {k: self.unpacked(v) for k, v in value.items()}
        return [self.unpacked(v) for v in value] if isinstance(value, list) else value


def worst(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest difference of two tensors of one shape."""
    assert a.shape == b.shape, (a.shape, b.shape)
    return float((a - b).abs().max())


def smooth_picture(height: int, width: int, seed: int = 0, grain: float = 0.06) -> torch.Tensor:
    """A picture [1, 3, h, w] with broad colours, repeated structure and a little grain."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, max(2, height // 24), max(2, width // 24), generator=g)
    broad = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pattern = 0.08 * torch.sin(x / 3.1 + 0.4 * torch.sin(y / 17.0)) * torch.cos(y / 4.3)
    noise = grain * (torch.rand(1, 3, height, width, generator=g) - 0.5)
    return (0.15 + 0.7 * broad + pattern + noise).clamp(0, 1)


def rectangle(height: int, width: int, top: int, bottom: int, left: int, right: int) -> torch.Tensor:
    """A mask [1, h, w], 1 in a rectangle."""
    mask = torch.zeros(1, height, width)
    mask[:, top:bottom, left:right] = 1
    return mask


def disc(height: int, width: int, y: float, x: float, radius: float) -> torch.Tensor:
    """A mask [1, h, w], 1 in a disc."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return (((rows - y) ** 2 + (columns - x) ** 2) < radius**2).float()[None]
