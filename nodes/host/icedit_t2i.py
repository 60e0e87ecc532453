"""Training-free editing on a text-to-image FLUX.1 MODEL (appendix B.2): inversion, and the diptych's sampling.

Everything hangs in wrappers of clones and in a copy of each pass's own transformer_options.
"""

from functools import cache

import torch
from torch import Tensor

from ...models.errors import EditError
from ...models.icedit import diptych
from ...models.icedit import values as inverting
from ...models.icedit.values import Inversion, Values
from . import flux
from .progress import reporter

KEY, NODE = "editkit_icedit_training_free", "ICEdit Training-free"
OVERRIDE = "optimized_attention_override"
SKIPPED = (
    "Another patch computes other attention layers than FLUX's own; ICEdit Training-free keeps one set of values for "
    "each layer and cannot be combined with it."
)


class Pass:
    """The hooks of one forward pass: how long the text is, and each attention in turn."""

    def __init__(self, options: dict, tokens: int):
        self.previous, self.tokens, self.text, self.calls = options.get(OVERRIDE), tokens, None, 0
        patches = options.get("patches", {})
        counting = [*patches.get("post_input", []), self.counted]
        self.options = {**options, "patches": {**patches, "post_input": counting}, OVERRIDE: self.attend}

    def counted(self, args: dict) -> dict:
        """post_input, last: the text's tokens, whatever others added; the picture's have to be as many as they were."""
        self.text = args["txt"].shape[1]
        if args["img"].shape[1] != self.tokens:
            raise EditError("Another patch adds image tokens to FLUX's input; remove it for ICEdit Training-free.")
        return args

    def attend(self, function, q, k, v, heads, *args, mask=None, **kwargs):
        """optimized_attention_override: ours around whatever computes attention otherwise."""

        def base(q, k, v, mask=mask):
            if self.previous is not None:
                return self.previous(function, q, k, v, heads, *args, mask=mask, **kwargs)
            return function(q, k, v, heads, *args, mask=mask, **kwargs)

        if self.text is None or not kwargs.get("skip_reshape") or q.shape[2] != self.text + self.tokens:
            return base(q, k, v)  # another pack's attention to something else
        self.calls += 1
        return self.seen(base, q, k, v, mask)

    def seen(self, base, q, k, v, mask):
        raise NotImplementedError


class Keeping(Pass):
    """The inversion's pass: keeps the values of the picture's tokens under a noise level, unless that is None."""

    def __init__(self, options: dict, tokens: int, values: Values, level: float | None):
        super().__init__(options, tokens)
        self.values, self.level = values, level

    def seen(self, base, q, k, v, mask):
        if self.level is not None:
            self.values.keep(self.level, v[:, :, self.text :])
        return base(q, k, v)


class Injecting(Pass):
    """The diptych's pass: the kept values in the left panel, which is blind to the right one where it is isolated."""

    def __init__(self, options: dict, tokens: int, width: int, kept: list[Tensor] | None, isolated: bool):
        super().__init__(options, tokens)
        self.left, self.right = diptych.panels(tokens, width)
        self.kept, self.isolated = kept, isolated

    def seen(self, base, q, k, v, mask):
        left, right = self.left.to(q.device), self.right.to(q.device)
        if self.kept is not None:
            if self.calls > len(self.kept):
                raise EditError(SKIPPED)
            v = inverting.injected(v, self.kept[self.calls - 1], self.text, left)
        if not self.isolated:
            return base(q, k, v)
        own = torch.cat([torch.arange(self.text, device=q.device), self.text + left])
        rest = self.text + right
        first = base(q[:, :, own], k[:, :, own], v[:, :, own], _part(_part(mask, own, -1), own, -2))
        second = base(q[:, :, rest], k, v, _part(mask, rest, -2))
        out = first.new_empty(first.shape[0], q.shape[2], first.shape[2])
        out[:, own], out[:, rest] = first, second
        return out


