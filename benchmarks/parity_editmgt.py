"""The families `editmgt_transformer`, `editmgt_scheduler` and `editmgt_pipeline` of `bench parity`."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..models.editmgt import checkpoint, config, files, localise, sampling, schedule
from ..models.editmgt.attention import Attend
from ..models.editmgt.layers import Capture
from ..models.editmgt.options import Options, Text
from ..models.editmgt.transformer import EditMGT
from .parity import Quantity, case, compared, read

LOGITS, MAPS, SCORES, PICTURE, TOKENS = 2e-5, 1e-6, 1e-5, 1e-3, 1e-3  # tolerances
INPUTS, OUTPUTS, IO = "inputs.safetensors", "outputs.safetensors", "io.safetensors"


def network(folder: Path, weights: str, settings: str) -> EditMGT:
    """The transformer of a weights file and a config.json."""
    state = config.clean(read(folder / weights))
    with torch.device("meta"):
        model = EditMGT(config.read(files.read_json(folder / settings), state))
    return files.fit(model, state, folder, torch.float32)


# name -> whether the flat model, γ, whether there is a reference
CASES = {
    "t2i": (False, 1.0, False), "edit_g1": (False, 1.0, True), "edit_g1.1": (False, 1.1, True),
    "edit_g0.5": (False, 0.5, True), "flat_edit_g1.1": (True, 1.1, True),
}  # fmt: skip


def _of(name: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a case, without its name; `edit_g1` is not `edit_g1.1`."""
    longer = tuple(f"{other}." for other in CASES if other.startswith(f"{name}."))
    mine = {k: v for k, v in tensors.items() if k.startswith(f"{name}.") and not (longer and k.startswith(longer))}
    return {key.removeprefix(f"{name}."): value for key, value in mine.items()}


def _holds(name: str, file: str, folder: Path) -> bool:
    return bool(_of(name, read(folder / file)))


def _transformer(name: str, folder: Path) -> Iterator[Quantity]:
    flat, gamma, edits = CASES[name]
    kind, suffix = ("flat", "2") if flat else ("down", "")
    inputs, outputs = read(folder / INPUTS), _of(name, read(folder / OUTPUTS))
    blocks = {int(k.split(".")[1]) for k in outputs if k.endswith(".text_to_image") and "reference" not in k}
    net, seen, capture = network(folder, f"weights_{kind}.safetensors", f"config_{kind}.json"), {}, None
    if blocks:
        capture = Capture(blocks, mean=False)
    with torch.inference_mode():
        reference = inputs["ref" + suffix] if edits else None
        micro = inputs["micro_conds"]
        prompt = net.prompt(inputs["encoder_hidden_states"], inputs["pooled"], reference, micro)
        tokens = inputs["tok2" if flat else "tokens"]
        logits = net(tokens, prompt, inputs["timestep"], attention=Attend(gamma), capture=capture, short=False,
                     seen=seen.__setitem__)  # fmt: skip
    yield compared("logits", logits, outputs["logits"], LOGITS)
    for key, value in sorted(outputs.items()):
        kind, _, rest = key.partition(".")
        if kind in ("double", "single"):
            number, part = rest.split(".")
            index = int(number) + (net.config.num_layers if kind == "single" else 0)
            yield compared(key, _tokens(seen[index], part), value, LOGITS)
        elif kind == "attn" and rest.endswith(".text_to_image"):
            yield compared(key, capture.maps[int(rest.split(".")[0])], value, MAPS)


def _tokens(seen, part: str) -> Tensor:
    if part == "txt_img":
        return torch.cat([seen.text, seen.image], dim=1)
    return {"txt": seen.text, "img": seen.image, "ref": seen.reference}[part]


for _name, (_flat, _, _) in CASES.items():
    _kind = "flat" if _flat else "down"
    case(
        "editmgt_transformer", _name, files=(INPUTS, OUTPUTS, f"weights_{_kind}.safetensors", f"config_{_kind}.json"),
        present=partial(_holds, _name, OUTPUTS),
    )(partial(_transformer, _name))  # fmt: skip

# name -> the schedule, the temperature; the seeds of logits and draws go up with the order
SEQUENCES = {
    "cosine12": ("cosine", (2.0, 0.0)), "linear6_scalarT": ("linear", 3.0), "usermask8": ("cosine", (2.0, 0.0)),
    "stall10": ("cosine", (2.0, 0.0)), "hold64": ("cosine", (2.0, 0.0)), "hold32": ("cosine", (2.0, 0.0)),
}  # fmt: skip
FIXTURE, THRESHOLD = "fixture.safetensors", 0.35


def _sequence(name: str, folder: Path) -> Iterator[Quantity]:
    tensors = _of(name, read(folder / FIXTURE))
    kind, temperature = SEQUENCES[name]
    number = list(SEQUENCES).index(name)
    steps = len({key.split(".")[0] for key in tensors if key.split(".")[0].isdecimal()})
    temperatures = schedule.temperatures(steps, temperature)
    if "temperatures" in tensors:
        yield compared("temperatures", temperatures, tensors["temperatures"], 1e-6)
    mask_token = int(tensors["0.sample_in"].max())
    share = (tensors["0.sample_in"] == mask_token).flatten(1).float().mean(1, keepdim=True)
    drawn_by = _generators(tensors, 7 + number)
    for i in range(steps):
        at = {k.removeprefix(f"{i}."): v for k, v in tensors.items() if k.startswith(f"{i}.")}
        logits = at.get("logits", _logits(tensors["0.logits"].shape, 1000 * (number + 1) + i))
        rows, tokens = _rows(logits), at["sample_in"].flatten(1)
        last = i == steps - 1
        injected = schedule.Draw(at["sampled_all"].flatten(1), None if last else at["uniform"])
        ratio = None if last else share * schedule.mask_ratio(i, steps, kind)
        for how, drawn in (("injected", injected), ("generator", schedule.draw(rows, drawn_by, last=last, exact=True))):
            made = schedule.step(tokens, drawn, rows.of, mask_token=mask_token, ratio=ratio,
                                 temperature=float(temperatures[i]), hold=_hold(tensors, at))  # fmt: skip
            yield compared(f"{i}.prev_sample.{how}", made.tokens, at["prev_sample"].flatten(1), 0, "exact")
            yield compared(f"{i}.pred_original.{how}", made.clean, at["pred_original"].flatten(1), 0, "exact")
            if not last:
                yield compared(f"{i}.masking.{how}", made.masking, at["masking"], 0, "exact")


