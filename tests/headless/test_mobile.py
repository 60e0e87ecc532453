"""`export` as a user meets it, from its help to an edit that runs with the bundle it made."""

import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from editkit.headless import mobile
from editkit.headless.cli import main
from editkit.models.blazeedit import checkpoint
from editkit.models.mobile import exporting, manifest, web
from editkit.nodes.host import bundles, models
from editkit.tests.bundles import reusing


@pytest.fixture
def work(tmp_path, monkeypatch):
    """An empty working folder, and empty places for bundles."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(bundles, "roots", lambda: [tmp_path / "models"])
    monkeypatch.setattr(bundles, "cache", lambda: tmp_path / "cache")
    monkeypatch.setattr(bundles, "_told", set())
    monkeypatch.setattr(bundles, "_loaded", {})
    monkeypatch.setattr(models, "_loaded", {})
    return tmp_path / "work"


@pytest.fixture
def shipped(tiny_weights, monkeypatch):
    """The tiny model stands where the shipped one is."""
    monkeypatch.setattr(checkpoint, "SHIPPED", tiny_weights)
    return tiny_weights


@pytest.fixture
def quick(work, shipped, tiny, converted):
    """The tiny model is shipped, and its conversion is taken from what was converted once."""
    with reusing(tiny, converted):
        yield


@pytest.fixture
def refused(monkeypatch, capsys):
    """refused(arguments): what is said in one line about an export that is never begun."""
    pytest.importorskip("litert_torch", reason="litert_torch is not installed (requirements-mobile.txt)")
    monkeypatch.setattr(exporting, "_fill", lambda *_: pytest.fail("the export began"))

    def run(*arguments):
        assert main(["export", *arguments]) == 1
        said = capsys.readouterr().err.strip()
        assert said.startswith("error: ") and "\n" not in said
        return said

    return run


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("export", ("--quant", "--sizes", "--calibration", "--web", "--litertjs", "requirements-mobile.txt", "195m")),
        ("verify", ("BUNDLE", "SHA-256", "Exit code 1")),
        ("serve", ("BUNDLE", "--port", "8423", "only this machine")),
    ],
)
def test_help_teaches_by_example(command, words, capsys):
    assert main([command, "--help"]) == 0
    said = capsys.readouterr().out
    assert "examples:" in said or "example:" in said
    assert [w for w in words if w not in said] == []


@pytest.mark.parametrize("sizes", ["wide", "256,", "256;512", "256,x", "2.5", ","])
def test_sizes_that_are_no_numbers_are_said(work, shipped, refused, sizes):
    assert f"--sizes {sizes} is not a list of sides" in refused("--sizes", sizes, "-o", "new")
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("sizes", ["100", "0", "-64", "32", "4096", "64,100"])
def test_sizes_that_no_network_takes_are_said(work, shipped, refused, sizes):
    wrong = sizes.rpartition(",")[2]
    assert f"canvas of {wrong} px cannot be exported" in refused(f"--sizes={sizes}", "-o", "new")
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("name", ["int4", "INT8", "../x", ""])
def test_an_unknown_quantisation_is_said(work, shipped, refused, name):
    assert "is unknown; choose one of fp32, fp16, int8" in refused("--quant", name)
    assert list(work.iterdir()) == [] and not bundles.home().exists()


def test_static_without_photographs_is_said(work, shipped, refused):
    assert "--calibration" in refused("--quant", "int8-static", "-o", "new")
    assert "no photographs in" in refused("--quant", "int8-static", "--calibration", "gone", "-o", "new")
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("name", ["sd15", "gone/folder", "~nobody-of-that-name/x"])
def test_an_unknown_model_is_said(work, refused, name):
    assert "say small, 195m" in refused("--model", name, "-o", "new")


def test_a_folder_that_is_no_model_is_said(work, refused):
    (work / "photos").mkdir()
    assert "config.json is missing" in refused("--model", "photos", "-o", "new")


def test_a_page_without_litertjs_says_how_to_get_it(work, shipped, refused, tmp_path, monkeypatch):
    monkeypatch.setattr(mobile, "PACK", tmp_path)
    said = refused("--web", "-o", "new")
    assert f"npm install @litertjs/core@{web.LITERTJS}" in said and "--litertjs" in said
    assert "LiteRT.js is not in" in refused("--web", "--litertjs", str(tmp_path), "-o", "new")
    assert list(work.iterdir()) == []


def test_half_precision_in_the_browser_is_refused_with_the_reason(work, shipped, refused):
    assert "several times slower" in refused("--web", "--quant", "fp16", "-o", "new")


def test_a_folder_that_exists_is_refused(work, shipped, refused):
    (work / "new").mkdir()
    assert "exists already" in (said := refused("-o", "new")) and "--overwrite" in said


@pytest.mark.usefixtures("quick")
def test_an_export_says_its_stages_its_table_and_where_it_is(work, capsys):
    assert main(["export", "--sizes", "64", "-o", "new"]) == 0
    said = capsys.readouterr().out
    assert "[0/14]" in said and "[14/14] done" in said and "decoder.tflite" in said
    assert str(work / "new") in said and str(work / "new.zip") in said and "Random weights" not in said
    data = manifest.read(work / "new").data
    assert data["quantisation"] == "int8" and data["licence"] == "Apache-2.0" and data["model"]["trained"] is True
    assert data["model"]["name"] == "tiny" and data["created_by"].startswith("ComfyUI-EditKit 0.")
    assert main(["verify", "new"]) == 0
    assert main(["export", "--sizes", "64", "-o", "new"]) == 1, "it exists"
    assert main(["export", "--sizes", "64,96", "-o", "new", "--overwrite", "--quant", "fp32"]) == 0
    assert manifest.read(work / "new").sizes == [64, 96]


@pytest.mark.usefixtures("quick")
def test_a_model_of_the_users_own_is_exported_under_its_name_and_not_under_our_licence(work, tiny_weights, monkeypatch):
    monkeypatch.setattr(checkpoint, "SHIPPED", work / "elsewhere")
    assert main(["export", "--model", str(tiny_weights), "--sizes", "64"]) == 0
    made = bundles.home() / f"{tiny_weights.name}-int8"
    data = manifest.read(made).data
    assert data["model"]["name"] == tiny_weights.name and data["licence"] == "LicenseRef-of-the-model"
    assert data["model"]["weights_sha256"] == checkpoint.digest(tiny_weights)


def test_the_195m_model_without_weights_is_random_and_says_so(work, tiny, monkeypatch, capsys):
    from editkit.models.blazeedit import config as configs

    pytest.importorskip("litert_torch", reason="litert_torch is not installed (requirements-mobile.txt)")
    monkeypatch.setattr(configs, "config", lambda name: {"blazeedit-195m": tiny.config}[name])
    got = []
    made = {"folder": work / "x", "zip": work / "x.zip", "table": [], "manifest": manifest}
    monkeypatch.setattr(exporting, "export", lambda model, request, tell: got.append((model, request)) or made)
    monkeypatch.setattr("editkit.models.mobile.report.lines", lambda made: ["table"])
    assert main(["export", "--model", "195m"]) == 0
    assert "Random weights: good for measuring speed and size" in capsys.readouterr().out
    model, request = got[0]
    assert request.trained is False and request.weights_sha256 == "" and request.name == "blazeedit-195m"
    assert all(bool(p.any()) for p in model.parameters() if p.ndim > 1), "no layer is left at zero"


@pytest.mark.usefixtures("quick")
def test_an_edit_takes_the_exported_bundle_by_itself_and_by_name(work, capsys):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    Image.fromarray(pixels).save("photo.png")
    edit = ["edit", "photo.png", "--task", "relight", "-o"]
    assert main([*edit, "torch.png", "--engine", "litert"]) == 1
    assert "no bundle of these weights" in capsys.readouterr().err
    assert main(["export", "--sizes", "64,96"]) == 0
    capsys.readouterr()
    for engine in ("torch", "auto", "litert"):
        assert main([*edit, f"{engine}.png", "--engine", engine]) == 0
        said = capsys.readouterr().err
        assert ("BlazeEdit runs with LiteRT" in said) is (engine == "auto"), "said once, by the first that does"
    results = {e: np.asarray(Image.open(f"{e}.png"), np.int16) for e in ("torch", "auto", "litert")}
    assert np.array_equal(results["auto"], results["litert"])
    assert np.abs(results["auto"] - results["torch"]).max() < 30


def test_an_unknown_engine_is_wrong_usage(work, capsys):
    assert main(["edit", "photo.png", "--task", "tone", "--engine", "onnx"]) == 2
    assert "auto" in capsys.readouterr().err


@pytest.fixture
def page(tmp_path, monkeypatch):
    """A page and LiteRT.js, each file a line long; returns the folder that holds LiteRT.js."""
    (tmp_path / "page" / "__pycache__").mkdir(parents=True)
    (tmp_path / "page" / "index.html").write_text("<!doctype html>")
    (tmp_path / "page" / "app.js").write_text("// app")
    (tmp_path / "page" / ".hidden").write_text("hidden")
    monkeypatch.setattr(web, "PAGE", tmp_path / "page")
    for file in web.FILES.values():
        path = tmp_path / "npm" / "node_modules" / "@litertjs" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"// {file}")
    return tmp_path / "npm"


@pytest.mark.usefixtures("quick")
def test_a_bundle_with_a_page_holds_it_and_litertjs_and_can_be_served(work, page, capsys):
    from editkit.headless import server

    assert main(["export", "--sizes", "64", "--web", "--litertjs", str(page), "-o", "new"]) == 0
    assert "serve" in capsys.readouterr().out
    made = work / "new"
    assert (made / "index.html").is_file() and (made / "app.js").is_file() and not (made / ".hidden").exists()
    for target, source in web.FILES.items():
        assert (made / "litert" / target).read_text() == f"// {source}"
    with zipfile.ZipFile(work / "new.zip") as archive:
        assert {"new/index.html", "new/litert/index.js", "new/manifest.json"} <= set(archive.namelist())
    assert main(["verify", "new"]) == 0
    server.make(made, 0).server_close()
    assert json.loads((made / "manifest.json").read_text())["format_version"] == 1
