"""`verify`: a fresh bundle passes, what falls short is named, and the command line's exit status says which."""

import json
import math
import shutil

import pytest
import torch

from editkit.headless.cli import main
from editkit.models.errors import EditError
from editkit.models.mobile import accuracy, manifest, verify


def altered(bundle, name, change):
    """A file changed and the manifest made to agree, as a careless build would."""
    path = bundle / name
    path.write_bytes(change(path.read_bytes()))
    data = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    for entry in data["files"] + data["golden_files"]:
        if entry["path"] == name:
            entry |= {"bytes": path.stat().st_size, "sha256": manifest.sha256(path)}
    (bundle / "manifest.json").write_text(json.dumps(data), encoding="utf-8")
    return bundle


@pytest.mark.parametrize("kind", ["fp32_bundle", "int8_bundle"])
def test_a_fresh_bundle_passes_with_a_row_per_file_and_two_per_edit(request, kind):
    rows = verify.verify(request.getfixturevalue(kind))
    assert [r["what"] for r in rows[:5]] == ["encoder", "denoiser", "decoder", "shadow", "relight"]
    assert {r["what"] for r in rows[5:]} == {f"edit {t}" for t in ("remove", "outpaint", "tone", "relight", "sticker")}
    assert all(r["db"] >= r["needed"] for r in rows) and len(verify.lines(rows)) == len(rows) == 15


@pytest.mark.parametrize(("kind", "least"), [("fp32_bundle", 100), ("int8_bundle", 45)])
def test_how_close_a_bundle_comes_to_torch(request, kind, least):
    assert min(r["db"] for r in verify.verify(request.getfixturevalue(kind))) > least


def test_what_verify_measures_is_what_the_manifest_says(int8_bundle):
    told = manifest.read(int8_bundle).data["accuracy"]
    for row in verify.verify(int8_bundle):
        known = told["components"].get(row["what"])
        if known is None:
            known = told["edits"][row["what"].removeprefix("edit ")]["whole" if row["kind"] == "whole" else "hole"]
        assert row["db"] == pytest.approx(known, abs=0.5) or (known is None and math.isinf(row["db"]))


def test_a_component_that_falls_short_is_named(bundle):
    def scaled(content):  # the decoder's pictures are expected a hundredth brighter
        values = torch.frombuffer(bytearray(content), dtype=torch.float32)
        return (values * 1.01 + 0.01).numpy().tobytes()

    with pytest.raises(EditError, match=r"^decoder \(fp32\) reaches [\d.]+ dB against torch, and 85 are needed\.$"):
        verify.verify(altered(bundle, "golden/tone_decoded.f32", scaled))


def test_weights_of_another_model_are_found_where_every_hash_agrees(bundle):
    shutil.copyfile(bundle / "shadow.tflite", bundle / "relight.tflite")
    with pytest.raises(EditError, match=r"^relight \(fp32\) reaches"):
        verify.verify(altered(bundle, "relight.tflite", lambda content: content))


def test_an_edit_that_falls_short_is_named():
    edits = {"tone": {"whole": 34.0, "hole": 50.0, "outside": 34.0}}
    with pytest.raises(EditError, match="edit tone reaches 34.0 dB against torch, and 35 are needed"):
        accuracy.check("int8", {"decoder": ("int8", 40.0)}, edits)
    accuracy.check("int8", {"decoder": ("int8", 40.0)}, {"tone": {"whole": 35.0, "hole": 35.0, "outside": 1.0}})


@pytest.mark.parametrize("value", [39.99, float("nan"), -math.inf])
def test_a_component_below_its_bar_is_named(value):
    with pytest.raises(EditError, match=r"decoder \(int8\) reaches"):
        accuracy.check("int8", {"encoder": ("fp32", math.inf), "decoder": ("int8", value)}, {})


