"""L*a*b* and CIEDE2000 against Sharma's published pairs and scikit-image."""

import numpy as np
import pytest
import torch
from skimage import color

from editkit.models import colour

# Sharma, Wu and Dalal 2005, Table 1: L*a*b* of two colours, and their difference
PUBLISHED = [
    ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
    ((50.0, -1.3802, -84.2814), (50.0, 0.0, -82.7485), 1.0),
    ((50.0, 0.0, 0.0), (50.0, -1.0, 2.0), 2.3669),
    ((50.0, 2.49, -0.001), (50.0, -2.49, 0.0009), 7.1792),
    ((50.0, 2.49, -0.001), (50.0, -2.49, 0.0011), 7.2195),
    ((50.0, 2.5, 0.0), (50.0, 0.0, -2.5), 4.3065),
    ((50.0, 2.5, 0.0), (73.0, 25.0, -18.0), 27.1492),
    ((50.0, 2.5, 0.0), (58.0, 24.0, 15.0), 19.4535),
    ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619), 2.0373),
    ((90.8027, -2.0831, 1.4410), (91.1528, -1.6435, 0.0447), 1.4441),
    ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
]


@pytest.mark.parametrize(("one", "other", "difference"), PUBLISHED)
def test_the_published_pairs(one, other, difference):
    a, b = (torch.tensor(x, dtype=torch.float64) for x in (one, other))
    assert float(colour.ciede2000(a, b)) == pytest.approx(difference, abs=1e-4)
    assert float(colour.ciede2000(b, a)) == pytest.approx(difference, abs=1e-4)


def test_random_colours_equal_scikit_image():
    one, other = torch.rand(2, 4000, 3, generator=torch.Generator().manual_seed(0)).double()
    one[:3] = torch.tensor([[0.0] * 3, [1.0] * 3, [0.5] * 3])
    labs = [colour.to_lab(x) for x in (one, other)]
    references = [color.rgb2lab(x.numpy()) for x in (one, other)]
    assert np.abs(labs[0].numpy() - references[0]).max() < 1e-2  # its matrix has six digits, ours seven
    ours = colour.ciede2000(*(torch.from_numpy(r) for r in references)).numpy()
    assert np.abs(ours - color.deltaE_ciede2000(*references)).max() < 1e-9


def test_equal_colours_do_not_differ():
    lab = colour.to_lab(torch.rand(100, 3, generator=torch.Generator().manual_seed(1)))
    assert float(colour.ciede2000(lab, lab.clone()).abs().max()) == 0
