"""ICEdit's LoRA on a ComfyUI MODEL: its plain part as ordinary patches, its experts routed by hooks on the layers.

Clone-scoped. The hooks stand during one forward pass and go with it, whatever ends it; the original layer computes
first, so fp8, GGUF, low memory and other LoRAs are its own affair; compiled layers run uncompiled. The experts are a
network of their own, which ComfyUI loads and unloads with the MODEL.
"""

import sys
from contextlib import ExitStack, nullcontext
from functools import partial

import torch

from ...models.errors import EditError
from ...models.icedit import lora as files
from ...models.icedit.experts import Mixtures, mixed, route
from ...models.icedit.usage import Recorder, Run, Step
from . import flux
from .devices import managed

KEY, NODE = "editkit_icedit_lora", "ICEdit LoRA"
ROUTED, MEAN, OFF = "routed", "mean", "off"
MODES = (ROUTED, MEAN, OFF)
UNREACHED = (
    "The experts were not reached: another pack, or compiled code, computes FLUX's layers its own way; remove it, or "
    "set experts to mean in ICEdit LoRA."
)


def applied(model, lora: files.Lora, strength: float, expert_strength: float, mode: str):
    """(a clone of a FLUX.1 Fill MODEL with the LoRA, the recorder of its experts). EditError for another's LoRA."""
    net = flux.fill(model, NODE)
    if unknown := files.foreign(lora, flux.layers(net)):
        raise EditError(
            f"This LoRA is of another model: it changes {unknown[0]!r}, which this FLUX.1 Fill lacks or has in another "
            "shape."
        )
    clone, recorder = model.clone(), Recorder()
    _patch(clone, lora.plain, strength)
    if mode == MEAN:
        _patch(clone, files.averaged(files.Lora(experts=lora.experts)), expert_strength)
    elif mode == ROUTED and lora.experts and expert_strength:
        _route(clone, lora, expert_strength, recorder)
    return clone, recorder


def _patch(clone, plain: dict, strength: float) -> None:
    """Patches of the core's own kind, under the core's own names."""
    import comfy.lora

    if not plain or not strength:
        return
    names = comfy.lora.model_lora_keys_unet(clone.model, {})
    patches = comfy.lora.load_lora(files.plain_state(plain), names)
    taken = clone.add_patches(patches, strength)
    if len(taken) != len(plain):
        raise EditError(
            f"ComfyUI took {len(taken)} of the LoRA's {len(plain)} layers; this MODEL's loader renames or merges its "
            "weights, so load FLUX.1 Fill in another format."
        )


def _route(clone, lora: files.Lora, strength: float, recorder: Recorder) -> None:
    from comfy.patcher_extension import WrappersMP

    paths = _paths(clone, lora)
    experts = {name: one.to(dtype=flux.dtype(clone)) for name, one in lora.experts.items()}
    held = managed(Mixtures(dict(sorted(experts.items(), key=lambda pair: list(paths).index(pair[0])))))
    clone.set_additional_models(KEY, [*clone.get_additional_models_with_key(KEY), held.patcher])
    routed = Routed(held.module, paths, strength, recorder)
    clone.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, routed.sampling)
    clone.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, KEY, routed.forward)


def _paths(model, lora: files.Lora) -> dict[str, str]:
    """diffusers' name -> the place in ComfyUI's FLUX of each routed layer, from the first block to the last.

    EditError for a layer that is part of a larger one there.
    """
    import comfy.utils

    known = comfy.utils.flux_to_diffusers(model.model.model_config.unet_config)
    places = {name.removesuffix(".weight"): place for name, place in known.items() if name.endswith(".weight")}
    merged = [name for name in lora.experts if not isinstance(places.get(name), str)]
    if merged:
        raise EditError(f"Experts of {merged[0]!r} cannot be routed in ComfyUI's FLUX; set experts to mean.")
    found = {name: places[name].removesuffix(".weight") for name in lora.experts}
    return dict(sorted(found.items(), key=lambda pair: _order(pair[1])))


