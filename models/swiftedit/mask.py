"""The self-guided editing mask: where two prompts make the inversion network predict different noise (Sec. 4.2)."""

from torch import Tensor

CLAMP, THRESHOLD = 3.0, 0.5


def difference(source: Tensor, edit: Tensor) -> Tensor:
    """|eps_source - eps_edit| averaged over channels: [b, 4, h, w] each to [b, h, w]."""
    return (source - edit).abs().mean(1)


def normalised(difference: Tensor, clamp: float = CLAMP) -> Tensor:
    """The difference clamped at `clamp` times its mean and brought to 0..1, picture by picture.

    difference: [b, h, w]. Two equal noises give black. ValueError for a clamp that is not positive.
    """
    if clamp <= 0:
        raise ValueError(f"The clamp is {clamp}; use a value above 0.")
    top = clamp * difference.mean((-2, -1), keepdim=True)
    return (difference.clamp_min(0).minimum(top) / top).nan_to_num(0.0)


def self_guided(source: Tensor, edit: Tensor, clamp: float = CLAMP, threshold: float = THRESHOLD) -> Tensor:
    """The binary mask M, 1 where the pictures should differ: `normalised` > threshold.

    source, edit: predicted noises [b, 4, h, w]. Returns [b, h, w] float. With the released code's 3 and 0.5 it is
    where the difference exceeds 1.5 times its mean.
    """
    return (normalised(difference(source, edit), clamp) > threshold).float()
