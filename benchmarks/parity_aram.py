"""The family `aram` of `bench parity`: SwiftEdit's released code against ours, in plain diffusers.

Three kinds of files: one attention layer each (`proc_*`), whole edits on tiny networks (`e2e_*`), and the keys and
shapes of the published ip_adapter.bin. The tiny VAE and text encoder of the edits are not among them, so latents, text
embeddings and CLIP's image embedding are taken as they were recorded; everything after those is computed.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ..models.errors import EditError
from ..models.swiftedit import branch, checkpoint, edit, generators, processor, unets
from ..models.swiftedit import mask as masks
from ..models.swiftedit.aram import OFFICIAL, Aram
from . import stable_diffusion
from .parity import Quantity, case, compared, metadata, read

PROC = (
    "default_64to16", "paper_scales_64to16", "odd_scales_64to8", "ta_zero_is_noop", "mask_all_ones", "mask_all_zeros",
    "three_branch_B3", "no_controller",
)  # fmt: skip
E2E = ("default", "paper_scales", "empty_source")
GENERATOR, INVERSION = "e2e_gen_unet_diffusers.safetensors", "e2e_inverse_unet_diffusers.safetensors"
WEIGHTS, CONTAINER = "e2e_ip_weights.safetensors", "e2e_ip_adapter.bin"
KEYS = "official_ip_adapter_bin_keys_shapes.json"
CLIP_EMBEDDING = 1024  # of the published image encoder, OpenCLIP ViT-H
ATTENTION, NETWORK = 2e-6, 1e-5  # tolerances of a layer and of a network


def official_scales(text: float, edit_scale: float, non_edit: float) -> Aram:
    """The released code's three scales. There a text scale of 0 is falsy and means that nothing is scaled."""
    return replace(OFFICIAL, text_scale=text or 1.0, edit_scale=edit_scale, non_edit_scale=non_edit)


def layer(name: str, folder: Path) -> Iterator[Quantity]:
    """One cross-attention of diffusers with our processor."""
    path = folder / name
    tensors, notes = read(path), metadata(path)
    attention = _attention(tensors, int(notes["heads"]))
    if notes["controller"] == "True":
        scales = (float(notes[key]) for key in ("scale_text", "scale_ip_fg", "scale_ip_bg"))
        attention.processor.rescaling = processor.Rescaling(tensors["mask"][None], official_scales(*scales))
    with torch.inference_mode():
        out = attention(tensors["x"], torch.cat([tensors["text"], tensors["image_tokens"]], 1))
    yield compared("y", out, tensors["y"], ATTENTION, "rel")


