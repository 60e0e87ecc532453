"""An export publishes a whole, checked bundle, or says in one sentence why not and leaves all as it was."""

import copy
import json
import shutil
import sys
import zipfile
from collections import namedtuple

import pytest
import torch
from PIL import Image

from editkit.models.errors import EditError
from editkit.models.mobile import accuracy, exporting, manifest, operators, report, samples
from editkit.tests.bundles import SIZES


def tree(folder):
    """Every path below a folder, with the content of files."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def refused(call, *arguments, **options) -> str:
    with pytest.raises(EditError) as problem:
        call(*arguments, **options)
    assert "\n" not in str(problem.value)
    return str(problem.value)


def test_a_bundle_holds_what_its_manifest_and_its_reader_need(fp32_bundle, tiny):
    data = manifest.read(fp32_bundle).data
    files = {p for p in tree(fp32_bundle) if (fp32_bundle / p).is_file()}
    listed = {f["path"] for f in data["files"] + data["golden_files"]}
    assert files == listed | {"manifest.json", "manifest.schema.json", "README.md", "LICENSE"}
    assert set(data["tasks"]) == set(data["golden"]) - {f"{t}_96" for t in data["tasks"]}
    assert {f"{t}_96" for t in data["tasks"]} <= set(data["golden"])
    assert data["model"]["parameters"] == sum(p.numel() for p in tiny.parameters())
    assert data["mobile_ready"] is True and data["canvas"]["sizes"] == [64, 96]
    assert all(t["working_size"] <= 96 for t in data["tasks"].values())
    assert [f["quantisation"] for f in data["files"]] == ["fp32"] * 5


def test_the_readme_has_no_gaps_and_names_every_file_task_and_tensor(fp32_bundle):
    text, data = (fp32_bundle / "README.md").read_text(encoding="utf-8"), manifest.read(fp32_bundle).data
    assert "@@" not in text
    for entry in data["files"]:
        assert entry["path"] in text
        assert all(f"`{t['name']}`" in text for s in entry["signatures"] for t in s["inputs"] + s["outputs"])
    assert all(f"| {task} |" in text for task in data["tasks"])
    named = [word.strip("`") for word in text.split() if word.startswith("`") and word.strip("`") in data["constants"]]
    assert "tone_blend" in named and "guide_size" in named
    assert "Random weights" not in text


def test_the_zip_holds_the_same_files(fp32_bundle):
    with zipfile.ZipFile(fp32_bundle.with_name(f"{fp32_bundle.name}.zip")) as archive:
        packed = {name: archive.read(name) for name in archive.namelist()}
    files = {p: c for p, c in tree(fp32_bundle).items() if c is not None}
    assert packed == {f"{fp32_bundle.name}/{path}": content for path, content in files.items()}


def test_the_same_export_twice_gives_the_same_bytes(export, tmp_path):
    """But for what was measured on the way: time and memory."""
    one, two = (export(tmp_path / name, "int8", name="same") for name in ("one", "two"))
    manifests = [copy.deepcopy(made["manifest"]) for made in (one, two)]
    for file in (file for data in manifests for file in data["files"]):
        assert set(file.pop("latency_ms")) == {"1", "2"}
        assert file.pop("memory_bytes") is None or sys.platform == "linux"
    assert manifests[0] == manifests[1]
    trees = [tree(made["folder"]) for made in (one, two)]
    for files in trees:
        assert files.pop("manifest.json") and files.pop("README.md")
    assert trees[0] == trees[1]


def test_the_report_names_files_and_edits(export, tmp_path):
    made = export(tmp_path / "new", "int8")
    text = "\n".join(report.lines(made))
    for name in ("encoder", "denoiser", "decoder", "shadow", "relight"):
        assert f"{name}.tflite" in text
    assert all(task in text for task in samples.SAMPLES) and "1 partition" in text and "residual" in text
    assert made["folder"] == tmp_path / "new" and made["zip"] == tmp_path / "new.zip" and made["zip"].is_file()
    assert made["manifest"]["quantisation"] == "int8"


def test_the_stages_are_told_in_order_up_to_the_last(export, tmp_path):
    heard = []
    export(tmp_path / "new", callback=lambda *what: heard.append(what))
    done, totals = [n for _, n, _ in heard], {total for *_, total in heard}
    assert done == list(range(len(done))) and totals == {done[-1]} and heard[-1][0] == "done"
    assert any("denoiser" in stage for stage, *_ in heard)


def test_a_folder_that_exists_is_refused_and_left_untouched(export, tmp_path, bundle):
    before = tree(tmp_path)
    assert "exists already" in (said := refused(export, bundle)) and "--overwrite" in said and str(bundle) in said
    assert tree(tmp_path) == before


def test_a_zip_that_exists_is_refused_and_left_untouched(export, tmp_path):
    (tmp_path / "new.zip").write_bytes(b"the user's own")
    assert "new.zip exists already" in refused(export, tmp_path / "new")
    assert tree(tmp_path) == {"new.zip": b"the user's own"}


def test_overwriting_replaces_the_bundle_and_its_zip(export, tmp_path, bundle):
    (bundle / "old.txt").write_text("old")
    (tmp_path / "bundle.zip").write_bytes(b"old")
    export(bundle, "int8", overwrite=True)
    assert manifest.read(bundle).data["quantisation"] == "int8" and not (bundle / "old.txt").exists()
    assert zipfile.is_zipfile(tmp_path / "bundle.zip")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bundle", "bundle.zip"]


def test_an_empty_folder_may_be_overwritten(export, tmp_path):
    (tmp_path / "new").mkdir()
    export(tmp_path / "new", overwrite=True)
    assert (tmp_path / "new" / "manifest.json").is_file()


@pytest.mark.parametrize("name", ["photos", "file.txt"])
def test_what_is_no_bundle_is_not_overwritten(export, tmp_path, name):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"a")
    (tmp_path / "file.txt").write_text("mine")
    before = tree(tmp_path)
    assert "not a bundle, so it is not overwritten" in refused(export, tmp_path / name, overwrite=True)
    assert tree(tmp_path) == before


def test_a_folder_in_the_place_of_the_zip_is_said_at_once(export, tmp_path, bundle):
    (tmp_path / "bundle.zip").mkdir()
    before = tree(tmp_path)
    assert "bundle.zip is a folder" in refused(export, bundle, overwrite=True)
    assert tree(tmp_path) == before


def test_the_root_of_the_disk_is_no_place(export):
    assert "no place for a bundle" in refused(export, "/")


def test_a_file_where_the_folder_above_should_be_is_said(export, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refused(export, tmp_path / "file" / "bundle")


def test_a_name_that_the_disk_does_not_take_is_said(export, tmp_path):
    assert "could not be written" in refused(export, tmp_path / ("long" * 70))
    assert list(tmp_path.iterdir()) == []


def test_too_little_room_is_said_with_both_numbers(export, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")(10**12, 10**12, 42_000_000)
    monkeypatch.setattr(exporting.shutil, "disk_usage", lambda _path: usage)
    said = refused(export, tmp_path / "new")
    assert "0.0 GB free and the export needs 0.1" in said and "make room" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("thing", [torch.nn.Linear(2, 2), object(), None, "small"])
def test_what_is_no_blazeedit_is_named_by_its_kind(tmp_path, thing):
    said = refused(exporting.export, thing, exporting.Request(tmp_path / "new"))
    assert type(thing).__name__ in said and "Load BlazeEdit" in said
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_cannot_be_exported_again(fp32_bundle, tmp_path):
    from editkit.models.mobile.runtime import BundleModel

    model = BundleModel(fp32_bundle, manifest.read(fp32_bundle))
    assert "BundleModel cannot be exported" in refused(exporting.export, model, exporting.Request(tmp_path / "new"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"quantisation": "int4"}, "'int4' is unknown"),
        ({"sizes": [100]}, "100 px cannot be exported"),
        ({"sizes": [64, 32]}, "32 px cannot be exported"),
        ({"quantisation": "int8-static"}, "has to be calibrated"),
    ],
)
def test_a_wrong_wish_is_refused_before_anything_is_made(export, tmp_path, options, said):
    heard = []
    assert said in refused(export, tmp_path / "new", callback=lambda *what: heard.append(what), **options)
    assert heard == [] and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir(), lambda p: p.write_text("x")])
def test_photographs_to_calibrate_on_that_are_not_there_are_said_at_once(export, tmp_path, make):
    make(tmp_path / "photos")
    before, heard = tree(tmp_path), []
    said = refused(export, tmp_path / "new", "int8-static", calibration=tmp_path / "photos",
                   callback=lambda *what: heard.append(what))  # fmt: skip
    assert "no photographs in" in said and heard == [] and tree(tmp_path) == before


def test_a_photograph_that_is_none_is_named(export, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "bad.jpg").write_bytes(b"no photo")
    said = refused(export, tmp_path / "new", "int8-static", calibration=tmp_path / "photos")
    assert "bad.jpg cannot be read" in said and not (tmp_path / "new").exists()


@pytest.mark.parametrize("count", [1, 7])
def test_static_bundles_are_calibrated_on_the_users_photographs_for_every_task_and_size(
    export, tmp_path, monkeypatch, count
):
    photos, seen = tmp_path / "photos" / "below", {}
    photos.mkdir(parents=True)
    for index in range(count):
        pixels = torch.randint(0, 256, (70, 90, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(index))
        Image.fromarray(pixels.numpy()).save(photos / f"{index}.png")
    (photos / "notes.txt").write_text("no photo")

    def write(name, part, bundle, kind, calibration):  # the quantiser itself is tested elsewhere
        seen[name] = {key: len(values) for key, values in calibration[name].items()}
        shutil.copyfile(part / f"{name}.tflite", bundle / f"{name}.tflite")

    monkeypatch.setattr(exporting, "_write_quantised", write)
    made = export(tmp_path / "new", "int8-static", sizes=SIZES, calibration=tmp_path / "photos")
    tasks = max(count, 5)  # in turn: removal, outpainting, tone, relighting, sticker, removal, outpainting
    assert seen["encoder"] == seen["decoder"] == {"serving_default": tasks, "size_96": tasks}
    steps = tasks + (4 if count == 7 else 2)  # these two tasks take two
    assert seen["denoiser"] == {"serving_default": steps, "size_96": steps}
    assert seen["shadow"] == {"serving_default": 4 if count == 7 else 2} and seen["relight"] == {"serving_default": 2}
    assert made["manifest"]["quantisation"] == "int8-static"


class Stop:
    """A callback that interrupts at the n-th stage."""

    def __init__(self, stage, kind=KeyboardInterrupt):
        self.left, self.kind = stage, kind

    def __call__(self, *_what):
        if self.left == 0:
            raise self.kind
        self.left -= 1


@pytest.mark.parametrize("stage", [0, 3, 8, 12, 14])
def test_an_interruption_leaves_nothing_behind(export, tmp_path, stage):
    with pytest.raises(KeyboardInterrupt):
        export(tmp_path / "new", callback=Stop(stage))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stage", [8, 13, 14])
def test_an_interruption_leaves_the_older_bundle_as_it_was(export, tmp_path, bundle, stage):
    before = tree(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        export(bundle, "int8", callback=Stop(stage), overwrite=True)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("kind", [OSError("no"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_a_move_that_fails_brings_the_older_bundle_and_its_zip_back(export, tmp_path, bundle, monkeypatch, kind, step):
    (tmp_path / "bundle.zip").write_bytes(b"older")
    before, real, moves = tree(tmp_path), exporting.os.replace, []

    def replace(source, target):
        if tmp_path in (source.parent, target.parent):  # to or from the place itself
            moves.append(source)
            if len(moves) == step:
                raise kind
        return real(source, target)

    monkeypatch.setattr(exporting.os, "replace", replace)
    with pytest.raises((EditError, KeyboardInterrupt)):
        export(bundle, "int8", overwrite=True)
    assert tree(tmp_path) == before


def test_an_error_of_the_disk_midway_is_one_sentence(export, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting.golden, "write", full)
    assert "could not be written" in (said := refused(export, tmp_path / "new")) and "No space left" in said
    assert list(tmp_path.iterdir()) == []


def test_a_component_that_loses_too_much_is_made_more_gently(export, tmp_path, monkeypatch):
    real, asked = accuracy.of_component, []

    def of_component(bundle, name, cases):
        asked.append(name)
        return 39.9 if name == "decoder" and asked.count("decoder") <= 2 else real(bundle, name, cases)

    monkeypatch.setattr(accuracy, "of_component", of_component)
    kinds = {f["name"]: f["quantisation"] for f in export(tmp_path / "new", "int8")["manifest"]["files"]}
    assert kinds == {**dict.fromkeys(("encoder", "denoiser", "shadow", "relight"), "int8"), "decoder": "fp16"}


def test_a_component_that_no_kind_helps_ends_the_export(export, tmp_path, monkeypatch):
    monkeypatch.setattr(accuracy, "of_component", lambda _bundle, name, _cases: 12.3 if name == "shadow" else 99.0)
    assert refused(export, tmp_path / "new", "int8") == "shadow cannot be exported: 12.3 dB."
    assert list(tmp_path.iterdir()) == []


def test_a_result_that_is_not_a_number_is_no_good_result(export, tmp_path, monkeypatch):
    monkeypatch.setattr(accuracy, "of_component", lambda *_: float("nan"))
    assert "encoder cannot be exported" in refused(export, tmp_path / "new")


def test_an_edit_that_loses_too_much_gets_a_gentler_decoder(export, tmp_path, monkeypatch):
    real, asked = accuracy.of_edits, []

    def of_edits(bundle, cases):
        asked.append(1)
        found = real(bundle, cases)
        return found | ({"tone": {**found["tone"], "hole": 34.9}} if len(asked) == 1 else {})

    monkeypatch.setattr(accuracy, "of_edits", of_edits)
    data = export(tmp_path / "new", "int8")["manifest"]
    assert [f["quantisation"] for f in data["files"]] == ["int8", "int8", "int8-weights", "int8", "int8"]
    decoder = next(f for f in data["files"] if f["name"] == "decoder")
    assert decoder["bytes"] == (tmp_path / "new" / "decoder.tflite").stat().st_size


def test_an_edit_that_no_decoder_helps_ends_the_export_with_its_name(export, tmp_path, monkeypatch):
    monkeypatch.setattr(accuracy, "of_edits", lambda *_: {"tone": {"whole": 20.0, "hole": 30.0, "outside": 20.0}})
    assert "The edit tone reaches 20.0 dB" in refused(export, tmp_path / "new", "int8")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("foreign", ["FLEX FlexErf", "CUSTOM aten.x", "STABLEHLO_GATHER"])
def test_a_file_with_an_operator_that_a_phone_lacks_is_never_published(export, tmp_path, monkeypatch, foreign):
    real = operators._operators

    def found(path):
        count, others = real(path)
        return (count | {foreign: 1}, [foreign]) if path.name == "decoder.tflite" else (count, others)

    monkeypatch.setattr(operators, "_operators", found)
    assert refused(export, tmp_path / "new", "int8") == f"decoder cannot be exported: {foreign}."
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_that_does_not_verify_is_never_published(export, tmp_path, monkeypatch):
    real = exporting._finish

    def damage(bundle, *rest):
        real(bundle, *rest)
        (bundle / "decoder.tflite").write_bytes(b"damaged")

    monkeypatch.setattr(exporting, "_finish", damage)
    assert "decoder.tflite is truncated" in refused(export, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_random_weights_are_called_random(export, tmp_path):
    made = export(tmp_path / "new", trained=False, licence="LicenseRef-mine", name="noise", version="9.9")
    text = (made["folder"] / "README.md").read_text(encoding="utf-8")
    assert "Random weights" in text and "noise for phones" in text and "LicenseRef-mine" in text
    assert made["manifest"]["model"]["trained"] is False and made["manifest"]["created_by"].endswith("9.9")


def test_a_task_of_the_users_is_in_the_manifest(tiny, converted, tmp_path):
    import copy
    from dataclasses import replace

    own = copy.deepcopy(tiny)
    own.config = replace(own.config, extra_tasks={"sepia": 0.9})
    draft = exporting._draft(own, [64], exporting.Request(tmp_path))
    assert draft["tasks"]["sepia"] == {"tau": 0.9, "mask": "optional", "steps": 1, "working_size": 64,
                                       "first_guess": "image", "delivery": "residual", "gain_head": None}  # fmt: skip


def test_the_model_that_is_exported_stays_as_it_was(export, tiny, tmp_path):
    before = {k: v.clone() for k, v in tiny.state_dict().items()}
    export(tmp_path / "new", "int8")
    assert all(torch.equal(v, before[k]) for k, v in tiny.state_dict().items())
    copied = exporting.plain(tiny.double())
    tiny.float()
    assert {p.dtype for p in copied.parameters()} == {torch.float32}
    assert copied.state_dict().keys() == before.keys()


def test_the_golden_files_are_what_the_readme_says_they_are(fp32_bundle):
    import numpy as np

    entry = json.loads((fp32_bundle / "manifest.json").read_text())["golden"]["remove"]
    with Image.open(fp32_bundle / entry["image"]) as picture:
        assert picture.size == (64, 64) and picture.mode == "RGB"
    with Image.open(fp32_bundle / entry["mask"]) as picture:
        assert set(np.unique(np.asarray(picture))) == {0, 255}
    decoded = np.frombuffer((fp32_bundle / entry["decoded"]).read_bytes(), "<f4")
    assert decoded.size == 64 * 64 * 3 and np.isfinite(decoded).all()
    assert len(entry["noise"]) == entry["steps"] == 2
