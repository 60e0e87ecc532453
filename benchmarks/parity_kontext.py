"""The family `kontext` of `bench parity`: position ids, velocities of diffusers' FLUX, schedules, whole loops."""

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ..models.errors import EditError
from ..models.kontext import names, schedule
from ..models.kontext.plan import Plan, Planned
from ..models.kontext.references import Reference
from .parity import Quantity, case, compared, read

VELOCITY, SCHEDULE, LATENT = 1e-5, 1e-6, 1e-4  # tolerances
CONFIG, WEIGHTS = "config.json", "weights*.safetensors"

# name -> (references, how they are placed)
CASES = {
    "t2i": ((), "index"), "single": (("ref1",), "index"), "single_diffsize": (("ref2",), "index"),
    "multi_index": (("ref1", "ref2", "ref3"), "index"), "multi_offset": (("ref1", "ref2", "ref3"), "offset"),
    "multi_uxo": (("ref1", "ref2"), "uxo"),
}  # fmt: skip
LOOPS = {"loop4": ("ref1", "ref2"), "loop4_single": ("ref1",)}
LOOP_STEPS = 4


def recorded(folder: Path) -> dict[str, Tensor]:
    """All inputs and outputs of a folder, whatever files they lie in."""
    files = [p for p in sorted(folder.glob("*.safetensors")) if not p.match(WEIGHTS)]
    return {name: tensor for file in files for name, tensor in read(file).items()}


def holds(prefix: str, network: bool, folder: Path) -> bool:
    """Whether a folder has a case; where a file cannot be read the case is there, and fails."""
    if network and not (any(folder.glob(WEIGHTS)) and (folder / CONFIG).is_file()):
        return False
    try:
        return any(name.startswith(prefix) for name in recorded(folder))
    except EditError:
        return True


def flux(folder: Path):
    """diffusers' FLUX with the folder's weights, in either naming."""
    import json

    from diffusers import FluxTransformer2DModel

    settings = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["diffusers_config"]
    state = read(sorted(folder.glob(WEIGHTS))[0])
    state = names.to_diffusers(state) if names.is_bfl(state) else state
    with torch.random.fork_rng(devices=[]):
        made = FluxTransformer2DModel(**settings)
    made.load_state_dict(state)
    return made.eval()


def packed(latent: Tensor) -> Tensor:
    """[b, c, h, w] as tokens [b, h/2·w/2, 4·c]."""
    blocks = latent.unfold(2, 2, 2).unfold(3, 2, 2)  # [b, c, h/2, w/2, 2, 2]
    return blocks.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)


