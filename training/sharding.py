"""What the loop does where FSDP2 spreads the weights over processes: gathering what is saved, placing what is read."""

from typing import Any

import torch
from torch import Tensor


def is_sharded(accelerator) -> bool:
    """Whether a launch was told to use FSDP2."""
    return bool(getattr(accelerator, "is_fsdp2", False))


def whole(value: Any) -> Any:
    """The same nest of dicts and lists with every spread tensor put together on the CPU; all processes must ask."""
    if isinstance(value, dict):
        return {name: whole(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(whole(one) for one in value)
    return value.full_tensor().cpu() if _is_spread(value) else value


def like(value: Tensor, example: Tensor) -> Tensor:
    """A whole tensor spread as `example` is."""
    if not _is_spread(example):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(example.device), example.device_mesh, example.placements)


def optimizer_state(state: dict, optimizer: torch.optim.Optimizer) -> dict:
    """An optimiser's whole state, its averages spread as the parameters that they belong to."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    spread = {
        index: {k: like(v, parameters[index]) if _fits(v, parameters[index]) else v for k, v in one.items()}
        for index, one in state["state"].items()
    }
    return state | {"state": spread}


def _fits(value: Any, parameter: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == parameter.shape


def _is_spread(value: Any) -> bool:
    return isinstance(value, Tensor) and hasattr(value, "full_tensor")
