"""Words of the small worlds."""

import zlib

import numpy as np
import torch
from torch import Tensor


def vector(word: str, width: int) -> Tensor:
    """The same standard normal vector for a word on every machine."""
    return torch.from_numpy(np.random.default_rng(zlib.crc32(word.encode())).standard_normal(width)).float()
