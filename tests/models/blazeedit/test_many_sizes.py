"""Pictures and masks of many sizes through all five edits with the shipped weights."""

import pytest
import torch
from torch.nn import functional as F

from editkit.models.blazeedit import checkpoint, pipeline


@pytest.fixture(scope="module")
def shipped():
    return checkpoint.load(None)


def scene(seed: int):
    """A smooth random picture of a random size, and one to three soft-edged ellipses as the mask."""
    g = torch.Generator().manual_seed(seed)
    height, width = (int(torch.randint(17, 420, (1,), generator=g)) for _ in range(2))
    image = F.interpolate(torch.rand(1, 3, 7, 9, generator=g), (height, width), mode="bicubic").clamp(0, 1)
    y, x = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)[None]
    mask = torch.zeros(1, height, width)
    for _ in range(int(torch.randint(1, 4, (1,), generator=g))):
        cy, cx, ry, rx = torch.rand(4, generator=g) * torch.tensor([1.6, 1.6, 0.3, 0.3]) - torch.tensor(
            [0.8, 0.8, -0.1, -0.1]
        )
        mask[0] = torch.maximum(mask[0], (4 - 4 * (((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2)).clamp(0, 1))
    return image, mask


@pytest.mark.long
def test_every_size_is_edited_and_what_is_not_edited_stays(shipped, at_length):
    for seed in range(at_length(24, 240)):
        image, mask = scene(seed)
        shape, task = tuple(image.shape), ("remove", "outpaint", "tone", "relight", "sticker")[seed % 5]
        before = image.clone()
        if task == "outpaint":
            left, top = seed % 50, (7 * seed) % 60
            edit = pipeline.outpaint(shipped, image, left=left, top=top, right=13)
            kept = edit.image[..., top : top + shape[2], left : left + shape[3]]
            assert torch.equal(kept, image) and edit.image.shape[-1] == shape[3] + left + 13
        elif task == "sticker":
            edit = pipeline.sticker(shipped, image, mask)
            assert edit.image.shape[1] == 4 and float(edit.image[:, 3].max()) == 1
        else:
            edit = getattr(pipeline, task)(shipped, image, mask)
            assert tuple(edit.image.shape) == shape
            untouched = (edit.changed == 0)[:, None].expand(-1, 3, -1, -1)
            assert torch.equal(edit.image[untouched], image[untouched])
            assert float((edit.image - image).abs().max()) > 0
        assert (
            bool(edit.image.isfinite().all()) and 0 <= float(edit.image.min()) <= float(edit.image.max()) <= 1
        )
        assert torch.equal(image, before), "the input was changed"
