"""The node classes of this process: EditKit's own, and stand-ins for core nodes that nobody else provides."""

from . import folders
from .standins import STANDINS


def node_classes() -> dict[str, type]:
    """Returns class name → class. Imports the pack's nodes, and with them torch."""
    from ..nodes import NODE_CLASS_MAPPINGS
    from ..nodes.host import painted, previews
    from . import saving

    painted.set_places(folders.places)
    previews.set_folder(lambda: folders.current().temp)
    saving.offer()
    return {**STANDINS, **NODE_CLASS_MAPPINGS}
