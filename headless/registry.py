"""The node classes of this process: EditKit's own, and stand-ins for core nodes that nobody else provides."""

from .standins import STANDINS

SAVE = "EditKitSaveEditedImage"


def node_classes() -> dict[str, type]:
    """Returns class name → class. Imports the pack's nodes, and with them torch."""
    from ..nodes import NODE_CLASS_MAPPINGS

    if SAVE in NODE_CLASS_MAPPINGS:
        from .saving import offer

        offer()
    return {**STANDINS, **NODE_CLASS_MAPPINGS}
