"""Where bundles lie, and which engine runs an edit: torch, or LiteRT with a fitting bundle."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch

from editkit.models.blazeedit import checkpoint
from editkit.models.errors import EditError
from editkit.models.mobile import packages
from editkit.models.mobile.runtime import BundleModel
from editkit.nodes import NODE_CLASS_MAPPINGS
from editkit.nodes.host import bundles, folders, models


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Empty folders stand for models/editkit and the user's cache; nothing has been told or loaded. No GPU."""
    monkeypatch.setattr(bundles, "roots", lambda: [tmp_path / "models"])
    monkeypatch.setattr(bundles, "cache", lambda: tmp_path / "cache")
    monkeypatch.setattr(bundles, "_told", set())
    monkeypatch.setattr(bundles, "_loaded", {})
    monkeypatch.setattr(bundles, "load_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(models, "_loaded", {})
    return tmp_path


@pytest.fixture
def put(place, int8_bundle, fp32_bundle, tiny_shipped):
    """put(name, kind, below): a copy of a bundle of the shipped (tiny) weights; returns its folder."""
    kinds = {"int8": int8_bundle, "fp32": fp32_bundle}

    def copy(name="tiny", kind="int8", below="cache/mobile"):
        return shutil.copytree(kinds[kind], place / below / name)

    return copy


def edit(path: Path, change) -> None:
    data = json.loads((path / "manifest.json").read_text())
    change(data)
    (path / "manifest.json").write_text(json.dumps(data))


def chosen(engine="auto"):
    return bundles.choose(engine, checkpoint.digest(checkpoint.SHIPPED))


def test_bundles_are_found_by_their_names_below_all_folders(put, place):
    one, two = put("one"), put("two", below="models/mobile")
    deep = put("three", below="models/mine/phones")
    put("hidden", below="cache/mobile/.new.part")
    (place / "cache" / "mobile" / "empty").mkdir()
    assert bundles.found() == {"two": two, "mine/phones/three": deep, "one": one}
    assert bundles.folder("one") == one and bundles.folder(str(deep)) == deep


def test_of_two_bundles_of_one_name_that_of_the_model_folder_is_taken(put):
    put("same")
    of_models = put("same", below="models/mobile")
    assert bundles.found() == {"same": of_models}


@pytest.mark.parametrize("name", ["gone", "", ".", "/", "../x", "~nobody-of-that-name/x", "a\0b", "none yet"])
def test_a_bundle_that_is_not_there_says_how_to_make_one(place, name):
    with pytest.raises(EditError, match=r"no bundle .*python \. export"):
        bundles.folder(name)


def test_bundles_go_to_comfyuis_models_or_to_the_users_cache(place, monkeypatch):
    assert bundles.home() == place / "cache" / "mobile"
    comfy = place / "ComfyUI"
    comfy.mkdir()
    (comfy / "folder_paths.py").write_text("")
    monkeypatch.setattr(bundles, "roots", lambda: [comfy / "models" / "editkit", place / "models"])
    assert bundles.home() == comfy / "models" / "editkit" / "mobile"


def test_the_cache_is_where_the_system_keeps_caches(users_cache, tmp_path, monkeypatch):
    for platform, name in (("linux", "XDG_CACHE_HOME"), ("win32", "LOCALAPPDATA")):
        monkeypatch.setattr(sys, "platform", platform)
        monkeypatch.setenv(name, str(tmp_path / platform))
        assert users_cache() == tmp_path / platform / folders.KEY
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert users_cache() == tmp_path / ".cache" / folders.KEY
    monkeypatch.setattr(sys, "platform", "darwin")
    assert users_cache() == tmp_path / "Library" / "Caches" / folders.KEY


def test_without_a_bundle_it_is_torch_and_that_is_said_once(place, capsys):
    assert chosen() is None and chosen() is None
    assert capsys.readouterr().err.splitlines() == ["BlazeEdit runs with torch (cpu)."]


def test_a_fitting_int8_bundle_is_taken_and_that_is_said_once(put, capsys):
    path = put()
    assert chosen() == path and chosen() == path
    assert capsys.readouterr().err.splitlines() == [f"BlazeEdit runs with LiteRT ({path})."]


def test_a_gpu_is_faster_than_any_bundle(put, monkeypatch, capsys):
    put()
    monkeypatch.setattr(bundles, "load_device", lambda: torch.device("cuda"))
    assert chosen() is None and "torch (cuda)" in capsys.readouterr().err
    assert chosen("litert") is not None, "unless it is asked for"


def test_the_engine_torch_looks_for_nothing_and_says_nothing(put, monkeypatch, capsys):
    put()
    monkeypatch.setattr(bundles, "found", lambda: pytest.fail("looked for bundles"))
    assert chosen("torch") is None and capsys.readouterr().err == ""


@pytest.mark.parametrize("engine", ["", "gpu", "LiteRT"])
def test_an_unknown_engine_is_named_with_those_that_exist(place, engine):
    with pytest.raises(EditError, match=f"'{engine}' is unknown; choose one of auto, torch, litert"):
        chosen(engine)


def test_a_bundle_of_other_weights_is_no_bundle_of_these(put, capsys):
    edit(put(), lambda data: data["model"].update(weights_sha256="ab" * 32))
    assert chosen() is None
    with pytest.raises(EditError, match=r"no bundle of these weights .*python \. export"):
        chosen("litert")
    assert "LiteRT" not in capsys.readouterr().err


def test_an_exact_bundle_is_taken_only_when_litert_is_asked_for(put):
    path = put(kind="fp32")
    assert chosen() is None and chosen("litert") == path


def test_of_several_bundles_the_8_bits_are_taken(put):
    put("a", "fp32")
    eight = put("b", "int8")
    put("c", "fp32")
    assert chosen() == chosen("litert") == eight


DAMAGE = {
    "a manifest that is cut off": lambda p: (p / "manifest.json").write_bytes(b'{"format": "edit'),
    "a manifest that is a folder": lambda p: ((p / "manifest.json").unlink(), (p / "manifest.json").mkdir()),
    "another format version": lambda p: edit(p, lambda data: data.update(format_version=2)),
    "a truncated file": lambda p: (p / "decoder.tflite").write_bytes(b"short"),
    "a missing golden file": lambda p: (p / "golden" / "tone_image.png").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_bundle_is_passed_over_and_named_once(put, damage, capsys):
    path = put()
    DAMAGE[damage](path)
    assert chosen() is None and chosen() is None
    said = capsys.readouterr().err
    assert said.count("is passed over") == 1 and str(path) in said and "runs with torch" in said


def test_behind_a_damaged_bundle_the_next_is_taken(put):
    DAMAGE["a truncated file"](put("a"))
    whole = put("b")
    assert chosen() == chosen("litert") == whole


def test_litert_with_nothing_but_damaged_bundles_is_refused(put):
    DAMAGE["a truncated file"](put())
    with pytest.raises(EditError, match="no bundle of these weights"):
        chosen("litert")


def test_a_bundle_is_loaded_once_and_again_when_it_was_made_anew(put):
    path = put()
    first = bundles.load(path)
    assert bundles.load(path) is first and isinstance(first.ready(), BundleModel)
    os.utime(path / "manifest.json", ns=(1, 1))
    assert bundles.load(path) is not first and len(bundles._loaded) == 1


def test_the_shipped_model_by_each_engine(put):
    put()
    assert isinstance(models.blazeedit(engine="auto").ready(), BundleModel)
    assert isinstance(models.blazeedit(engine="litert").ready(), BundleModel)
    assert isinstance(models.blazeedit(engine="torch").ready(), torch.nn.Module)


def node(kind, /, **inputs):
    with torch.inference_mode():
        return NODE_CLASS_MAPPINGS[kind]().run(**inputs)


@pytest.mark.parametrize("engine", ["auto", "litert", "torch"])
def test_the_engine_of_a_node_and_of_load_blazeedit_is_the_same_edit(put, engine, capsys):
    put()
    image = torch.rand(1, 70, 90, 3, generator=torch.Generator().manual_seed(0))
    (direct,) = node("EditKitRelight", image=image, strength=1.0, method="head", engine=engine)
    (model,) = node("EditKitLoadBlazeEdit", model="shipped", engine=engine)
    (wired,) = node("EditKitRelight", image=image, strength=1.0, method="head", model=model, engine="torch")
    assert torch.equal(direct, wired)
    assert ("LiteRT" in capsys.readouterr().err) is (engine != "torch")


def test_a_graph_of_before_the_engines_runs_as_before(put):
    put()
    (model,) = node("EditKitLoadBlazeEdit", model="shipped")
    image = torch.rand(1, 70, 90, 3)
    assert node("EditKitTone", image=image, strength=1.0, method="network", model=model)[0].shape == image.shape


@pytest.fixture
def without(monkeypatch):
    """without(names): as if these packages were not installed."""
    import importlib.util

    real = importlib.util.find_spec

    def hide(*names):
        for loaded in [m for m in sys.modules if m.partition(".")[0] in names]:
            monkeypatch.delitem(sys.modules, loaded)
        for name in names:
            monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, *a: None if name.partition(".")[0] in names else real(name, *a)
        )

    return hide


def test_without_litert_auto_is_torch_and_litert_says_how_to_install_it(put, without, capsys):
    put()
    without("ai_edge_litert")
    assert chosen() is None and "runs with torch (cpu)" in capsys.readouterr().err
    with pytest.raises(EditError, match="ai-edge-litert is not installed.*`pip install ai-edge-litert`"):
        chosen("litert")
    with pytest.raises(EditError, match="ai-edge-litert is not installed.*`pip install ai-edge-litert`"):
        node("EditKitRunMobileBundle", bundle="tiny", threads=0)


@pytest.mark.parametrize("name", ["litert_torch", "ai_edge_quantizer", "ai_edge_litert"])
def test_without_the_extra_an_export_names_the_package_and_the_command(place, without, name, capsys):
    from editkit.headless.cli import main

    for other in packages.EXPORT[: packages.EXPORT.index(name)]:  # those that are asked for first
        pytest.importorskip(other, reason=f"{other} is not installed (requirements-mobile.txt)")
    without(name)
    command = "run `pip install -r requirements-mobile.txt` in the pack's folder"
    with pytest.raises(EditError, match=f"^{name.replace('_', '-')} is not installed, .*{command}"):
        packages.exporter()
    assert main(["export", "-o", str(place / "new")]) == 1
    said = capsys.readouterr().err.strip()
    assert "pip install -r requirements-mobile.txt" in said and "\n" not in said and not (place / "new").exists()


def test_without_the_extra_the_export_node_says_the_same(place, without):
    without("litert_torch")
    (model,) = node("EditKitLoadBlazeEdit", model="shipped", engine="torch")
    with pytest.raises(EditError, match="litert-torch is not installed.*requirements-mobile.txt"):
        node("EditKitExportMobileBundle", model=model, name="x", quantisation="fp32", canvas=64, overwrite=False)
    assert not (place / "cache" / "mobile" / "x").exists()


def test_a_package_that_is_there_but_broken_says_why(monkeypatch):
    def broken(name):
        raise ImportError("libGL.so.1: cannot open shared object file")

    monkeypatch.setattr(packages.importlib, "import_module", broken)
    with pytest.raises(EditError, match=r"ai-edge-litert does not load \(libGL.so.1.*known to work: 2.3.0"):
        packages.litert()


def test_the_nodes_import_without_the_extra_and_without_loading_it():
    import subprocess

    code = (
        "import importlib.util, sys\n"
        "for name in ('litert_torch', 'ai_edge_litert', 'ai_edge_quantizer', 'jax'): sys.modules[name] = None\n"
        "spec = importlib.util.spec_from_file_location('pack', '__init__.py', submodule_search_locations=['.'])\n"
        "pack = importlib.util.module_from_spec(spec); sys.modules['pack'] = pack; spec.loader.exec_module(pack)\n"
        "inputs = [c.INPUT_TYPES() for n, c in pack.NODE_CLASS_MAPPINGS.items() if 'Mobile' in n]\n"
        "print(len(inputs))\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == ("2", 0), done.stderr
