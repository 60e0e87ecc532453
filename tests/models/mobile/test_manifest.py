"""A bundle that is missing, foreign or damaged is refused in one sentence, before anything of it is opened."""

import json
import shutil

import pytest

from editkit.models.errors import EditError
from editkit.models.mobile import golden, manifest, runtime, verify


@pytest.fixture(autouse=True)
def no_file_is_opened(monkeypatch):
    """What is refused here is refused before an interpreter sees it."""

    def fail(path, threads):
        pytest.fail(f"{path} was opened before it was checked")

    monkeypatch.setattr(verify, "open_interpreter", fail)
    monkeypatch.setattr(runtime, "open_interpreter", fail)
    monkeypatch.setattr(golden, "read", lambda *_: pytest.fail("golden edits were read before they were checked"))


def refused(folder) -> str:
    """What verify says, in one line."""
    with pytest.raises(EditError) as problem:
        verify.verify(folder)
    assert "\n" not in str(problem.value)
    return str(problem.value)


def edited(bundle, change):
    path = bundle / "manifest.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")
    return bundle


def test_the_manifest_of_a_fresh_bundle_is_read(fp32_bundle):
    found = manifest.read(fp32_bundle)
    assert found.sizes == [64, 96]
    assert found.names == ["encoder", "denoiser", "decoder", "shadow", "relight"]
    assert found.signature("encoder", 64) == "serving_default"
    assert found.signature("encoder", 96) == "size_96"
    manifest.check_files(fp32_bundle, found)


def test_a_missing_folder_says_how_to_make_one(tmp_path):
    assert "no bundle folder" in (said := refused(tmp_path / "gone")) and "python . export" in said


def test_a_folder_without_a_manifest_is_no_bundle(bundle):
    (bundle / "manifest.json").unlink()
    assert "manifest.json is missing" in refused(bundle)


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe\x00", b'{"format": '])
def test_what_is_not_json_is_said(bundle, content):
    (bundle / "manifest.json").write_bytes(content)
    assert "manifest.json is not readable JSON" in refused(bundle)


def test_a_folder_of_the_manifests_name_is_said(bundle):
    (bundle / "manifest.json").unlink()
    (bundle / "manifest.json").mkdir()
    assert "manifest.json cannot be read" in refused(bundle)


@pytest.mark.parametrize("content", ["[]", "3", '"text"', "{}", '{"format": "webmanifest", "name": "x"}'])
def test_another_programs_manifest_is_no_bundles(bundle, content):
    (bundle / "manifest.json").write_text(content)
    assert "not an EditKit bundle's manifest" in refused(bundle)


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_version_is_named_with_the_one_that_is_read(bundle, version):
    said = refused(edited(bundle, lambda data: data.update(format_version=version)))
    assert f"format version {version!r}" in said and "reads version 1" in said


def test_a_damaged_manifest_is_refused_with_the_place(bundle):
    said = refused(edited(bundle, lambda data: data["files"][0].update(bytes="many")))
    assert "manifest.files[0].bytes is not of type integer" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["files"][2].update(name="other"), "no decoder for a canvas of 64 px"),
        (lambda d: d["canvas"].update(sizes=[64, 128]), "no encoder for a canvas of 128 px"),
        (lambda d: d["golden"]["tone"].update(size=128), "golden edit tone is of a size"),
        (lambda d: d["golden"]["tone"].update(task="sepia"), "golden edit tone is of a size, a task"),
        (lambda d: d["golden"]["remove"]["gain"].update(file="other"), "golden edit remove is of a size, a task or a"),
        (lambda d: d["golden"]["remove"].update(steps=1), "golden edit remove does not have what its 1 steps need"),
        (lambda d: d["golden"]["remove"].update(steps=7), "golden edit remove does not have what its 7 steps need"),
        (lambda d: d["golden"]["remove"]["noise"].pop(), "golden edit remove does not have what its 2 steps need"),
        (lambda d: d["golden"]["tone"].update(image="LICENSE"), "LICENSE of the golden edit tone is not among"),
        (lambda d: d["golden"]["tone"].update(guess="gone.png"), "gone.png of the golden edit tone is not among"),
        (lambda d: d["golden"]["remove"]["gain"].update(mask="README.md"), "README.md of the golden edit remove"),
        (lambda d: d["golden_files"].clear(), "is not among golden_files"),
    ],
)
def test_parts_that_do_not_fit_each_other_are_named(bundle, change, said):
    assert said in refused(edited(bundle, change))


@pytest.mark.parametrize("name", ["encoder.tflite", "relight.tflite", "golden/tone_image.png"])
def test_a_missing_file_is_named(bundle, name):
    (bundle / name).unlink()
    assert f"{name} is missing" in refused(bundle)


@pytest.mark.parametrize("name", ["denoiser.tflite", "golden/remove_noise_1.f32"])
@pytest.mark.parametrize(("keep", "said"), [(-1, "truncated"), (0, "truncated"), (None, "too long")])
def test_a_file_of_another_length_is_named(bundle, name, keep, said):
    content = (bundle / name).read_bytes()
    (bundle / name).write_bytes(content + b"\0" if keep is None else content[:keep])
    assert f"{name} is {said} (" in refused(bundle)


@pytest.mark.parametrize("name", ["decoder.tflite", "shadow.tflite", "golden/outpaint_decoded.f32"])
def test_one_flipped_bit_is_found(bundle, name):
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    assert f"{name} was altered" in refused(bundle)


def test_a_file_that_was_exchanged_for_another_of_the_bundle_is_found(bundle):
    shutil.copyfile(bundle / "shadow.tflite", bundle / "relight.tflite")
    assert "relight.tflite" in refused(bundle)


def test_a_time_that_no_schedule_holds_is_refused(fp32_bundle):
    found = manifest.read(fp32_bundle)
    assert found.noise_levels(1.0) == (0.0, 1.0) and found.noise_levels(0.5) == (0.5, 0.5)
    with pytest.raises(EditError, match="schedules of 1, 2 steps only, and none holds the time 0.75"):
        found.noise_levels(0.75)


def test_a_network_of_a_size_that_is_not_there_is_refused(fp32_bundle):
    with pytest.raises(EditError, match="no encoder for pictures of 128 px"):
        manifest.read(fp32_bundle).signature("encoder", 128)
