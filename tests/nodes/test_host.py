"""The host under ComfyUI, with stand-ins for the few calls of its Python that the pack makes, and without it."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from editkit.nodes.host import devices, folders, progress

ROOT = Path(__file__).resolve().parents[2]


class Interrupted(Exception):
    """What ComfyUI raises when the user cancels."""


@pytest.fixture
def comfy(monkeypatch):
    """Modules of ComfyUI's names that write down what is asked of them."""
    asked = SimpleNamespace(loaded=[], bars=[], cancelled=False)

    def check():
        if asked.cancelled:
            raise Interrupted

    def module(name, **members):
        made = ModuleType(name)
        made.__dict__.update(members)
        monkeypatch.setitem(sys.modules, name, made)
        return made

    def bar(total):
        return SimpleNamespace(update_absolute=lambda done, total: asked.bars.append((done, total)))

    def patcher(model, load_device, offload_device):
        return SimpleNamespace(model=model, load_device=load_device, offload_device=offload_device)

    cpu = torch.device("cpu")
    management = module(
        "comfy.model_management",
        get_torch_device=lambda: torch.device("meta"),
        unet_offload_device=lambda: cpu,
        intermediate_device=lambda: cpu,
        load_models_gpu=asked.loaded.append,
        throw_exception_if_processing_interrupted=check,
    )
    utils = module("comfy.utils", ProgressBar=bar)
    module("comfy", model_management=management, utils=utils)
    module("comfy.model_patcher", ModelPatcher=patcher)
    return asked


def test_without_comfyui_a_model_is_simply_on_its_device():
    module = torch.nn.Linear(2, 2)
    handle = devices.managed(module)
    assert handle.patcher is None and handle.ready() is module
    assert module.weight.device.type == devices.load_device().type
    assert devices.operations() is torch.nn and devices.intermediate_device().type == "cpu"


def test_under_comfyui_a_model_is_in_its_memory_management_at_every_run(comfy):
    module = torch.nn.Linear(2, 2)
    handle = devices.managed(module)
    assert handle.patcher.model is module and comfy.loaded == []
    assert handle.patcher.load_device.type == "meta" and handle.patcher.offload_device.type == "cpu"
    assert module.weight.device.type == "cpu"  # ComfyUI moves it, not the pack
    assert handle.ready() is module and handle.ready() is module
    assert comfy.loaded == [[handle.patcher], [handle.patcher]]


def test_comfyuis_bar_moves_and_a_cancelled_run_stops(comfy):
    report = progress.reporter()
    report(1, 2)
    assert comfy.bars == [(1, 2)]
    comfy.cancelled = True
    with pytest.raises(Interrupted):
        report(2, 2)
    assert comfy.bars == [(1, 2)]


def test_a_listener_is_not_told_under_comfyui_and_nobody_need_listen(comfy, monkeypatch):
    heard = []
    monkeypatch.setattr(progress, "_listener", lambda *at: heard.append(at))
    progress.reporter()(1, 2)
    assert heard == []
    monkeypatch.delitem(sys.modules, "comfy.model_management")
    progress.reporter()(1, 2)
    assert heard == [(1, 2)]
    monkeypatch.setattr(progress, "_listener", None)
    progress.reporter()(2, 2)


def test_comfyui_learns_the_folder_and_keeps_those_that_the_user_added(monkeypatch, tmp_path):
    extra = str(tmp_path / "extra")
    known = {"editkit": ([extra], set())}
    paths = SimpleNamespace(
        models_dir=str(tmp_path), folder_names_and_paths=known, get_folder_paths=lambda key: known[key][0]
    )
    monkeypatch.setitem(sys.modules, "folder_paths", paths)
    folders.register()
    folders.register()
    assert known["editkit"] == ([extra, str(tmp_path / "editkit")], {".safetensors"})
    assert folders.roots() == [Path(extra), tmp_path / "editkit"]


def test_importing_the_nodes_loads_no_comfyui_and_no_heavy_library():
    code = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("editkit", {str(ROOT / "__init__.py")!r},
                                              submodule_search_locations=[{str(ROOT)!r}])
sys.modules["editkit"] = pack = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pack)
assert len(pack.NODE_CLASS_MAPPINGS) > 10
print([n for n in ("comfy", "folder_paths", "diffusers", "peft", "cv2", "skimage", "sklearn") if n in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr
