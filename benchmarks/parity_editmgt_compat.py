"""The family `editmgt_compat` of `bench parity`: mistakes of the released code that EditMGT Compatibility repeats."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from ..models.editmgt import sampling
from ..models.editmgt.options import Compat, Options, Text
from .parity import Quantity, case, compared, read
from .parity_editmgt import network

IO, WEIGHTS = "io.safetensors", "editmgt_transformer"
TOKENS, TIME = 1e-3, 2e-2  # tolerances; the second in bf16
LEAKED = 1.6  # the strength of the run before the recorded one
# name -> the mistake; both runs have strength 1
RUNS = {"alias": Compat(alias_mask=True, exact_draws=True), "leak": Compat(leaked_gamma=LEAKED, exact_draws=True)}
KINDS = {"bf16": torch.bfloat16, "fp16": torch.float16}


def _net(folder: Path):
    return network(folder.parent / WEIGHTS, "weights_down.safetensors", "config_down.json")


def _there(folder: Path) -> bool:
    return (folder.parent / WEIGHTS / "weights_down.safetensors").is_file()


def _run(name: str, folder: Path) -> Iterator[Quantity]:
    """The tokens of a whole run of three steps, and how many of them it would not have without the mistake."""
    tensors = read(folder / IO)
    net, reference = _net(folder), tensors["ref_tokens"].long()
    mask = torch.zeros_like(reference, dtype=torch.bool)
    mask[:, 16:40, 16:48] = True
    texts = (Text(tensors[f"{p}enc"].float(), tensors[f"{p}pooled"]) for p in ("", "neg_"))
    with torch.inference_mode():
        made = sampling.run(
            net, *texts, (64, 64), RUNS[name].applied(Options(steps=3, guidance=6.0, gamma=1.0)), reference=reference,
            mask=mask if name == "alias" else None, generator=torch.Generator().manual_seed(5),
        )  # fmt: skip
    recorded = tensors[f"{name}.tokens"]
    yield Quantity("tokens", float((made.tokens != recorded).float().mean()), TOKENS)


for _name in RUNS:
    case("editmgt_compat", _name, files=(IO,), present=_there)(partial(_run, _name))


def _time(name: str, folder: Path) -> Iterator[Quantity]:
    """What 36 step numbers become in half precision."""
    net, recorded = _net(folder).to(KINDS[name]), read(folder / IO)[f"time.{name}"]
    inputs = read(folder.parent / WEIGHTS / "inputs.safetensors")
    with torch.inference_mode():
        states, pooled = (inputs[key][:1].to(KINDS[name]) for key in ("encoder_hidden_states", "pooled"))
        prompt = net.prompt(states, pooled, micro=inputs["micro_conds"][:1])
        made = [net.condition(prompt, torch.full((1,), float(t)), KINDS[name])[0] for t in range(36)]
    yield compared("temb", torch.stack(made).float(), recorded, TIME, "rel")


for _name in KINDS:
    case("editmgt_compat", f"time_{_name}", files=(IO,), present=_there)(partial(_time, _name))
