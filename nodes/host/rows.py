"""Source and edit row of one step through ComfyUI's own sampling: low memory, hooks and LoRA work as everywhere."""

from functools import cache

import torch
from torch import Tensor

from ...models.errors import EditError
from .aram import TERMS, SourceNeeded, SourceTerms, one_picture

RESULTS = ["edit", "reconstruction"]


@cache
def _classes():
    import comfy.samplers as samplers

    class Guider(samplers.CFGGuider):
        """Predicts the edit row with the source row beside it. `source` holds the latter's result afterwards."""

        result = RESULTS[0]
        source = None

        def predict_noise(self, x, timestep, model_options=None, seed=None):
            edit, source = self.conds.get("positive"), self.conds.get("negative")
            for name, conds in (("edit", edit), ("source", source)):
                _check_count(name, conds, len(x))
            predict = _Pass(self.inner_model, x, timestep, _with_terms(model_options or {}))
            made, self.source = _both(predict, edit, source)
            return made if self.result == RESULTS[0] else self.source

    class OneCall(samplers.Sampler):
        """Calls the model once on the latent as it is and returns what it predicts: no noise, no steps."""

        def sample(self, model_wrap, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None,
                   disable_pbar=False):  # fmt: skip
            made = model_wrap(
                latent_image, sigmas[0] * latent_image.new_ones(len(latent_image)), **extra_args
            )
            if callback is not None:
                callback(0, made, latent_image, 1)
            return made

    return Guider, OneCall


class _Pass:
    """ComfyUI's batched call of the network for any of the two rows."""

    def __init__(self, model, x, timestep, options):
        self.model, self.x, self.timestep, self.options = model, x, timestep, options

    def __call__(self, edit, source, rows: int | None = None) -> list[Tensor]:
        import comfy.samplers

        x, time = self.x[:rows], self.timestep[:rows]
        self.options["transformer_options"][TERMS].shared |= rows is not None
        return comfy.samplers.calc_cond_batch(self.model, [edit, source], x, time, self.options)


def _with_terms(options: dict) -> dict:
    return {
        **options,
        "transformer_options": {**options.get("transformer_options", {}), TERMS: SourceTerms()},
    }


def _both(predict: _Pass, edit, source) -> tuple[Tensor | None, Tensor | None]:
    """(edit, source) rows. One photograph with many edits runs its source row once."""
    if edit is None or source is None:
        made = predict(edit, source)
        return (made[0], None) if source is None else (None, made[1])
    x = predict.x
    if len(x) > 1 and _single(source) and one_picture(predict.options) and bool((x == x[:1]).all()):
        return _one_after_the_other(predict, edit, source, rows=1)
    try:
        return tuple(predict(edit, source))
    except SourceNeeded:  # ComfyUI ran the edit row first: other hooks, or conditionings that do not batch
        return _one_after_the_other(predict, edit, source)


def _one_after_the_other(predict: _Pass, edit, source, rows: int | None = None) -> tuple[Tensor, Tensor]:
    made = predict(None, source, rows)[1].expand(len(predict.x), -1, -1, -1)
    return predict(edit, None)[0], made


def _prompts(conds) -> int:
    """How many prompts a processed conditioning holds as a batch, 0 when that cannot be told."""
    cross = conds[0]["model_conds"].get("c_crossattn") if conds and len(conds) == 1 else None
    return 0 if cross is None else len(cross.cond)


def _single(conds) -> bool:
    return _prompts(conds) == 1


def _check_count(name: str, conds, latents: int) -> None:
    """EditError for a batch of prompts that is not one for each latent: ComfyUI would drop some of them."""
    count = _prompts(conds)
    if count not in (0, 1, latents):
        raise EditError(
            f"{count} {name} prompts do not fit {latents} latents; invert with the same prompts, or give one."
        )


def guider(model, source, edit, result: str = RESULTS[0]):
    """A GUIDER for SamplerCustomAdvanced. source, edit: CONDITIONING, or None to leave that row out."""
    made = _classes()[0](model)
    rows = {"positive": edit, "negative": source}  # ComfyUI's names, so that other packs find the rows
    made.inner_set_conds({name: row for name, row in rows.items() if row is not None})
    made.result = result
    return made


def one_call(model, latent: Tensor, sigma: Tensor, source, edit) -> tuple[Tensor | None, Tensor | None]:
    """What a MODEL predicts for a latent at a sigma: the clean latents of (edit, source), float32 beside the latent.

    latent: [b, 4, h, w] in the VAE's scale, taken as x at that sigma. A row whose CONDITIONING is None gives None.
    """
    guide = guider(model, source, edit, RESULTS[1] if edit is None else RESULTS[0])
    sigmas = torch.tensor([float(sigma), 0.0])
    made = guide.sample(torch.zeros_like(latent), latent, _classes()[1](), sigmas, disable_pbar=True, seed=0)
    other = None
    if source is not None:
        other = model.model.process_latent_out(guide.source.to(torch.float32)).to(latent.device)
    return (made.to(latent.device) if edit is not None else None), other
