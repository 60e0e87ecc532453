"""How far a bundle's results lie from torch's: per component, of the denoiser's residual, and of whole edits."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import EditError
from .runtime import BundleModel
from .samples import Case

# dB that a component must reach, by what it is made of, and a whole edit, by the bundle's quantisation
COMPONENT = {"fp32": 85.0, "fp16": 65.0, "int8": 40.0, "int8-weights": 40.0, "int8-static": 40.0}
EDIT = {"fp32": 70.0, "fp16": 50.0, "int8": 35.0, "int8-weights": 35.0, "int8-static": 35.0}


def psnr(reference: Tensor, value: Tensor, where: Tensor | None = None) -> float:
    """PSNR in dB with the reference's max - min as peak, unclipped; inf where equal. where: 0 or 1, broadcastable."""
    error = (reference - value).double().square()
    weight = torch.ones_like(error) if where is None else where.expand_as(error).double()
    mean = float((error * weight).sum() / weight.sum().clamp_min(1))
    peak = float(reference.max() - reference.min())
    return math.inf if mean == 0 else 10 * math.log10(max(peak, 1e-12) ** 2 / mean)


def encoder(bundle: BundleModel, case: Case) -> dict[str, Tensor]:
    features, latent = bundle.conditions(case.image, case.mask, case.tau, case.guess)
    return {"features": features} | ({} if latent is None else {"guess_latent": latent})


def denoiser(
    bundle: BundleModel, case: Case, source: dict[str, Tensor], chained: bool = False
) -> dict[str, Tensor]:
    """Every step, each from the reference's own last step (or from its own, when chained)."""
    out, latent = {}, torch.zeros_like(case.noise[0])
    for index, (row, noise) in enumerate(zip(case.rows, case.noise, strict=True)):
        made = bundle.run(
            "denoiser", case.size, latent=latent, noise=noise, time=torch.tensor([row]),
            features=source["features"], guess_latent=source.get("guess_latent"),
        )["latent"]  # fmt: skip
        out[f"latent_{index}"] = made
        latent = made if chained else case.expected[f"latent_{index}"]
    return out


def decoder(bundle: BundleModel, case: Case, latent: Tensor) -> dict[str, Tensor]:
    return {"decoded": bundle.run("decoder", case.size, latent=latent)["image"]}


def gain(bundle: BundleModel, case: Case) -> dict[str, Tensor]:
    name, image, mask = case.gain
    out = bundle.run(name, image.shape[-1], image=image, mask=mask[:, None], tau=torch.full((1, 1), case.tau))
    return {"log_gain": out["log_gain"]}


def edit(bundle: BundleModel, case: Case) -> dict[str, Tensor]:
    """A whole edit on the canvas, as a phone runs it. Returns all that is made on the way."""
    out = encoder(bundle, case)
    out |= denoiser(bundle, case, out, chained=True)
    return out | decoder(bundle, case, out[f"latent_{len(case.noise) - 1}"])


def component(name: str) -> Callable[[BundleModel, Case], dict[str, Tensor]]:
    """A file's network on a case, fed with the reference's own tensors."""
    last = lambda case: case.expected[f"latent_{len(case.noise) - 1}"]  # noqa: E731
    return {
        "encoder": encoder,
        "denoiser": lambda bundle, case: denoiser(bundle, case, case.expected),
        "decoder": lambda bundle, case: decoder(bundle, case, last(case)),
    }.get(name, gain)


def of_component(bundle: BundleModel, name: str, cases: list[Case]) -> float:
    """The lowest PSNR of a file's outputs over the cases."""
    run, found = component(name), []
    for case in cases:
        if name in ("shadow", "relight") and (case.gain is None or case.gain[0] != name):
            continue
        found += [psnr(case.expected[key], value) for key, value in run(bundle, case).items()]
    return min(found)


def of_residual(bundle: BundleModel, cases: list[Case]) -> float:
    """The lowest PSNR of what the denoiser adds to the first guess: beside the guess, its errors would hide."""
    found = []
    for case in cases:
        base = case.expected.get("guess_latent", 0)
        for key, value in denoiser(bundle, case, case.expected).items():
            found.append(psnr(case.expected[key] - base, value - base))
    return min(found)


def of_edits(bundle: BundleModel, cases: list[Case]) -> dict[str, dict[str, float]]:
    """Per task the lowest PSNR of the decoded picture: whole, in the hole, and outside it (None where all is white)."""
    out: dict[str, dict[str, float]] = {}
    for case in cases:
        made, wanted, hole = edit(bundle, case)["decoded"], case.expected["decoded"], case.mask[:, None]
        row = {"whole": psnr(wanted, made), "hole": psnr(wanted, made, hole)}
        row["outside"] = psnr(wanted, made, 1 - hole) if bool((hole == 0).any()) else math.inf
        old = out.get(case.task, row)
        out[case.task] = {k: min(v, old[k]) for k, v in row.items()}
    return out


def check(
    quantisation: str, components: dict[str, tuple[str, float]], edits: dict[str, dict[str, float]]
) -> None:
    """EditError naming the first component (name -> what it is made of, dB) or edit that falls short."""
    for name, (kind, found) in components.items():
        if not found >= COMPONENT[kind]:
            raise EditError(
                f"{name} ({kind}) reaches {found:.1f} dB against torch, and {COMPONENT[kind]:g} are needed."
            )
    for task, row in edits.items():
        worst = min(row["whole"], row["hole"])
        if not worst >= EDIT[quantisation]:
            raise EditError(
                f"The edit {task} reaches {worst:.1f} dB against torch, and {EDIT[quantisation]:g} are needed."
            )
