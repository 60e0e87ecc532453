"""Small banks that need no file outside the packages: two sample photographs and a few rendered cut-outs."""

import numpy as np
import pytest

from editkit.training.blazeedit.data import cutouts, objects, photos


@pytest.fixture(scope="session", autouse=True)
def _needs():
    for package in ("cv2", "skimage", "sklearn"):
        pytest.importorskip(
            package, reason=f"training data need {package}: pip install -r requirements-train.txt"
        )


@pytest.fixture(scope="session")
def packaged():
    return photos.package_photographs()


@pytest.fixture(scope="session")
def bank(packaged):
    return photos.PhotoBank({name: packaged[name] for name in ("china", "motorcycle_left", "ihc")})


@pytest.fixture(scope="session")
def things():
    rng = np.random.default_rng(5)
    drawn = {f"thing{i:02}": objects.render_object(rng, 96) for i in range(10)}
    return cutouts.CutoutBank({name: (rgba * 255 + 0.5).astype(np.uint8) for name, rgba in drawn.items()})


@pytest.fixture
def rng():
    return np.random.default_rng(7)
