"""Weights spread as FSDP2 spreads them, by torch's own fully_shard on the CPU.

accelerate itself turns FSDP2 on for GPUs alone, so what it would do in prepare() is done here by hand.
"""

from contextlib import contextmanager

import pytest
import torch.distributed as dist


@contextmanager
def spread(chosen):
    """Within it prepare() spreads the stage over a mesh of one process: the modules that `chosen` says yes to, and the
    stage around them."""
    from accelerate import Accelerator

    with pytest.MonkeyPatch.context() as patched:
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        patched.setattr(Accelerator, "is_fsdp2", True)
        patched.setattr(Accelerator, "prepare", lambda self, stage, *rest: _prepared(stage, rest, chosen))
        try:
            yield
        finally:
            dist.destroy_process_group()


def _prepared(stage, optimizers, chosen):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh, names = init_device_mesh("cpu", (1,)), {id(p): name for name, p in stage.named_parameters()}
    own = [[names[id(p)] for p in optimizer.param_groups[0]["params"]] for optimizer in optimizers]
    for module in [m for m in stage.modules() if m is not stage and chosen(m)]:
        fully_shard(module, mesh=mesh)
    fully_shard(stage, mesh=mesh)
    found = dict(stage.named_parameters())
    for optimizer, kept in zip(optimizers, own):
        optimizer.param_groups[0]["params"] = [found[name] for name in kept]
    return stage, *optimizers
