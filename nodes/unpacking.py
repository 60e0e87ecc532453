"""Between ComfyUI's values and the models' tensors: what every picture node does first and last."""

from torch import Tensor

from ..models import masks
from ..models.errors import EditError
from ..models.image import from_host, to_host
from .host.devices import intermediate_device, load_device


def picture(image: Tensor) -> tuple[Tensor, Tensor | None]:
    """IMAGE to (rgb [b, 3, h, w], alpha [b, h, w] or None)."""
    return from_host(image)


def region(mask: Tensor | None) -> Tensor | None:
    """A MASK, or None for the 64x64 black one that stands for "no mask" (LoadImage without alpha).

    EditError for NaN and for another shape than [h, w] or [b, h, w].
    """
    if mask is None:
        return None
    mask = masks.checked(mask)
    return None if tuple(mask.shape[-2:]) == (64, 64) and not bool((mask > 0).any()) else mask


def repeated(rgb: Tensor, alpha: Tensor | None, edited: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
    """A picture, its alpha and its edit as batches of one length, a single one serving all. EditError otherwise."""
    batch = max(len(rgb), len(edited))
    if len(rgb) not in (1, batch) or len(edited) not in (1, batch):
        raise EditError(
            f"{len(edited)} edited pictures do not fit {len(rgb)}; give one, or one per picture of the batch."
        )
    alpha = None if alpha is None else alpha.expand(batch, -1, -1)
    return rgb.expand(batch, -1, -1, -1), alpha, edited.expand(batch, -1, -1, -1)


def packed(image: Tensor, alpha: Tensor | None = None) -> Tensor:
    """[b, c, h, w], and the input's alpha if it had one, to IMAGE where ComfyUI wants it."""
    return to_host(image, alpha).to(intermediate_device())


def packed_mask(mask: Tensor) -> Tensor:
    """[b, h, w] to MASK where ComfyUI wants it."""
    return mask.float().to(intermediate_device())


def on_device(*tensors: Tensor | None) -> tuple[Tensor | None, ...]:
    """The same tensors on the computing device."""
    return tuple(t if t is None else t.to(load_device()) for t in tensors)