def _logits(shape, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 3


def _rows(logits: Tensor) -> schedule.Rows:
    probabilities = logits.flatten(2).transpose(1, 2).softmax(-1)
    shape = tuple(probabilities.shape[:2])
    return schedule.Rows(torch.arange(shape[0] * shape[1]), probabilities.flatten(0, 1), shape)


def _generators(tensors: dict, expected: int) -> torch.Generator:
    """The generator that the recording started from; its seed is not in the file, but its first draw is."""
    rows = _rows(tensors["0.logits"])
    for seed in [expected, *range(100)]:
        found = schedule.draw(rows, torch.Generator().manual_seed(seed), exact=True)
        if torch.equal(found.sampled, tensors["0.sampled_all"].flatten(1)):
            return torch.Generator().manual_seed(seed)
    return torch.Generator().manual_seed(expected)


def _hold(tensors: dict, at: dict) -> schedule.Hold | None:
    scores, reference = (at.get(k, tensors.get(k)) for k in ("local_scores", "ref_latents"))
    if scores is None:
        return None
    size = tuple(at["sample_in"].shape[-2:])
    return schedule.Hold(schedule.hold_where(scores.view(-1, 32, 32), THRESHOLD, size), reference.flatten(1))


for _name in SEQUENCES:
    case("editmgt_scheduler", _name, files=(FIXTURE,), present=partial(_holds, f"{_name}.0", FIXTURE))(
        partial(_sequence, _name)
    )

# name -> how the recorded edits were made
EDITS = {
    "plain": {"gamma": 1.1},
    "hold": {"gamma": 1.1, "blocks": (2, 3, 4), "threshold": 0.3},
    "usermask": {"gamma": 1.0, "alias_mask": True},
}


def _pipeline(name: str, folder: Path) -> Iterator[Quantity]:
    tensors = read(folder / IO)
    recorded = _of(name, tensors)
    net = network(folder, "transformer.safetensors", "config.json")
    mask = _token_mask(recorded["mask"]) if name == "usermask" else None
    told: list[sampling.Report] = []
    with torch.inference_mode():
        result = sampling.run(
            net, *(Text(tensors[f"{p}enc"], tensors[f"{p}pooled"]) for p in ("", "neg_")), (64, 64),
             Options(steps=4, guidance=6.0, exact_draws=True, **EDITS[name]),
            reference=tensors["ref_tokens"], mask=mask, generator=torch.Generator().manual_seed(99),
            localise=lambda maps, size: localise.localisation(localise.consolidated(maps), size), report=told.append,
        )  # fmt: skip
    for report in told:
        if f"step{report.index}" in recorded:
            yield _share(f"step{report.index}", report.tokens, recorded[f"step{report.index}"])
        if f"scores_smoothed{report.index}" in recorded:
            scores = recorded[f"scores_smoothed{report.index}"]
            yield compared(f"scores_smoothed{report.index}", report.scores.flatten(1).view_as(scores), scores, SCORES)
    yield _share("tokens", result.tokens, recorded["tokens"])
    yield _decoded(folder, result.tokens, recorded)


def _share(name: str, ours: Tensor, reference: Tensor) -> Quantity:
    """The share of tokens that differ."""
    return Quantity(name, float((ours != reference.view_as(ours)).float().mean()), TOKENS)


def _token_mask(mask: Tensor) -> Tensor:
    """The user's mask in pixels [h, w] at 64x64 tokens, as the released code brings it there: Lanczos, then a half."""
    from PIL import Image

    values = mask.numpy().astype(np.float32)
    picture = Image.fromarray((values / max(values.max(), 1) * 255).astype(np.uint8)).resize((64, 64), Image.LANCZOS)
    return torch.from_numpy(np.asarray(picture).astype(np.float32) / 255 >= 0.5)[None]


def _decoded(folder: Path, tokens: Tensor, recorded: dict) -> Quantity:
    """The decoded picture where the tokens agree: the whole of it when all do."""
    where = folder.parent / "editmgt_vq"
    vq = checkpoint.build_vq(files.read_json(where / "config.json"), read(where / "weights.safetensors"), where)
    with torch.inference_mode():
        made = vq.decode(tokens)
    agree = (tokens == recorded["tokens"].view_as(tokens)).float()[:, None]
    weight = torch.nn.functional.interpolate(_shrunk(agree), made.shape[-2:], mode="nearest")
    return compared("decoded", made * weight, recorded["decoded"] * weight, PICTURE)


def _shrunk(agree: Tensor, reach: int = 4) -> Tensor:
    """Tokens all of whose neighbours agree too: the decoder's convolutions reach that far."""
    return 1 - torch.nn.functional.max_pool2d(1 - agree, 2 * reach + 1, 1, reach)


for _name in EDITS:
    case("editmgt_pipeline", _name, files=(IO, "config.json", "transformer.safetensors"),
         present=partial(_holds, _name, IO))(partial(_pipeline, _name))  # fmt: skip
