"""The family `moelora` of `bench parity`: ICEdit's routed layers, alone and in a whole Flux, and its key lists."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch
from torch import nn

from ..models.icedit import experts, lora, transformer
from .parity import Quantity, case, compared, metadata, read

LAYERS = {
    "layer_ffnet2_top1_fp32": 3e-6, "layer_projout_top1_fp32": 3e-6, "layer_projout_top2_alpha8_fp32": 3e-6,
    "layer_ffnet2_top1_bf16": 1.6e-2,
}  # fmt: skip  # case -> tolerance of y
WHOLE = 1e-5  # tolerance of the transformer's output and of what its routed layers see and give
BASE, IO, NORMAL_IO = "tiny_flux_base.safetensors", "tiny_flux_io.safetensors", "tiny_flux_normal_lora_out.safetensors"
MOE, NORMAL = (f"{name}/pytorch_lora_weights.safetensors" for name in ("tiny_lora", "tiny_normal_lora"))


def layer(file: str, tolerance: float, folder: Path) -> Iterator[Quantity]:
    """One linear layer with its experts: what it gives, and whom the router chose."""
    tensors, meta = read(folder / file), metadata(folder / file)
    state = {f"layer.{k}": v for k, v in tensors.items() if k.startswith("lora_")}
    found = lora.parse(state | _alpha(meta), int(meta["top_k"])).experts["layer"]
    x = tensors["x"]
    with torch.inference_mode():
        y = nn.functional.linear(x, tensors["base.weight"], tensors["base.bias"]) + experts.delta(x, found)
        chosen = experts.route(x, found).indices
    yield compared("y", y.float(), tensors["y"].float(), tolerance, "rel")
    yield compared("topk_indices", chosen, tensors["topk_indices"], 0, "exact")


def _alpha(meta: dict) -> dict[str, torch.Tensor]:
    return {"layer.alpha": torch.tensor(float(meta["scaling"]) * int(meta["expert_rank"]))}


def whole(name: str, weights: str, strength: float, io: str, folder: Path) -> Iterator[Quantity]:
    """diffusers' Flux with a LoRA: the output, and the input and output of every routed layer where recorded."""
    network, inputs, recorded = flux(folder / BASE), read(folder / IO), read(folder / io)
    found = lora.parse(read(folder / weights))
    with torch.inference_mode(), ExitStack() as stack:
        stack.enter_context(transformer.attached(network, found, plain=strength))
        seen = _listen(network, found.experts, stack)
        out = network(
            hidden_states=inputs["hidden_states"], encoder_hidden_states=inputs["encoder_hidden_states"],
            pooled_projections=inputs["pooled_projections"], timestep=_row(inputs["timestep"]),
            guidance=_row(inputs["guidance"]), img_ids=inputs["img_ids"], txt_ids=inputs["txt_ids"],
        ).sample  # fmt: skip
    yield compared(name, out, recorded[name], WHOLE, "rel")
    for key, value in recorded.items() if strength == 1 else ():
        if key.startswith("hook."):
            yield compared(key, seen[_layer_of(key, seen)], value, WHOLE, "rel")


def flux(path: Path):
    """diffusers' Flux of the config in a weight file's metadata."""
    from diffusers import FluxTransformer2DModel

    model = FluxTransformer2DModel.from_config(json.loads(metadata(path)["config"]))
    model.load_state_dict(read(path))
    return model.requires_grad_(False).eval()


def _row(x: torch.Tensor) -> torch.Tensor:
    return x.reshape(-1).float()


def _listen(network: nn.Module, layers, stack: ExitStack) -> dict[str, torch.Tensor]:
    """"layer.in" and "layer.out" -> tensor, filled as the network runs."""
    seen = {}

    def keep(name, module, inputs, output):
        seen[f"{name}.in"], seen[f"{name}.out"] = inputs[0].clone(), output.clone()

    for name in layers:
        hook = network.get_submodule(name).register_forward_hook(partial(keep, name))
        stack.callback(hook.remove)
    return seen


def _layer_of(key: str, seen) -> str:
    short = key.removeprefix("hook.").removeprefix("transformer.")
    return short if short in seen else f"{short}.out"


def keys(file: str, mixture: bool, folder: Path) -> Iterator[Quantity]:
    """The official keys and shapes at full size: how many the reader leaves over, lacks or takes for another layer."""
    listed = json.loads((folder / file).read_text("utf-8"))
    state = {name: torch.empty(shape, device="meta") for name, shape in listed.items()}
    found, layers = lora.parse(state), transformer.shapes(full_size())
    taken = 2 * len(found.plain) + sum(2 * one.count + 1 for one in found.experts.values())
    routed = {name for name in layers if mixture and lora.MIXED.fullmatch(name)}
    yield compared("left_over", len(listed) - taken + len(lora.foreign(found, layers)), 0, 0, "exact")
    yield compared("missing", len(lora.missing(found, layers)), 0, 0, "exact")
    yield compared("misrouted", len(routed ^ found.experts.keys()), 0, 0, "exact")


def full_size():
    """FLUX.1 Fill [dev] as diffusers has it, without memory."""
    from diffusers import FluxTransformer2DModel

    with torch.device("meta"):
        return FluxTransformer2DModel(
            in_channels=384, out_channels=64, num_layers=19, num_single_layers=38, guidance_embeds=True
        )


def _register() -> None:
    for name, tolerance in LAYERS.items():
        case("moelora", name, files=(f"{name}.safetensors",))(partial(layer, f"{name}.safetensors", tolerance))
    for name, quantity, weights, strength, io in (
        ("flux_moe", "out_moe", MOE, 1.0, IO), ("flux_moe_half", "out_moe_official_scale_0_5", MOE, 0.5, IO),
        ("flux_normal_lora", "out_normal_lora", NORMAL, 1.0, NORMAL_IO),
    ):  # fmt: skip
        check = partial(whole, quantity, weights, strength, io)
        case("moelora", name, files=tuple(dict.fromkeys((BASE, IO, weights, io))))(check)
    for name, kind in (("keys_moe", "moe"), ("keys_normal", "normal")):
        file = f"official_{kind}_lora_expected_keys_shapes.json"
        case("moelora", name, files=(file,))(partial(keys, file, kind == "moe"))


_register()