def unpacked(tokens: Tensor, like: Tensor) -> Tensor:
    """Tokens as a latent of that shape."""
    b, c, h, w = like.shape
    return tokens.view(b, h // 2, w // 2, c, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(b, c, h, w)


class Asked:
    """FLUX asked for the velocity of a target with references laid out by the functions behind the nodes."""

    def __init__(self, folder: Path, tensors: dict[str, Tensor], names, placement: str):
        self.net, self.tensors = flux(folder), tensors
        references = [Reference(tensors[name], placement) for name in names]
        plan, size = Plan(tuple(Planned(r) for r in references)), tuple(tensors["x"].shape[-2:])
        _, self.layout = plan.at(1.0, size)
        self.context = [packed(r.latent) for r in references]

    @property
    def ids(self) -> Tensor:
        return self.layout.ids()

    def __call__(self, x: Tensor, time: Tensor) -> Tensor:
        """Velocity tokens [b, n, 4·c] of target tokens of that shape."""
        given, text = self.tensors, self.tensors["context"]
        with torch.inference_mode():
            out = self.net(
                hidden_states=torch.cat([x, *self.context], 1), encoder_hidden_states=text, timestep=time,
                pooled_projections=given["y"], guidance=given["guidance"], img_ids=self.ids,
                txt_ids=torch.zeros(text.shape[1], 3),
            ).sample  # fmt: skip
        return out[:, : x.shape[1]]


def _velocity(name: str, folder: Path) -> Iterator[Quantity]:
    tensors = recorded(folder)
    ask = Asked(folder, tensors, *CASES[name])
    yield compared("img_ids", ask.ids[None], tensors[f"{name}.img_ids"], 0, "exact")
    tokens = ask(packed(tensors["x"]), tensors["timestep"])
    ours = {"velocity": unpacked(tokens, tensors["x"]), "velocity_packed": tokens}
    found = {key: value for key, value in ours.items() if f"{name}.{key}" in tensors}
    if not found:
        raise EditError(f"There is no velocity of the case {name} in this folder.")
    for key, value in found.items():
        yield compared(key, value, tensors[f"{name}.{key}"], VELOCITY)


def _loop(name: str, folder: Path) -> Iterator[Quantity]:
    tensors = recorded(folder)
    ask, x = Asked(folder, tensors, LOOPS[name], "index"), packed(tensors["x"])
    times = schedule.bfl(LOOP_STEPS, x.shape[1])
    noted = tensors.get(f"{name}.timesteps", tensors.get("loop4.timesteps"))
    if noted is not None:
        yield compared("timesteps", times, noted.flatten(), SCHEDULE)
    for now, then in zip(times[:-1], times[1:], strict=True):
        x = x + (then - now) * ask(x, now[None])
    final = tensors[f"{name}.final_latent"]
    yield compared("final_latent", x if final.ndim == 3 else unpacked(x, tensors["x"]), final, LATENT)


def _bfl(folder: Path) -> Iterator[Quantity]:
    for name, noted in _under("sched.", folder):
        kind, tokens, *steps = name.split(".")
        if kind == "mu":
            yield compared(name, [schedule.mu_of_tokens(int(tokens))], noted.flatten(), SCHEDULE)
        elif kind == "bfl":
            yield compared(name, schedule.bfl(int(steps[0].removeprefix("n")), int(tokens)), noted, SCHEDULE)


def _diffusers(folder: Path) -> Iterator[Quantity]:
    for name, noted in _under("sched.diffusers.", folder):
        tokens, steps = name.split(".")
        steps = int(steps.removeprefix("n"))
        ours = schedule.bfl if len(noted) == steps + 1 else schedule.diffusers  # with the last 0, or without
        yield compared(name, ours(steps, int(tokens)), noted, SCHEDULE)


def _eq12(folder: Path) -> Iterator[Quantity]:
    for name, noted in _under("eq12.", folder):
        mu, sigma = name.removeprefix("mu").split(".sigma")
        ours = schedule.shifted(torch.linspace(1, 0, len(noted)), exact_mu(mu), float(sigma))
        yield compared(name, ours, noted, SCHEDULE)


def exact_mu(name: str) -> float:
    """The μ of a name of four decimals: log 3 is written 1.0986."""
    alpha = round(math.exp(float(name)))
    return math.log(alpha) if alpha > 0 and f"{math.log(alpha):.4f}" == f"{float(name):.4f}" else float(name)


def _under(prefix: str, folder: Path) -> list[tuple[str, Tensor]]:
    tensors = recorded(folder)
    return [(name.removeprefix(prefix), tensors[name]) for name in sorted(tensors) if name.startswith(prefix)]


for _name in CASES:
    case("kontext", _name, files=(), present=partial(holds, f"{_name}.", True))(partial(_velocity, _name))
for _name, _check, _keys in (
    ("schedule_bfl", _bfl, "sched.bfl."), ("schedule_diffusers", _diffusers, "sched.diffusers."),
    ("eq12", _eq12, "eq12."),
):  # fmt: skip
    case("kontext", _name, files=(), present=partial(holds, _keys, False))(_check)
for _name in LOOPS:
    case("kontext", _name, files=(), present=partial(holds, f"{_name}.", True))(partial(_loop, _name))
