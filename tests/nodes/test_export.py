"""Export Mobile Bundle and Run Mobile Bundle, as a graph runs them."""

import shutil

import pytest
import torch

from editkit.models.blazeedit import checkpoint
from editkit.models.errors import EditError
from editkit.models.mobile import exporting, manifest
from editkit.models.mobile.runtime import BundleModel
from editkit.nodes import NODE_CLASS_MAPPINGS
from editkit.nodes.export import plain
from editkit.nodes.host import bundles, progress
from editkit.tests.bundles import reusing

EXPORT = {"name": "mine", "quantisation": "fp32", "canvas": 64, "overwrite": False}


def run(kind, /, **inputs):
    with torch.inference_mode():
        return NODE_CLASS_MAPPINGS[kind]().run(**inputs)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty place for bundles."""
    monkeypatch.setattr(bundles, "roots", lambda: [tmp_path / "models"])
    monkeypatch.setattr(bundles, "cache", lambda: tmp_path)
    monkeypatch.setattr(bundles, "_loaded", {})
    monkeypatch.setattr(bundles, "_told", set())
    return tmp_path / "mobile"


@pytest.fixture
def model(home, tiny_shipped):
    return run("EditKitLoadBlazeEdit", model="shipped", engine="torch")[0]


@pytest.fixture
def quick(tiny, converted):
    """The converter's part of an export is taken from what was converted once."""
    with reusing(tiny, converted):
        yield


@pytest.mark.usefixtures("quick")
def test_a_model_goes_out_and_comes_back_and_its_edit_is_the_same(home, model):
    heard = []
    progress.set_listener(lambda done, total: heard.append((done, total)))
    try:
        made = run("EditKitExportMobileBundle", model=model, **EXPORT)
    finally:
        progress.set_listener(None)
    folder, table = made["result"]
    assert folder == str(home / "mine") and (home / "mine.zip").is_file() and made["ui"]["text"] == [table]
    assert "decoder.tflite" in table and heard[-1][0] == heard[-1][1] and len(heard) > 10
    data = manifest.read(folder).data
    assert data["model"]["weights_sha256"] == checkpoint.digest(checkpoint.SHIPPED)
    assert data["canvas"]["sizes"] == [64] and data["quantisation"] == "fp32"
    (by_name,) = run("EditKitRunMobileBundle", bundle="mine", threads=1)
    (by_folder,) = run("EditKitRunMobileBundle", bundle="none yet", threads=1, folder=folder)
    assert by_name is by_folder and isinstance(by_name.ready(), BundleModel)
    image = torch.rand(1, 32, 32, 3)  # of the gain head's own size: no canvas comes between
    settings = {"image": image, "strength": 1.0, "method": "head"}
    wanted = run("EditKitRelight", **settings, model=model)[0]
    assert torch.allclose(run("EditKitRelight", **settings, model=by_name)[0], wanted, atol=1e-4)
    assert not torch.allclose(wanted, image, atol=1e-3)


