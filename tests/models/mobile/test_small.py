"""The weights that ship, exported for real: small enough for a phone, and their edits are torch's."""


import pytest
import torch

from editkit.models.blazeedit import checkpoint, pipeline
from editkit.models.mobile import accuracy, manifest, operators, samples, verify
from editkit.models.mobile.runtime import BundleModel
from editkit.tests.bundles import SHIPPED


@pytest.fixture(scope="module")
def small():
    return checkpoint.load(SHIPPED)


@pytest.fixture(scope="module")
def data(small_bundle):
    return manifest.read(small_bundle).data


def test_all_networks_together_are_at_most_14_megabytes(small_bundle, data):
    files = [small_bundle / f["path"] for f in data["files"]]
    assert [p.stem for p in files] == ["encoder", "denoiser", "decoder", "shadow", "relight"]
    assert sum(p.stat().st_size for p in files) <= 14_000_000


def test_the_bundle_knows_its_weights_and_its_canvas(data, small):
    assert data["model"]["weights_sha256"] == checkpoint.digest(SHIPPED)
    assert data["model"]["parameters"] == sum(p.numel() for p in small.parameters())
    assert data["canvas"]["sizes"] == [256] and data["quantisation"] == "int8" and data["mobile_ready"] is True


def test_every_component_and_every_edit_reaches_its_bar(data):
    kinds = {f["name"]: f["quantisation"] for f in data["files"]}
    for name, db in data["accuracy"]["components"].items():
        assert db >= accuracy.COMPONENT[kinds[name]] >= 40
    assert len(data["accuracy"]["edits"]) == 5
    for row in data["accuracy"]["edits"].values():
        assert min(db for db in (row["whole"], row["hole"]) if db is not None) >= accuracy.EDIT["int8"] == 35
    assert data["accuracy"]["residual"] >= 30


def test_the_larger_part_is_in_8_bits_and_no_operator_is_foreign(small_bundle, data):
    eight = [f["bytes"] for f in data["files"] if f["quantisation"] == "int8"]
    assert sum(eight) > sum(f["bytes"] for f in data["files"]) / 2
    assert max(d["xnnpack_partitions"] for d in data["delegation"].values()) <= 2
    for entry in data["files"]:
        report = operators.inspect(small_bundle / entry["path"])
        assert report.refused == [] and report.operators == data["operators"][entry["name"]]


def test_it_verifies_again(small_bundle):
    assert all(row["db"] >= row["needed"] for row in verify.verify(small_bundle))


def rmse(one, other, where) -> float:
    return float(((one - other) * where).square().sum() / where.expand_as(one).sum()) ** 0.5


@pytest.mark.parametrize("task", ["remove", "relight", "tone"])
def test_a_photographs_edit_at_full_size_is_torchs_to_the_eye(small_bundle, small, task):
    phone = BundleModel(small_bundle, manifest.read(small_bundle))
    photo = samples._photo("mountain_path.jpg")
    mask = samples._mask("mountain_path_mask.png", *photo.shape[-2:])
    edit = {
        "remove": lambda m: pipeline.remove(m, photo, mask, texture=False),
        "relight": lambda m: pipeline.relight(m, photo),
        "tone": lambda m: pipeline.tone(m, photo),
    }[task]
    made, wanted = edit(phone), edit(small)
    where = (wanted.changed > 0).float()[:, None]
    assert rmse(made.image, wanted.image, where) < 0.012
    still = ((made.changed == 0) & (wanted.changed == 0))[:, None].expand_as(photo)
    assert torch.equal(made.image[still], photo[still])
    assert rmse(wanted.image, photo, where) > 0.02, "there is an edit to compare"
