"""SwiftEdit on ComfyUI's MODELs: loading the release, inverting, hooking ARaM in, and the one step."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...models.errors import EditError
from ...models.image import from_host
from ...models.swiftedit import checkpoint, generators
from ...models.swiftedit.aram import Aram
from ...models.swiftedit.branch import ImageBranch
from ...models.swiftedit.edit import Inversion
from ...models.swiftedit.generators import INVERSION_TIMESTEP, OneStep
from ...models.swiftedit.unets import FAMILY
from . import aram as hooks
from . import memo, rows, unets
from .devices import Managed, in_comfyui, managed, operations
from .folders import release_folder
from .prompts import single

ATTACHED = "editkit_swiftedit"  # the key under which a MODEL carries what follows
AT_ONCE = 8  # pictures or edits in one pass


@dataclass(frozen=True)
class Attached:
    """What a MODEL of Load SwiftEdit carries beside its UNet; the inversion net carries no branch."""

    generator: OneStep
    branch: Managed | None = None

    def on_model_patcher_clone(self):
        """ComfyUI calls this when it clones the MODEL; nothing here ever changes."""
        return self


def need_comfyui(node: str) -> None:
    """EditError without ComfyUI: MODEL, CLIP and VAE are ComfyUI's."""
    if not in_comfyui():
        raise EditError(f"{node} works on ComfyUI's MODEL, CLIP and VAE; run this workflow in ComfyUI.")


def load(release: str, generator: str = "auto", dtype: str = "default", model=None):
    """(inversion MODEL, generator MODEL with its image branch) of a release folder.

    model: another MODEL to take as the generator, as it is. generator: its kind, or "auto" for what the folder says.
    EditError for parts that are missing or do not belong together.
    """
    need_comfyui("Load SwiftEdit")
    found = checkpoint.find(release_folder(release))
    kind = generators.generator(found.kind if generator == "auto" else generator)
    _present(found)
    if model is not None:
        unets.text_width(model)  # refuses what is no Stable Diffusion UNet before gigabytes are read
    branch = checkpoint.read_branch(found.branch)
    config, state = checkpoint.read_unet(found.inversion)
    inversion = unets.load(config, state, str(found.inversion), dtype)
    del state
    made = _generator(found, branch, config, dtype) if model is None else model
    made = unets.with_sampling(made, kind)
    _check_pair(made, inversion, branch, "The MODEL wired as generator" if model is not None else "The generator")
    _check_kind(kind, branch.context)
    made.set_attachments(ATTACHED, Attached(kind, _image_branch(branch, found.branch)))
    inversion.set_attachments(ATTACHED, Attached(kind))
    return inversion, made


def _present(found: checkpoint.Release) -> None:
    if found.inversion is None:
        raise EditError(
            f"{found.folder} lacks the inversion net, inverse…/unet_ema/ with config.json and weights."
        )
    if found.branch is None:
        raise EditError(f"{found.folder} lacks the image branch, ip_adapter…/ip_adapter.bin.")


def _generator(found: checkpoint.Release, branch: checkpoint.Branch, config: dict, dtype: str):
    """The generator from its own folder, or from the branch's file when that is all there is."""
    if found.generator is not None:
        return unets.load(*checkpoint.read_unet(found.generator), str(found.generator), dtype)
    if not branch.unet:
        raise EditError(
            f"{found.folder} lacks the generator: add its UNet folder (sbv2_0.5/), or wire a MODEL as generator."
        )
    # F has G's architecture, and the file says nothing of heads
    return unets.load(config, branch.unet, str(found.branch), dtype)


def _check_kind(kind: OneStep, width: int) -> None:
    """EditError for a generator of the other family, where the text's width tells it."""
    if width in FAMILY and width != kind.context:
        raise EditError(
            f"The weights are of the {FAMILY[width]} family and {kind.name} is of the {FAMILY[kind.context]} family; "
            "choose another family in Load SwiftEdit."
        )