def test_the_static_quantisation_is_calibrated_on_the_samples_and_the_licence_is_the_models(home, model, monkeypatch):
    asked = []
    monkeypatch.setattr(exporting, "export", lambda net, request, tell: asked.append(request) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("EditKitExportMobileBundle", model=model, **{**EXPORT, "quantisation": "int8-static"})
    exporting._check_calibration(asked[0])
    assert str(asked[0].calibration) == "samples" and asked[0].licence == "Apache-2.0"
    assert exporting.licence(home) == "LicenseRef-of-the-model"


@pytest.mark.usefixtures("quick")
def test_an_older_bundle_is_replaced_only_when_that_is_asked_for(home, model):
    run("EditKitExportMobileBundle", model=model, **EXPORT)
    (first,) = run("EditKitRunMobileBundle", bundle="mine", threads=1)
    with pytest.raises(EditError, match="exists already"):
        run("EditKitExportMobileBundle", model=model, **EXPORT)
    run("EditKitExportMobileBundle", model=model, **{**EXPORT, "overwrite": True, "quantisation": "int8"})
    (again,) = run("EditKitRunMobileBundle", bundle="mine", threads=1)
    assert again is not first and again.ready().manifest.data["quantisation"] == "int8"


def test_a_bundle_cannot_be_exported_again(home, fp32_bundle):
    shutil.copytree(fp32_bundle, home / "mine")
    (model,) = run("EditKitRunMobileBundle", bundle="mine", threads=0)
    with pytest.raises(EditError, match="bundle cannot be exported again; wire a Load BlazeEdit whose engine is torch"):
        run("EditKitExportMobileBundle", model=model, **{**EXPORT, "name": "other"})


BAD = ["", "  ", ".", "..", ".x", "../x", "a/b", "/tmp/x", "C:x", "a\\b", *(f"a{c}b" for c in "*?\"<>|\0\n")]


@pytest.mark.parametrize("name", BAD)
def test_a_name_that_leads_elsewhere_is_refused(home, model, name, monkeypatch):
    monkeypatch.setattr(exporting, "export", lambda *_: pytest.fail("exported"))
    with pytest.raises(EditError, match="is no name for a bundle"):
        run("EditKitExportMobileBundle", model=model, **{**EXPORT, "name": name})
    assert not home.exists()


@pytest.mark.parametrize("name", ["blazeedit-small-int8", " Mein Modell 2.1 ", "模型", "a..b"])
def test_a_name_of_letters_digits_dots_and_dashes_is_taken(name):
    assert plain(name) == name.strip()


@pytest.mark.parametrize("name", ["gone", "none yet", "../mine"])
def test_a_missing_bundle_says_how_to_make_one(home, name):
    with pytest.raises(EditError, match=r"no bundle .*python \. export"):
        run("EditKitRunMobileBundle", bundle=name, threads=0)


def test_a_damaged_bundle_is_named_before_it_is_run(home, fp32_bundle):
    path = shutil.copytree(fp32_bundle, home / "mine")
    (path / "encoder.tflite").write_bytes(b"short")
    with pytest.raises(EditError, match="encoder.tflite is truncated"):
        run("EditKitRunMobileBundle", bundle="mine", threads=0)


def test_the_choice_lists_what_is_there_and_the_node_runs_anew_when_it_changed(home, fp32_bundle):
    kind = NODE_CLASS_MAPPINGS["EditKitRunMobileBundle"]
    assert kind.INPUT_TYPES()["required"]["bundle"][0] == ["none yet"] and kind.IS_CHANGED("none yet", 0) == ""
    path = shutil.copytree(fp32_bundle, home / "mine")
    assert kind.INPUT_TYPES()["required"]["bundle"][0] == ["mine"] and kind.VALIDATE_INPUTS("gone") is True
    before = kind.IS_CHANGED("mine", 0)
    (path / "manifest.json").touch()
    assert kind.IS_CHANGED("mine", 0) != before


def test_every_edit_runs_with_a_bundle_wired_in_one_go_and_step_by_step(home, fp32_bundle):
    shutil.copytree(fp32_bundle, home / "mine")
    (model,) = run("EditKitRunMobileBundle", bundle="mine", threads=1)
    image, mask = torch.rand(1, 70, 90, 3), torch.zeros(1, 70, 90)
    mask[:, 20:40, 30:60] = 1
    for task in ("remove", "tone", "relight", "sticker"):
        (conditioning,) = run("EditKitMaskTask", model=model, image=image, mask=mask, task=task, shadow=True)
        (latent,) = run("EditKitBlazeEditSampler", model=model, conditioning=conditioning, steps=0, seed=0)
        (decoded,) = run("EditKitBlazeEditDecode", model=model, latent=latent)
        settings = {"feather": 4, "strength": 1.0, "texture": True}
        out, _ = run("EditKitDeliver", model=model, conditioning=conditioning, decoded=decoded, **settings)
        assert out.isfinite().all() and 0 <= out.min() and out.max() <= 1
        if task == "remove":
            settings = {"shadow": True, "texture": True, "grow": 0, "feather": 4, "seed": 0}
            whole, _ = run("EditKitRemoveObject", image=image, mask=mask, model=model, **settings)
            assert torch.allclose(out, whole, atol=1e-6)


def test_the_nodes_widgets_are_those_of_the_exporter():
    kinds = NODE_CLASS_MAPPINGS["EditKitExportMobileBundle"].INPUT_TYPES()["required"]
    from editkit.models.mobile import convert, quantise

    assert set(kinds["quantisation"][0]) <= set(quantise.NAMES) and kinds["quantisation"][0][0] == "int8"
    canvas = kinds["canvas"][1]
    for size in (canvas["min"], canvas["default"], canvas["max"], canvas["min"] + canvas["step"]):
        convert.check_sizes([size])
