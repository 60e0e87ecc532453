"""The painted mask: the input that nodes with a region share, and what stands in for a mask that is not linked."""

from torch import Tensor

from ..models import masks
from ..models.errors import EditError
from .host import painted

WIDGET = "EDITKIT_MASK"
UNLINKED = object()


def paint_input(means: str, over: str = "mask", opens: bool = False) -> tuple:
    """The widget's input. means: what a grey value is to this node; over: the MASK input that goes before it.

    opens: the painter is unfolded on a new node, which cannot do without a mask.
    """
    tooltip = f"A mask painted here, in place of {over}: {means}"
    return ("STRING", {"default": "", "widgetType": WIDGET, "socketless": True, "over": over, "opens": opens,
                       "tooltip": tooltip})  # fmt: skip


def region_given(mask: Tensor | None, mask_paint: str, image: Tensor | None = None) -> Tensor | None:
    """The linked MASK, else the painted one [1, h, w], else None. image: an IMAGE whose size the painted one gets."""
    if mask is not None or not mask_paint.strip():
        return mask
    mask = painted.read(mask_paint)
    return mask if image is None else masks.fit(mask, *image.shape[1:3])


class TakesPaint:
    """A node with an input `mask_paint`: runs again when the file was painted over, and refuses a missing one at once.

    OVER names the MASK input that goes before it; NEEDS_MASK: one of the two has to be there.
    """

    OVER, NEEDS_MASK = "mask", False

    @classmethod
    def IS_CHANGED(cls, mask_paint="", **linked):
        if mask_paint is None:  # from another node, which has not run
            return float("nan")
        return painted.digest(mask_paint) if mask_paint.strip() and cls.OVER not in linked else ""

    @classmethod
    def VALIDATE_INPUTS(cls, mask_paint="", mask=UNLINKED, target_mask=UNLINKED):
        linked = {"mask": mask, "target_mask": target_mask}[cls.OVER] is not UNLINKED
        if linked or mask_paint is None:
            return True
        if not mask_paint.strip():
            return "Paint a mask on the node, or wire one; white is the region to edit." if cls.NEEDS_MASK else True
        try:
            painted.find(mask_paint)
        except EditError as problem:
            return str(problem)
        return True