def _attention(tensors: dict[str, Tensor], heads: int):
    from diffusers.models.attention_processor import Attention

    width, context = tensors["to_k.weight"].shape
    made = processor.ImageAttention(context, width, "up")
    sizes = {"query_dim": width, "cross_attention_dim": context, "heads": heads, "dim_head": width // heads}
    attention = Attention(**sizes, processor=made).eval()
    weights = {k: v for k, v in tensors.items() if k.startswith("to_")}
    attention.load_state_dict({f"processor.{k}" if "_ip." in k else k: v for k, v in weights.items()})
    return attention


@dataclass
class Networks:
    """The tiny networks of the recorded edits: F, G with its image branch installed, and the projection."""

    inversion: torch.nn.Module
    generator: torch.nn.Module
    projection: branch.ImageProjection


def networks(folder: Path) -> Networks:
    """Builds them from plain weights; what a layer lacks or has too much is an error."""
    inversion, generator = unet(folder / INVERSION), unet(folder / GENERATOR)
    weights = read(folder / WEIGHTS)
    parts = checkpoint.split({k: v for k, v in weights.items() if not k.startswith("adapter_modules.")})
    for name, made in processor.install(generator).items():
        made.load_state_dict(parts.layers[name])
    projection = branch.ImageProjection(parts.embedding, parts.context)
    projection.load_state_dict(parts.projection)
    return Networks(inversion, generator, projection.eval())


def unet(path: Path):
    """diffusers' UNet of the config in a weight file's metadata."""
    from diffusers import UNet2DConditionModel

    model = UNet2DConditionModel.from_config(json.loads(metadata(path)["config"]))
    model.load_state_dict(read(path))
    return model.requires_grad_(False).eval()


def whole_edit(name: str, folder: Path) -> Iterator[Quantity]:
    """Inversion, mask, image tokens and generation; each from what was recorded just before it."""
    path = folder / name
    tensors, nets = read(path), networks(folder)
    generator, options = _generator(metadata(path)), json.loads(metadata(path)["kw"])
    with torch.inference_mode():
        noise = _invert(nets.inversion, tensors)
        yield compared("inv.out", noise, tensors["inv.out"], NETWORK, "rel")
        source, target = tensors["inv.out"].chunk(2)
        limits = options.get("clamp_rate", masks.CLAMP), options.get("mask_threshold", masks.THRESHOLD)
        mask = masks.self_guided(source, target, *limits)
        yield compared("mask64", mask[0], tensors["mask64"], 0, "exact")
        tokens, recorded = nets.projection(tensors["clip.image_embeds"]), tensors["ip.image_tokens"]
        # the recorded context holds them once more for either row
        recorded = torch.cat([recorded, tensors["gen.context_with_image_tokens"][:, -branch.TOKENS :]])
        yield compared("ip.image_tokens", tokens.expand(3, -1, -1), recorded, NETWORK, "rel")
        yield from _generate(nets.generator, tensors, tokens, mask, options, generator)


def _generator(notes: dict[str, str]) -> generators.OneStep:
    made = generators.generator(generators.DEFAULT)
    recorded = float(notes["alpha_t"]), float(notes["sigma_t"])
    if max(abs(made.alpha - recorded[0]), abs(made.sigma - recorded[1])) > 1e-6:
        raise EditError(f"alpha_t and sigma_t were {recorded}; ours are {(made.alpha, made.sigma)}.")
    return made


def _invert(network, tensors: dict[str, Tensor]) -> Tensor:
    context = tensors["inv.context"].split(1)
    call = _checked(network, tensors["inv.timestep"], tensors["inv.sample"])
    noise = edit.invert(call, tensors["z_scaled"], *context)
    return torch.cat([noise.source, noise.edit])


def _checked(network, timestep: Tensor, sample: Tensor | None = None):
    """The network, which refuses to be told another timestep (or given another sample) than was recorded."""

    def call(x, told, context):
        if [told] != timestep.tolist() or (sample is not None and not torch.equal(x, sample)):
            raise EditError("The recorded timestep or sample is not what our code gives the network.")
        return network(x, told, context).sample

    return call


def _generate(network, tensors, tokens: Tensor, mask: Tensor, options: dict, generator) -> Iterator[Quantity]:
    made = {}

    def call(x, told, context):
        made["sample"] = x
        made["out"] = _checked(network, tensors["gen.timestep"])(x, told, context)
        return made["out"]

    text = tensors["gen.context_with_image_tokens"][:, : -branch.TOKENS]
    rows = torch.cat([text, tokens.expand(2, -1, -1)], 1).split(1)
    aram = official_scales(
        *(options.get(f"scale_{k}", d) for k, d in (("ta", 1), ("edit", 0.2), ("non_edit", 1)))
    )
    result = edit.generate(
        call, partial(processor.rescaled, network), tensors["z_scaled"], tensors["inv.out"][:1], *rows, mask, aram,
        generator,
    )  # fmt: skip
    pictures = torch.cat([result.reconstruction, result.edit])
    yield compared("gen.sample", made["sample"], tensors["gen.sample"], ATTENTION, "rel")
    yield compared("gen.out", made["out"], tensors["gen.out"], NETWORK, "rel")
    yield compared("pred_x0", pictures, tensors["pred_x0"], NETWORK, "rel")


@case("aram", "loader", files=(CONTAINER, WEIGHTS, GENERATOR))
def loader(folder: Path) -> Iterator[Quantity]:
    """The released container through the reader: elements that differ, and tensors that are nobody's or lack."""
    found, state = checkpoint.read_branch(folder / CONTAINER), checkpoint.read_file(folder / CONTAINER)
    network, weights = read(folder / GENERATOR), read(folder / WEIGHTS)
    yield Quantity("unet", _differing(found.unet, network), 0)
    yield Quantity("image_branch", _differing(_by_released_names(found), weights), 0)
    expected = {f"unet.{k}" for k in network} | weights.keys()
    yield Quantity("left_over", len(state.keys() - expected), 0)
    yield Quantity("missing", len(expected - state.keys()), 0)


def _by_released_names(found: checkpoint.Branch) -> dict[str, Tensor]:
    """What was read by the names in the released file, both copies of the layers included."""
    out = {f"image_proj_model.{k}": v for k, v in found.projection.items()}
    for place, (name, parts) in enumerate(found.layers.items()):
        out |= {f"unet.{name}.processor.{k}": v for k, v in parts.items()}
        # the numbered copies count self-attentions too, of which every block has one before
        out |= {f"adapter_modules.{2 * place + 1}.{k}": v for k, v in parts.items()}
    return out


def _differing(ours: dict[str, Tensor], reference: dict[str, Tensor]) -> float:
    if ours.keys() != reference.keys() or any(ours[k].dtype != v.dtype for k, v in reference.items()):
        return float("inf")
    return sum(compared(k, ours[k], v, 0, "exact").value for k, v in reference.items())


@case("aram", "keys", files=(KEYS,))
def keys(folder: Path) -> Iterator[Quantity]:
    """The published file's keys and shapes, on the meta device, into networks built from nothing but those shapes."""
    listed = {k: tuple(v) for k, v in json.loads((folder / KEYS).read_text(encoding="utf-8")).items()}
    with torch.device("meta"):
        found = checkpoint.split({k: torch.empty(v) for k, v in listed.items()})
        config = unets.infer_config(found.unet)
        whole = _released(found, config)
    yield Quantity("left_over", len(listed.keys() - whole.keys()), 0)
    yield Quantity("missing", len(whole.keys() - listed.keys()), 0)
    wrong = [k for k in listed.keys() & whole.keys() if tuple(whole[k].shape) != listed[k]]
    # shapes that agree among themselves may still be another network's
    wrong += [k for k, v in stable_diffusion.SD21.items() if _tuple(config[k]) != _tuple(v)]
    yield Quantity("shapes", len(wrong) + (found.embedding != CLIP_EMBEDDING), 0)


def _tuple(value):
    return tuple(value) if isinstance(value, list | tuple) else value


def _released(found: checkpoint.Branch, config: dict) -> dict[str, Tensor]:
    """The state dict that the released class would have, from our modules. Raises where a tensor does not fit."""
    from diffusers import UNet2DConditionModel

    network = UNet2DConditionModel(**config)
    network.load_state_dict(found.unet, assign=True)
    made = processor.install(network)
    image = branch.ImageBranch(found.widths, found.embedding, found.context)
    image.load_state_dict(found.state(), assign=True)
    for name, one in zip(image.names, image.layers, strict=True):
        made[name].load_state_dict(one.state_dict(), assign=True)
    state = {f"unet.{k}": v for k, v in network.state_dict().items()}
    state |= {f"image_proj_model.{k}": v for k, v in image.projection.state_dict().items()}
    for number, one in enumerate(network.attn_processors.values()):
        if isinstance(one, processor.ImageAttention):
            state |= {f"adapter_modules.{number}.{k}": v for k, v in one.state_dict().items()}
    return state


def _register() -> None:
    for name in PROC:
        file = f"proc_{name}.safetensors"
        case("aram", f"proc_{name}", files=(file,))(partial(layer, file))
    for name in E2E:
        file = f"e2e_{name}.safetensors"
        case("aram", f"e2e_{name}", files=(file, GENERATOR, INVERSION, WEIGHTS))(partial(whole_edit, file))


_register()