def _order(path: str) -> tuple:
    kind, number, *_ = path.split(".")
    return kind != "double_blocks", int(number) if number.isdigit() else 0, path


class Routed:
    """The experts of one ICEdit LoRA node, for as long as a MODEL has them."""

    def __init__(self, mixtures: Mixtures, paths: dict[str, str], strength: float, recorder: Recorder):
        self.mixtures, self.paths, self.strength, self.recorder = mixtures, paths, strength, recorder
        self.run = self.reached = None
        self.inner = self._forward

    def sampling(self, executor, *args, **kwargs):
        """ComfyUI's OUTER_SAMPLE wrapper: begins a record, and files it under what was sampled."""
        before, self.reached, self.inner = self.run, None, _uncompiled(self._forward)
        self.run = Run({name: len(t.router) for name, t in zip(self.paths, self.mixtures.layers, strict=True)})
        try:
            out = executor(*args, **kwargs)
            self.recorder.keep(out, self.run)
            return out
        finally:
            self.run = before

    def forward(self, executor, *args, **kwargs):
        """ComfyUI's DIFFUSION_MODEL wrapper: FLUX's forward with the experts beside their layers."""
        return self.inner(executor, *args, **kwargs)

    def _forward(self, executor, x, timestep, context, y=None, guidance=None, ref_latents=None, control=None,
                 transformer_options=None, **kwargs):  # fmt: skip
        step, rows = _step(x, timestep, transformer_options or {})
        net, fired = executor.class_obj, set()
        with ExitStack() as stack:
            stack.enter_context(_eager(net))
            for name, experts in self.mixtures.experts().items():
                layer = net.get_submodule(self.paths[name])
                hook = partial(self._routed, name, experts, step, rows, fired)
                stack.callback(layer.register_forward_hook(hook).remove)
            out = executor(x, timestep, context, y, guidance, ref_latents, control, transformer_options, **kwargs)
        if not fired and not self.reached:
            raise EditError(UNREACHED)
        self.reached = True  # a later pass may leave out every layer, as caching packs do
        if self.run is not None and step.layers:
            self.run.steps.append(step)
        return out

    def _routed(self, name: str, experts, step: Step, rows, fired: set[str], layer, inputs, output):
        x = inputs[0]
        fired.add(name)
        routing = route(x, experts)
        if rows is not None and self.run is not None:
            step.layers[name] = routing.indices[rows, :, 0].to(torch.uint8)
        return output + mixed(x, experts, routing.gates, self.strength).to(output)


def _compiles() -> bool:
    """Whether anybody in this process compiles. Asking torch itself would load its compiler, which takes a second."""
    return "torch._dynamo" in sys.modules


def _uncompiled(function):
    return torch.compiler.disable(function) if _compiles() else function


def _eager(net):
    """Compiled blocks run as they are written meanwhile: code that was compiled without a hook passes it by unnoticed.

    EditError where there are some and torch is too old for that.
    """
    if not _compiles():
        return nullcontext()
    if hasattr(torch.compiler, "set_stance"):
        return torch.compiler.set_stance("force_eager")
    if any(hasattr(module, "_orig_mod") for module in net.modules()):
        raise EditError(UNREACHED)
    return nullcontext()


def _step(x, timestep, options: dict) -> tuple[Step, slice | None]:
    """A pass to be recorded, and which rows of it are the positive prompt's; None where there are none."""
    kinds = list(options.get("cond_or_uncond") or [0])
    size, levels = len(x) // len(kinds), options.get("sigmas")
    rows = slice(kinds.index(0) * size, (kinds.index(0) + 1) * size) if 0 in kinds else None
    grid = tuple((side + 1) // 2 for side in x.shape[-2:])
    return Step(float((timestep if levels is None else levels).max()), grid), rows
