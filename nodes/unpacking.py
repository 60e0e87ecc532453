"""Between ComfyUI's values and the models' tensors: what every picture node does first and last."""

from torch import Tensor

from ..models.errors import EditError
from ..models.image import from_host, to_host
from .host.devices import intermediate_device, load_device


def picture(image: Tensor) -> tuple[Tensor, Tensor | None]:
    """IMAGE to (rgb [b, 3, h, w], alpha [b, h, w] or None)."""
    return from_host(image)


def region(mask: Tensor | None) -> Tensor | None:
    """A MASK, or None for the 64x64 black one that stands for "no mask" (LoadImage without alpha)."""
    if mask is None or (tuple(mask.shape[-2:]) == (64, 64) and not bool((mask > 0).any())):
        return None
    return mask.float()


def paired(image: Tensor, edited: Tensor) -> tuple[Tensor, Tensor]:
    """Two IMAGEs of as many pictures each; a single one serves a whole batch. EditError for other batches."""
    count = max(len(image), len(edited))
    if min(len(image), len(edited)) not in (1, count):
        raise EditError(
            f"{len(edited)} edited pictures do not fit {len(image)} originals; give as many of each, or one of either."
        )
    return tuple(x if len(x) == count else x.expand(count, *x.shape[1:]) for x in (image, edited))


def packed(image: Tensor, alpha: Tensor | None = None) -> Tensor:
    """[b, c, h, w], and the input's alpha if it had one, to IMAGE where ComfyUI wants it."""
    return to_host(image, alpha).to(intermediate_device())


def packed_mask(mask: Tensor) -> Tensor:
    """[b, h, w] to MASK where ComfyUI wants it."""
    return mask.float().to(intermediate_device())


def on_device(*tensors: Tensor | None) -> tuple[Tensor | None, ...]:
    """The same tensors on the computing device."""
    return tuple(t if t is None else t.to(load_device()) for t in tensors)
