"""One edit by EditMGT, ours beside the same steps done the released code's way. Part `editmgt` of `bench speed`.

Both have the same network with random weights, encoded prompts, reference and seed. On a GPU the network has the
released sizes (1.0 billion parameters); on a CPU it is a scaled-down one: a third of the blocks, half as wide. What it
works on keeps the released sizes: 64x64 tokens of 8192 codes, 256 text tokens, most of them padding; and so does the
share of blocks whose attention is read.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from ..models.editmgt import localise, sampling
from ..models.editmgt.config import TEXT_TOKENS, MGTConfig
from ..models.editmgt.options import Options, Speed, Text
from ..models.editmgt.transformer import EditMGT
from . import editmgt_deviation, editmgt_released, timing

FULL, SCALED = MGTConfig(), MGTConfig(num_layers=5, num_single_layers=9, num_attention_heads=4)
TINY = MGTConfig(
    num_layers=1, num_single_layers=2, num_attention_heads=2, attention_head_dim=32, joint_attention_dim=48,
    pooled_projection_dim=32, axes_dims_rope=(4, 14, 14), vocab_size=136, codebook_size=128,
)  # fmt: skip
READ = {FULL.blocks: "28-36", SCALED.blocks: "9-11", TINY.blocks: "1-2"}  # the blocks whose attention is read
WORDS = 21, 37  # tokens of an instruction of some 16 words, and of the released negative prompt; the rest is padding
OURS, RELEASED = "ours", "the released way"
PLAIN, LOCALISED = "without localisation", "with localisation"
FASTER = {"reference_every 4": Speed(reference_every=4), "guidance_until 0.5": Speed(guidance_until=0.5)}


@dataclass
class Kit:
    """What both ways share."""

    net: EditMGT
    text: Text
    negative: Text
    reference: Tensor  # [1, h, w]
    options: Options
    device: torch.device

    def localised(self) -> Options:
        """The options with localisation: read, and held where it is weak."""
        config = self.net.config
        blocks = localise.chosen_blocks(READ[config.blocks], config)
        return replace(self.options, blocks=blocks, threshold=0.3)


def kit(quick: bool = False) -> Kit:
    """A random network, on the GPU where there is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = TINY if quick else FULL if device.type == "cuda" else SCALED
    draw, side = torch.Generator().manual_seed(0), 8 if quick else 64
    net = random_network(config, device, draw)
    pad = torch.randn(config.joint_attention_dim, generator=draw)

    def text(words):
        states = torch.randn(1, TEXT_TOKENS, config.joint_attention_dim, generator=draw)
        states[:, :-words] = pad
        return Text(states.to(device), torch.randn(1, config.pooled_projection_dim, generator=draw).to(device))

    reference = torch.randint(config.codebook_size, (1, side, side), generator=draw).to(device)
    return Kit(net, text(WORDS[0]), text(WORDS[1]), reference, Options(steps=4), device)


def random_network(config: MGTConfig, device: torch.device, draw: torch.Generator) -> EditMGT:
    """Weights that keep the size of what goes through them, and attention that chooses: tokens depend on everything."""
    with torch.device("meta"):
        net = EditMGT(config)
    net = net.to_empty(device=device).requires_grad_(False).eval()
    for name, weight in net.named_parameters():
        if weight.ndim < 2:
            sharp = ".attn.norm_" in name  # of queries and keys
            weight.fill_(0.0 if name.endswith("bias") else 2.0 if sharp else 1.0)
        else:
            spread = 1.0 if "embeddings" in name else weight[0].numel() ** -0.5
            weight.copy_(torch.randn(weight.shape, generator=draw) * spread)
    return net


def ours(kit: Kit, options: Options) -> Tensor:
    """Tokens by the functions that the nodes call."""
    gathered: list[localise.Localiser] = []

    def read(maps, grid):
        if not gathered:
            gathered.append(localise.Localiser(grid))
        return gathered[0].add(maps)

    return sampling.run(
        kit.net, kit.text, kit.negative, tuple(kit.reference.shape[1:]), options, reference=kit.reference,
        localise=read, generator=torch.Generator().manual_seed(1),
    ).tokens  # fmt: skip


def released(kit: Kit, options: Options) -> Tensor:
    """Tokens by the released code's steps."""
    return editmgt_released.run(
        kit.net, kit.text, kit.negative, kit.reference, options, torch.Generator().manual_seed(1)
    )


def rows(row: Callable[..., list[dict]], repeats: int, quick: bool) -> list[dict]:
    """Seconds a step of both, with and without localisation, their ratio, and whether the tokens are the same.
    row: speed.row."""
    shared, made = kit(quick), {}
    cases = {PLAIN: shared.options, LOCALISED: shared.localised()}
    jobs = {
        (case, name): partial(_keep, made, (case, name), way, shared, options)
        for case, options in cases.items()
        for name, way in ((RELEASED, released), (OURS, ours))
    }
    jobs |= {
        (PLAIN, name): partial(_keep, made, (PLAIN, name), ours, shared, speed.applied(shared.options))
        for name, speed in FASTER.items()
    }
    seconds = timing.interleaved(jobs, repeats, "editmgt")
    config, out = shared.net.config, []
    parameters = sum(p.numel() for p in shared.net.parameters())
    out += row("editmgt", "parameters of the network", parameters / 1e6, "M")
    out += row("editmgt", f"blocks, of {FULL.blocks}", config.blocks, "")
    out += row("editmgt", f"width, of {FULL.width}", config.width, "")
    for case, options in cases.items():
        fastest = {name: min(seconds[case, name]) / options.steps for name in (RELEASED, OURS)}
        for name, taken in fastest.items():
            out += row("editmgt", f"a step {case}, {name}", taken, "s")
        aim = (3.0 if shared.device.type == "cuda" else 2.0) if case == LOCALISED else 1.5
        out += row("editmgt", f"{case} ours is faster by", fastest[RELEASED] / fastest[OURS], "x", aim=aim,
                   at_most=False)  # fmt: skip
        out += row("editmgt", f"{case}, tokens that differ", _apart(shared, options, made[case, RELEASED]), "",
                   must=0.001)  # fmt: skip
    exact = min(seconds[PLAIN, OURS])
    for name in FASTER:
        out += row("editmgt", f"{name} is faster by", exact / min(seconds[PLAIN, name]), "x")
    return out + editmgt_deviation.rows(row, quick)


def _apart(shared: Kit, options: Options, tokens: Tensor) -> float:
    """The share of tokens that are not the released way's, with its random numbers."""
    with torch.inference_mode():
        mine = ours(shared, replace(options, exact_draws=True))
    return float((mine != tokens).float().mean())


def _keep(made: dict, key: tuple, way: Callable, shared: Kit, options: Options) -> None:
    made[key] = way(shared, options)
    if shared.device.type == "cuda":
        torch.cuda.synchronize()