def test_psnr_has_the_references_range_as_its_peak():
    reference = torch.tensor([0.0, 4.0])
    assert accuracy.psnr(reference, reference) == math.inf
    assert accuracy.psnr(reference, reference + 0.04) == pytest.approx(40.0, abs=1e-4)
    inside = torch.tensor([1.0, 0.0])
    assert accuracy.psnr(reference, reference + torch.tensor([0.0, 1.0]), inside) == math.inf
    assert accuracy.psnr(reference, reference + torch.tensor([0.4, 9.0]), inside) == pytest.approx(20.0, abs=1e-4)
    assert math.isnan(accuracy.psnr(reference, torch.tensor([0.0, float("nan")])))


@pytest.mark.parametrize(
    ("side", "change", "said"),
    [
        ("inputs", lambda t: t.update(shape=[1, 64, 32, 3]), "encoder.tflite does not have the inputs"),
        ("inputs", lambda t: t.update(name="picture"), "encoder.tflite does not have the inputs"),
        ("outputs", lambda t: t.update(shape=[1, 8, 8, 9]), "encoder.tflite does not have the outputs"),
    ],
)
def test_tensors_that_are_not_the_manifests_are_named(bundle, side, change, said):
    data = json.loads((bundle / "manifest.json").read_text())
    change(data["files"][0]["signatures"][0][side][0])
    (bundle / "manifest.json").write_text(json.dumps(data))
    with pytest.raises(EditError, match=said):
        verify.verify(bundle)


def test_a_signature_that_is_not_there_is_named(bundle):
    data = json.loads((bundle / "manifest.json").read_text())
    data["files"][2]["signatures"][1]["key"] = "size_128"
    (bundle / "manifest.json").write_text(json.dumps(data))
    with pytest.raises(EditError, match="decoder.tflite has no signature 'size_128'"):
        verify.verify(bundle)


def test_a_file_that_is_no_litert_model_is_said_where_every_hash_agrees(bundle):
    with pytest.raises(EditError, match="denoiser.tflite is damaged or not a LiteRT model"):
        verify.verify(altered(bundle, "denoiser.tflite", lambda content: b"x" * 5000))


def test_golden_numbers_of_another_count_are_said(bundle):
    with pytest.raises(EditError, match="golden/tone_features.f32 holds .* numbers, not 8x8x8"):
        verify.verify(altered(bundle, "golden/tone_features.f32", lambda content: content[:-400]))


@pytest.mark.parametrize("content", [b"no picture", b""])
def test_a_golden_picture_that_is_none_is_said(bundle, content):
    with pytest.raises(EditError, match="golden/tone_image.png"):
        verify.verify(altered(bundle, "golden/tone_image.png", lambda _: content))


def test_a_golden_picture_of_another_size_is_said(bundle):
    other = (bundle / "golden" / "tone_96_image.png").read_bytes()
    with pytest.raises(EditError, match="golden/tone_image.png"):
        verify.verify(altered(bundle, "golden/tone_image.png", lambda _: other))


def test_the_command_line_ends_with_0_for_a_whole_bundle(int8_bundle, capsys):
    assert main(["verify", str(int8_bundle)]) == 0
    said = capsys.readouterr()
    assert "decoder" in said.out and "edit sticker" in said.out and "is whole" in said.out and said.err == ""


@pytest.mark.parametrize("name", ["denoiser.tflite", "golden/relight_mask.png"])
def test_the_command_line_ends_with_1_and_the_name_of_the_damaged_file(bundle, capsys, name):
    (bundle / name).write_bytes((bundle / name).read_bytes()[:-7])
    assert main(["verify", str(bundle)]) == 1
    said = capsys.readouterr().err.strip()
    assert said.startswith("error: ") and name in said and "truncated" in said and "\n" not in said


def test_the_command_line_ends_with_1_for_no_bundle(tmp_path, capsys):
    assert main(["verify", str(tmp_path / "gone")]) == 1
    assert "There is no bundle folder" in capsys.readouterr().err
