"""The family `editmgt_smoothing`: it agrees with what scipy and OpenCV give, and a file that was changed does not."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from editkit.benchmarks import cli, parity, parity_editmgt_smoothing


def finished(x, smoothed, peaks):
    above = x > np.percentile(x, 90)
    if peaks:
        smoothed = np.where(above, 0.7 * x + 0.3 * smoothed, smoothed)
    smoothed = (smoothed - smoothed.min()) / (smoothed.max() - smoothed.min())
    return torch.from_numpy((smoothed * (x.max() - x.min()) + x.min()).astype(np.float32)).reshape(1, -1)


def gaussian(x, strength):
    return pytest.importorskip("scipy.ndimage").gaussian_filter(x, 2 * strength)


def adaptive(x, strength):
    ndimage = pytest.importorskip("scipy.ndimage")
    variance = ndimage.generic_filter(x, np.var, size=5)
    weight = 1 - 0.7 * (variance - variance.min()) / (variance.max() - variance.min() + 1e-8)
    return weight * ndimage.gaussian_filter(x, 1.5 * strength) + (1 - weight) * x


def bilateral(x, strength):
    grey, sigma = (x * 255).astype(np.uint8), 75 * strength
    return pytest.importorskip("cv2").bilateralFilter(grey, int(9 * strength), sigma, sigma) / np.float32(255)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A folder in the recorded layout, by scipy and OpenCV."""
    folder = tmp_path_factory.mktemp("maps") / "editmgt_smoothing"
    folder.mkdir()
    draws = torch.Generator().manual_seed(0)
    raw, large = torch.rand(1, 1024, generator=draws) * 1e-3, torch.rand(1, 4096, generator=draws)
    rescaled = (raw - raw.min()) / (raw.max() - raw.min() + 1e-8)
    x, wide = rescaled.view(32, 32).numpy(), large.view(64, 64).numpy()
    tensors = {"raw": raw, "rescaled": rescaled, "raw4096": large}
    tensors["adaptive4096"] = finished(wide, adaptive(wide, 1.0), True)
    for function in (gaussian, adaptive, bilateral):
        for strength in parity_editmgt_smoothing.STRENGTHS:
            for peaks in parity_editmgt_smoothing.PEAKS:
                made = finished(x, function(x, float(strength)), peaks == "1")
                tensors[f"{function.__name__}.s{strength}.peaks{peaks}"] = made
    save_file(tensors, folder / parity_editmgt_smoothing.FILE)
    return folder


def test_every_quantity_agrees(recorded, capsys):
    assert cli.main(["parity", str(recorded)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "4 cases, 14 quantities, 0 failed"


@pytest.mark.parametrize(
    "name", ["rescaled", "gaussian.s3.0.peaks1", "adaptive4096", "bilateral.s1.0.peaks0"]
)
def test_a_changed_number_fails(recorded, tmp_path, name, capsys):
    folder = tmp_path / "editmgt_smoothing"
    folder.mkdir()
    tensors = load_file(recorded / parity_editmgt_smoothing.FILE)
    tensors[name][0, 7] += 0.05
    save_file(tensors, folder / parity_editmgt_smoothing.FILE)
    assert cli.main(["parity", str(folder)]) == 1
    assert any(name in line and line.endswith("FAILED") for line in capsys.readouterr().out.splitlines())


def test_a_quantity_that_is_not_in_the_file_fails(recorded, tmp_path, capsys):
    folder = tmp_path / "editmgt_smoothing"
    folder.mkdir()
    tensors = load_file(recorded / parity_editmgt_smoothing.FILE)
    del tensors["adaptive.s3.0.peaks0"]
    save_file(tensors, folder / parity_editmgt_smoothing.FILE)
    assert cli.main(["parity", str(folder)]) == 1
    assert "FAILED" in capsys.readouterr().out


def test_the_contracts_cases_are_registered():
    assert {c.name for c in parity.FAMILIES["editmgt_smoothing"]} == {
        "rescale",
        "gaussian",
        "adaptive",
        "bilateral",
    }
