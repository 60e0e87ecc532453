"""What ICEdit's routed experts cost a step, beside a plain LoRA and none. Part `icedit` of `bench speed`.

Blocks of FLUX.1 Fill's full width with random weights, one double to two single ones as the whole has 19 to 38, on a
diptych of 1024 x 512 pixels (2048 tokens) with T5's 512. A plain LoRA is merged into the weights and costs nothing; the
experts are computed beside their layers, by the function that the node calls.
"""

import copy
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from ..models.icedit import lora as files
from ..models.icedit import transformer
from ..models.icedit.experts import Experts
from . import stable_diffusion, timing

FULL = {"in_channels": 384, "out_channels": 64, "num_layers": 1, "num_single_layers": 2, "guidance_embeds": True}
TINY = {**FULL, "attention_head_dim": 32, "num_attention_heads": 4, "joint_attention_dim": 64,
        "pooled_projection_dim": 32, "axes_dims_rope": [8, 12, 12]}  # fmt: skip
GRID, WORDS = (32, 64), 512  # tokens of the diptych, and of the text
RANK, COUNT = 32, 4  # of the released mixture
NONE, PLAIN, ROUTED = "no LoRA", "a plain LoRA", "routed experts"


@dataclass
class Kit:
    """One network three times over (the layers without a LoRA are shared), and what it is asked. stack: holds them."""

    networks: dict[str, nn.Module]
    inputs: dict[str, Tensor]
    stack: ExitStack

    def step(self, name: str) -> Tensor:
        """The velocity of one step."""
        return self.networks[name](**self.inputs, return_dict=False)[0]


def kit(quick: bool = False) -> Kit:
    """Random blocks of FLUX.1 Fill's width (2.5 GB, and as much again for the LoRA), or tiny ones."""
    network = stable_diffusion.lively(partial(_flux, TINY if quick else FULL))
    plain, routed = adapters(network)
    networks, stack = {NONE: network}, ExitStack()
    for name, one in ((PLAIN, plain), (ROUTED, routed)):
        shared = {id(p): p for p in network.parameters()}
        networks[name] = stack.enter_context(transformer.attached(copy.deepcopy(network, shared), one))
    return Kit(networks, inputs(network, (4, 8) if quick else GRID, 16 if quick else WORDS), stack)


def _flux(config: dict):
    from diffusers import FluxTransformer2DModel

    return FluxTransformer2DModel(**config)


def adapters(network) -> tuple[files.Lora, files.Lora]:
    """(a plain LoRA, a mixture) of the released shapes for a network, with random values."""
    random, plain, experts = torch.Generator().manual_seed(1), {}, {}

    def draw(*shape):
        return torch.randn(shape, generator=random) / shape[-1] ** 0.5

    for name, (out, inside) in transformer.shapes(network).items():
        if files.TARGETS.fullmatch(name):
            plain[name] = draw(RANK, inside), draw(out, RANK) / 8, 1.0
        if files.MIXED.fullmatch(name):
            experts[name] = Experts(draw(COUNT * RANK, inside), draw(out, COUNT * RANK) / 8, draw(COUNT, inside))
    rest = {name: one for name, one in plain.items() if name not in experts}
    return files.Lora(plain), files.Lora(rest, experts)


def inputs(network, grid: tuple[int, int], words: int) -> dict[str, Tensor]:
    """What a step is given: a diptych's tokens and a prompt."""
    random, config = torch.Generator().manual_seed(2), network.config
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    ids = torch.stack([torch.zeros_like(rows), rows, columns], -1).flatten(0, 1).float()
    return {
        "hidden_states": torch.randn(1, len(ids), config.in_channels, generator=random),
        "encoder_hidden_states": torch.randn(1, words, config.joint_attention_dim, generator=random),
        "pooled_projections": torch.randn(1, config.pooled_projection_dim, generator=random),
        "timestep": torch.tensor([0.7]), "guidance": torch.tensor([50.0]), "img_ids": ids,
        "txt_ids": torch.zeros(words, 3),
    }  # fmt: skip


def rows(row: Callable[..., list[dict]], repeats: int, quick: bool) -> list[dict]:
    """Seconds of a step each way, and by how much routing takes longer. row: speed.row."""
    shared, made = kit(quick), {}
    jobs = {name: partial(_keep, made, name, shared) for name in (NONE, PLAIN, ROUTED)}
    with shared.stack:
        seconds = timing.interleaved(jobs, repeats, "icedit")
        work = {name: timing.operations(jobs[name]) for name in (PLAIN, ROUTED)}
    out = []
    for name in jobs:
        out += row("icedit", f"one step of three blocks, {name}", statistics.median(seconds[name]), "s")
    for other, limits in ((PLAIN, {"aim": 10.0}), (NONE, {})):
        longer = 100 * (timing.median_ratio(seconds[ROUTED], seconds[other]) - 1)
        out += row("icedit", f"routed experts take longer than {other} by", longer, "%", **limits)
    more = 100 * (work[ROUTED] / work[PLAIN] - 1)
    out += row("icedit", "and have more floating-point operations by", more, "%")
    apart = (made[ROUTED] - made[PLAIN]).abs().max() / made[PLAIN].abs().max()
    return out + row("icedit", "their velocities differ by", apart, "")


def _keep(made: dict, name: str, shared: Kit) -> None:
    made[name] = shared.step(name)