def _part(mask: Tensor | None, where: Tensor, dim: int) -> Tensor | None:
    return mask if mask is None or mask.shape[dim] == 1 else mask.index_select(dim, where)


def _tokens(x: Tensor) -> int:
    return ((x.shape[-2] + 1) // 2) * ((x.shape[-1] + 1) // 2)


class _Asked:
    """ComfyUI's DIFFUSION_MODEL wrapper of an inversion; holds what the network answered."""

    def __init__(self, values: Values):
        self.values, self.level, self.answers = values, None, []

    def __call__(self, executor, x, timestep, context, y=None, guidance=None, ref_latents=None, control=None,
                 transformer_options=None, **kwargs):  # fmt: skip
        hooks = Keeping(transformer_options or {}, _tokens(x), self.values, self.level)
        out = executor(x, timestep, context, y, guidance, ref_latents, control, hooks.options, **kwargs)
        if not hooks.calls:
            raise EditError(SKIPPED)
        self.answers.append(out.float())
        return out


def inverted(model, conditioning, latent: Tensor, sigmas: Tensor, solver: str, store: str, injected: float):
    """(the Inversion of a reference, a line on its memory). latent: LATENT's samples [b, 16, h, w].

    injected: the part of the steps, from noise on, at which the values are put back later; others are not kept.
    EditError where they would not fit.
    """
    net = flux.text_to_image(model, NODE)
    import comfy.samplers
    from comfy.patcher_extension import WrappersMP

    if latent.ndim != 4 or latent.shape[-1] % 2 or latent.shape[-2] % 2:
        raise EditError("The reference has no whole tokens of 16 px; encode the panel of ICEdit Diptych.")
    levels = inverting.checked(sigmas)
    kept = _kept(levels, solver, injected)
    said = _memory(model, net, latent, len(kept), store)
    values = Values(store)
    asked = _Asked(values)
    clone = model.clone()
    clone.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, KEY, asked)
    guider = comfy.samplers.CFGGuider(clone)
    guider.inner_set_conds({"positive": conditioning})
    sampler = _sampler()(asked, kept, solver)
    guider.sample(torch.zeros_like(latent), latent, sampler, sigmas, disable_pbar=True, seed=0)
    return Inversion(sampler.made.cpu(), sigmas.cpu(), solver, values), said


def _kept(levels: list[float], solver: str, injected: float) -> list[float]:
    """The noise levels of the first part of the steps down."""
    per_step = 2 if solver == inverting.RF_SOLVER else 1
    count = round(injected * (len(levels) - 1)) * per_step
    return inverting.evaluations(levels, solver)[:count]


def _memory(model, net, latent: Tensor, calls: int, store: str) -> str:
    import comfy.model_management as management

    layers, item = net.params.depth + net.params.depth_single_blocks, flux.dtype(model).itemsize
    needed = inverting.needed(layers, net.hidden_size, _tokens(latent), calls, item, len(latent))
    where = model.load_device if store == inverting.DEVICE else torch.device("cpu")
    free = management.get_free_memory(where)
    if needed > free:
        raise EditError(
            f"The attention values need {inverting.shown(needed)} and {where} has {inverting.shown(free)} free; take "
            "fewer steps, a smaller panel, a smaller part `injected`, or the other store."
        )
    return (
        f"{calls} evaluations of {layers} layers, {_tokens(latent)} tokens: {inverting.shown(needed)} of attention "
        f"values on {'the device' if store == inverting.DEVICE else 'the CPU'}."
    )


@cache
def _sampler():
    import comfy.samplers

    class Inverting(comfy.samplers.Sampler):
        """Goes up the schedule from the latent as it is. `made` holds the noise, in the network's scale."""

        def __init__(self, asked: _Asked, kept: list[float], solver: str):
            self.asked, self.kept, self.solver, self.made = asked, kept, solver, None

        def sample(self, model_wrap, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None,
                   disable_pbar=False):  # fmt: skip
            def velocity(x, time, level):
                near = any(abs(level - one) <= inverting.NEAR for one in self.kept)
                self.asked.level, self.asked.answers = (level if near else None), []
                model_wrap(x, x.new_full((len(x),), time), **extra_args)
                if [len(answer) for answer in self.asked.answers] != [len(x)]:
                    raise EditError("The inversion takes one prompt; this conditioning combines several, or regions.")
                return self.asked.answers[0].to(x)

            self.made = inverting.invert(velocity, latent_image, sigmas, self.solver, reporter())
            return latent_image

    return Inverting


