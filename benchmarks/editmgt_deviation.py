"""How far EditMGT's approximations are from the exact run: on the small world, whose network is trained here first.

Random weights would not tell: they say next to nothing of a token, and any change then changes all. The network learns
to edit pictures of 8x8 tokens in about a minute; what is measured are edits that it was never trained on.
"""

import tempfile
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ..models.editmgt import sampling
from ..models.editmgt.options import Options, Speed
from ..models.editmgt.transformer import EditMGT
from ..training.editmgt import cli, measuring, running, world
from ..training.editmgt.examples import Texts
from ..training.store import Store

STEPS, QUICK = 600, 3  # of the training
SEEDS, QUICK_SEEDS = 4, 1  # of the sampling
SIDE = world.SIDE * world.PATCH
WAYS = {
    **{f"reference_every {k}": Speed(reference_every=k) for k in (2, 4, 8)},
    **{f"guidance_until {x:g}": Speed(guidance_until=x) for x in (0.75, 0.5, 0.25)},
}
EXACT = Options(steps=8, guidance=2.0, gamma=1.0, time="ratio", blocks=tuple(range(world.CONFIG.blocks)))


def trained(steps: int) -> EditMGT:
    """A network that has learnt the small world's edits for so many steps."""
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode(False):
        words = f"phase2 --config tiny --precision fp32 --batch 32 --threads 1 --steps {steps} --minutes 60"
        try:
            torch.set_num_threads(1)  # for a network this small, threads mostly wait for each other
            running.run(cli.parser().parse_args([*words.split(), "--state", folder]))
        finally:
            torch.set_num_threads(threads)
        net = EditMGT(replace(world.CONFIG, connector="linear")).requires_grad_(False).eval()
        Store(folder, "editmgt").load_part("phase2_transformer", net)
    return net


def edited(net: EditMGT, options: Options, seed: int) -> tuple[Tensor, Tensor]:
    """Tokens [n, h, w] of the held-out edits, and the localisation maps of all steps [steps, n, h, w]."""
    edits, gathered = world.Drawn(world.edited).held(world.SIDE), []

    def read(maps, grid):
        gathered.append(measuring.localise(maps, grid))
        return gathered[-1]

    texts, count = Texts(world.World()), len(edits)
    with torch.inference_mode():
        made = sampling.run(
            net, texts([e.text for e in edits]), texts([""] * count), (world.SIDE, world.SIDE), options,
            reference=torch.stack([e.source for e in edits]), localise=read, micro=(SIDE, SIDE, 0, 0, 6),
            generator=torch.Generator().manual_seed(seed),
        )  # fmt: skip
    return made.tokens, torch.stack(gathered)


def rows(row: Callable[..., list[dict]], quick: bool) -> list[dict]:
    """For each approximation the share of tokens and the mean of the localisation scores that differ, and of how many
    edits all of the region is right; the same of another seed, as a yardstick. row: speed.row."""
    net, edits = trained(QUICK if quick else STEPS), world.Drawn(world.edited).held(world.SIDE)
    seeds = range(QUICK_SEEDS if quick else SEEDS)
    exact = [edited(net, EXACT, seed) for seed in seeds]
    found = {"exact": exact, "exact, another seed": [edited(net, EXACT, 1000 + seed) for seed in seeds]}
    found |= {name: [edited(net, speed.applied(EXACT), seed) for seed in seeds] for name, speed in WAYS.items()}
    out = []
    for name, made in found.items():
        followed = _mean(measuring.followed(tokens, edits)["followed"] for tokens, _ in made)
        if name != "exact":
            pairs = list(zip(made, exact, strict=True))
            tokens = _mean(float((a != b).float().mean()) for (a, _), (b, _) in pairs)
            scores = _mean(float((a - b).abs().mean()) for (_, a), (_, b) in pairs)
            out += row("editmgt", f"{name}: tokens that differ", tokens, "")
            out += row("editmgt", f"{name}: scores differ by", scores, "")
        out += row("editmgt", f"{name}: edits followed", followed, "")
    return out


def _mean(values) -> float:
    values = list(values)
    return sum(values) / len(values)