def _check_pair(model, inversion, branch: checkpoint.Branch, what: str) -> None:
    """EditError unless the generator, the inversion net and the image branch are of one family."""
    width, other = unets.text_width(model), unets.text_width(inversion)
    if width != branch.context or width != other:
        raise EditError(
            f"{what} takes text of width {width}, the inversion net {other} and the image branch {branch.context}; "
            "all must be of one family (1024: SD2.1, 768: SD1.5)."
        )
    found = dict(model.model.diffusion_model.named_modules())
    config = model.model.model_config.unet_config
    for layer in branch.layers:
        block, number, index = unets.block_of(layer, config)
        place = "middle_block.1" if block == "middle" else f"{block}_blocks.{number}.1"
        attention = found.get(f"{place}.transformer_blocks.{index}.attn2")
        if attention is None or attention.heads * attention.dim_head != branch.widths[layer]:
            raise EditError(f"{what} has no layer {layer} of the width for which the image branch was trained.")


def _image_branch(branch: checkpoint.Branch, source: Path) -> Managed:
    with torch.device("meta"):
        made = ImageBranch(branch.widths, branch.embedding, branch.context, operations())
    try:
        made.load_state_dict(branch.state(), assign=True)
    except RuntimeError:
        raise EditError(f"{source} holds an image branch of another shape than SwiftEdit's four tokens.") from None
    return managed(made.requires_grad_(False).eval(), source)


def attached(model) -> Attached:
    """What a MODEL carries; a MODEL of another loader counts as SwiftBrush v2's without a branch."""
    found = model.get_attachment(ATTACHED)
    return found or Attached(generators.generator(generators.DEFAULT))


def encoded_image(clip_vision, image: Tensor) -> Tensor:
    """CLIP's embedding [b, e] of an IMAGE, the whole picture squeezed into CLIP's square as the released code does."""
    def make() -> Tensor:
        rgb, _ = from_host(image)
        return clip_vision.encode_image(rgb.movedim(1, -1), crop=False)["image_embeds"]

    return memo.recall("clip_vision", (clip_vision, image), make)


def with_aram(model, embedding: Tensor, mask: Tensor, aram: Aram):
    """A clone of the generator with its image branch at work. EditError without a branch, or for another CLIP."""
    unets.text_width(model)
    branch = attached(model).branch
    if branch is None:
        raise EditError(
            "The MODEL has no image branch; take it from Load SwiftEdit, which can attach one to any MODEL."
        )
    expected = branch.module.projection.proj.weight.shape[1]
    if embedding.shape[-1] != expected:
        raise EditError(
            f"The CLIP vision model gives {embedding.shape[-1]} numbers and the image branch takes {expected}; "
            "SwiftEdit's is OpenCLIP ViT-H/14 (IP-Adapter's image_encoder)."
        )
    module = branch.ready()
    device = next(module.parameters()).device if branch.patcher is None else branch.patcher.load_device
    with torch.no_grad():
        made = module(embedding.to(device, torch.float32))
    return hooks.patched(model, {n: (k.cpu(), v.cpu()) for n, (k, v) in made.items()}, mask.clamp(0, 1), aram)


def epsilon(model):
    """The inversion MODEL predicting epsilon, whatever its loader took it for."""
    import comfy.model_sampling as sampling

    unets.text_width(model)
    current = model.get_model_object("model_sampling")
    if isinstance(current, sampling.EPS) and not isinstance(current, sampling.V_PREDICTION):
        return model
    return unets.with_sampling(model, generators.GENERATORS["sd_turbo"])


def invert(model, latent: Tensor, source, edit=None) -> Inversion:
    """F's predictions for a clean latent [b, 4, h, w] in the VAE's scale. A row that was computed before is looked up.

    source, edit: CONDITIONING; edit may hold several prompts as a batch, or be None. EditError for the generator in
    the place of the inversion net, and for prompts that do not fit.
    """
    if attached(model).branch is not None or hooks.is_patched(model):
        raise EditError("The MODEL wired as inversion net is the generator; wire Load SwiftEdit's first output.")
    for name, cond in (("source", source), ("edit", edit)):
        _check_count(name, cond, len(latent), unets.text_width(model))
    net, known = epsilon(model), _noise_of(model, latent, source)
    if edit is None:
        return Inversion(known.get(lambda: _alone(net, latent, source)), None)
    asked = _noise_of(model, latent, edit)
    wide = repeated(latent, edit)
    if asked.value is None and known.value is None and len(wide) <= AT_ONCE:
        asked.value, both = _predict(net, wide, source, edit)
        known.value = both[: len(latent)]
    first = known.get(lambda: _alone(net, latent, source))
    return Inversion(first, asked.get(lambda: _alone(net, wide, edit)))


