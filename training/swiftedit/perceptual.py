"""DISTS (Ding et al. 2020), the perceptual loss of stage 2, from torchmetrics, which fetches VGG's weights."""

import torch
from torch import Tensor, nn

from ...models.errors import EditError

REMEDY = "install requirements-train.txt and the torchvision of your torch, or say --no-perceptual"


def load_dists() -> nn.Module:
    """The DISTS network with its published weights, frozen. EditError when torchmetrics or VGG is out of reach."""
    try:
        from torchmetrics.functional.image.dists import DISTSNetwork

        network = DISTSNetwork()
    except (ImportError, RuntimeError) as error:
        raise EditError(f"DISTS is not to be had here ({_reason(error)}); {REMEDY}.") from None
    except OSError as error:  # urllib's errors too
        raise EditError(
            f"The weights of DISTS's VGG cannot be fetched ({_reason(error)}); go online once, or say --no-perceptual."
        ) from None
    return network.requires_grad_(False).eval()


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:120]


def perceptual(network: nn.Module, image: Tensor, made: Tensor) -> Tensor:
    """DISTS(x, x_hat), the mean over pictures [b, 3, h, w] in 0..1; 0 when they are equal. In fp32.

    `made` may leave 0..1 a little: clamped it would have no gradient there.
    """
    with torch.autocast(image.device.type, enabled=False):
        return network(image.float(), made.float(), require_grad=True).mean()