class Beside:
    """ComfyUI's DIFFUSION_MODEL wrapper of the diptych's sampling."""

    def __init__(self, inversion: Inversion, isolated: bool, lowest: float):
        self.inversion, self.isolated, self.lowest = inversion, isolated, lowest

    def __call__(self, executor, x, timestep, context, y=None, guidance=None, ref_latents=None, control=None,
                 transformer_options=None, **kwargs):  # fmt: skip
        options, noise = transformer_options or {}, self.inversion.noise
        if tuple(x.shape[-2:]) != (noise.shape[-2], 2 * noise.shape[-1]) or len(x) % len(noise):
            raise EditError(
                f"The latent of {8 * x.shape[-1]}x{8 * x.shape[-2]} px is not the diptych of this inversion; sample "
                "the latent of ICEdit Training-free."
            )
        levels = options.get("sigmas")
        level = float((timestep if levels is None else levels).max())
        kept = self.inversion.values.at(level)
        if kept is None and level > self.lowest:
            raise EditError(
                f"Nothing was kept for the noise level {level:.4f}; sample with the sigmas and the sampler of ICEdit "
                "Training-free."
            )
        hooks = Injecting(options, _tokens(x), noise.shape[-1] // 2, kept, self.isolated)
        out = executor(x, timestep, context, y, guidance, ref_latents, control, hooks.options, **kwargs)
        if not hooks.calls or (kept is not None and hooks.calls != len(kept)):
            raise EditError(SKIPPED)
        return out


def beside(model, inversion: Inversion, isolated: bool):
    """A clone of the MODEL that samples a diptych whose left panel is the inverted reference."""
    flux.text_to_image(model, NODE)
    from comfy.patcher_extension import WrappersMP

    clone, known = model.clone(), inversion.values.levels
    clone.remove_wrappers_with_key(WrappersMP.DIFFUSION_MODEL, KEY)
    lowest = min(known) - inverting.NEAR if known else float("inf")
    clone.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, KEY, Beside(inversion, isolated, lowest))
    return clone


class Noise:
    """A NOISE: the inverted reference on the left, the seed's noise on the right."""

    def __init__(self, inversion: Inversion, seed: int):
        self.inversion, self.seed = inversion, seed

    def generate_noise(self, input_latent):
        import comfy.sample

        left = self.inversion.noise
        right = comfy.sample.prepare_noise(torch.zeros_like(left), self.seed)
        return torch.cat([left, right.to(left)], -1)


def empty(inversion: Inversion) -> Tensor:
    """The latent of an empty diptych [b, c, h, 2·w]."""
    return torch.cat([torch.zeros_like(inversion.noise)] * 2, -1)


def sampler(solver: str):
    """The SAMPLER that goes down as the inversion went up."""
    import comfy.samplers

    return comfy.samplers.KSAMPLER(_solve, {"solver": solver})


def _solve(model, x, sigmas, extra_args=None, callback=None, disable=None, solver=inverting.EULER):
    """k-diffusion's signature: from noise to a picture."""
    def velocity(x, time, level):
        denoised = model(x, x.new_full((len(x),), time), **(extra_args or {}))
        seen.append(denoised)
        return (x - denoised) / time

    levels = [float(s) for s in sigmas]
    for i, (high, low) in enumerate(zip(levels, levels[1:], strict=False)):
        seen: list[Tensor] = []
        x = inverting.step(velocity, x, high, low, solver)
        if callback is not None:
            callback({"i": i, "denoised": seen[-1], "x": x, "sigma": high, "sigma_hat": high})
    return x
