"""The front ends of ComfyUI that the canvas is tried in."""

from typing import NamedTuple

import pytest


class FrontEnd(NamedTuple):
    """A version of comfyui-frontend-package and whether nodes are drawn by Vue (Nodes 2.0) or on the canvas."""

    version: str
    vue: bool

    @property
    def name(self) -> str:
        return f"{self.version}-{'nodes2' if self.vue else 'classic'}"


FRONT_ENDS = [FrontEnd("1.27.10", False), FrontEnd("1.58.1", False), FrontEnd("1.58.1", True)]
newest = pytest.mark.repeats(front_end=FRONT_ENDS[-1])  # the others only under `make test-long`
