"""One file for all networks: a signature each, the same results, each network as it was quantised."""

import pytest
import torch

from editkit.models.errors import EditError
from editkit.models.mobile import joining, manifest, verify
from editkit.models.mobile.runtime import BundleModel


def test_one_file_holds_every_network_and_gives_what_the_single_files_give(export, int8_bundle, tmp_path):
    made = export(tmp_path / "one", "int8", (64, 96), single_file=True)
    assert [p.name for p in made["folder"].glob("*.tflite")] == [joining.NAME]
    files = made["manifest"]["files"]
    keys = {s["key"]: f["name"] for f in files for s in f["signatures"]}
    assert keys["encoder"] == keys["encoder_96"] == "encoder" and keys["shadow"] == "shadow"
    verify.verify(made["folder"])
    one, separate = (BundleModel(f, manifest.read(f)) for f in (made["folder"], int8_bundle))
    image, mask = torch.rand(1, 3, 60, 50), torch.ones(1, 60, 50)
    for a, b in zip(*(m.conditions(image, mask, 0.4, image) for m in (one, separate)), strict=True):
        assert torch.equal(a, b)


def test_the_page_wants_a_file_per_network(export, tmp_path):
    with pytest.raises(EditError, match="--single-file or --web"):
        export(tmp_path / "one", web=tmp_path, single_file=True)
    assert not list(tmp_path.iterdir())