def _alone(model, latent: Tensor, conditioning) -> Tensor:
    """One prompt's (or batch's) noise, a few rows at a time, so that a long list needs no more memory than a short."""
    tokens, options = conditioning[0]
    parts = []
    for first in range(0, len(latent), AT_ONCE):
        rows_now = slice(first, first + AT_ONCE)
        part = [[tokens if len(tokens) == 1 else tokens[rows_now], options]]
        parts.append(_predict(model, latent[rows_now], None, part)[0])
    return torch.cat(parts)


def _noise_of(model, latent: Tensor, conditioning) -> "_Later":
    """The remembered noise of a prompt, filled in or not. Its options (a ControlNet, hooks) count by identity."""
    tokens, options = conditioning[0]
    return memo.recall("noise", (model, latent, tokens, *options.values()), _Later, tuple(options))


class _Later:
    """A value that is filled in when it is first needed."""

    def __init__(self):
        self.value = None

    def get(self, make):
        if self.value is None:
            self.value = make()
        return self.value


def _check_count(name: str, conditioning, pictures: int, width: int | None = None) -> None:
    """EditError unless there is a prompt for all pictures or one each; one picture may have many edits."""
    if conditioning is None:
        return
    count = len(single(conditioning, name, width)[0][0])
    if count not in (1, pictures) and not (name == "edit" and pictures == 1):
        raise EditError(f"{count} {name} prompts do not fit {pictures} pictures; give one, or one each.")


def _predict(model, latent: Tensor, source, edit) -> tuple[Tensor | None, Tensor | None]:
    """(edit, source) noise of F, which sees the latent as it is at timestep 500."""
    sampling = model.get_model_object("model_sampling")
    sigma = sampling.sigma(torch.tensor(float(INVERSION_TIMESTEP)))
    x = latent.float() * (sigma**2 + 1) ** 0.5  # ComfyUI divides by that again
    clean = rows.one_call(model, x, sigma, source, edit)
    scaled = model.model.process_latent_in
    return tuple(None if c is None else (scaled(x) - scaled(c)) / sigma for c in clean)


def start(model, latent: Tensor, noise: Tensor) -> Tensor:
    """The inverted LATENT: what a sampler of that generator starts from without noise, in the VAE's scale."""
    generator = attached(model).generator
    x = generator.mixed(model.model.process_latent_in(latent), noise.to(latent))
    return model.model.process_latent_out(x / generator.alpha if generator.alpha else x)


def repeated(latent: Tensor, edit) -> Tensor:
    """A latent of one picture for each of its edits; others as they are. EditError when the numbers do not fit."""
    _check_count("edit", edit, len(latent))
    return latent.expand(max(len(latent), len(edit[0][0])), -1, -1, -1)


def sigmas(model) -> Tensor:
    """The SIGMAS of the generator's one step."""
    generator = attached(model).generator
    sigma = model.get_model_object("model_sampling").sigma(torch.tensor(float(generator.timestep)))
    return torch.tensor([float(sigma), 0.0])


def generate(model, latent: Tensor, source, edit) -> tuple[Tensor, Tensor]:
    """(edited, reconstructed) latents [b, 4, h, w] in the VAE's scale of an inverted one, in one step under ARaM."""
    for name, cond in (("source", source), ("edit", edit)):
        single(cond, name, unets.text_width(model))
    return rows.one_call(model, latent, sigmas(model)[0], source, edit)


def generate_many(model, embedding: Tensor, mask: Tensor, arams: list[Aram], latent: Tensor, source, edit):
    """`with_aram` and `generate` for many rows, a few at a time. arams: the settings of each few rows, or of all."""
    parts = []
    for number, first in enumerate(range(0, len(latent), AT_ONCE)):
        part = _rows_from(first)
        prompts = [[[part(cond[0][0]), cond[0][1]]] for cond in (source, edit)]
        hooked = with_aram(model, part(embedding), part(mask), arams[min(number, len(arams) - 1)])
        parts.append(generate(hooked, latent[first : first + AT_ONCE], *prompts))
    return tuple(torch.cat(found) for found in zip(*parts, strict=True))


def _rows_from(first: int):
    """Takes the next few rows of what has one for each, and all of what has one for all."""
    return lambda x: x if len(x) == 1 else x[first : first + AT_ONCE]
