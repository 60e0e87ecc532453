"""Every number that a bundle's delivery needs, under the name by which its manifest and its page know it.

They are read from where the Python pipeline keeps them, so that page and pipeline cannot drift apart.
"""

import inspect

from .. import filters, masks, region
from ..blazeedit import (
    cutout,
    delivering,
    delivery,
    first_guess,
    guess,
    maps,
    offsets,
    pipeline,
    texture,
    work,
)


def constants() -> dict[str, float]:
    """`manifest["constants"]`: plain numbers by name."""
    return {
        **_canvases(), **_guesses(), **_maps(), **_paste(), **_texture(), **_offsets(), **_stickers()
    }  # fmt: skip


def _default(function, name: str):
    return inspect.signature(function).parameters[name].default


def _canvases() -> dict:
    crop = {name: _default(region.crop_around, name) for name in ("multiple", "minimum")}
    return {
        "crop_multiple": crop["multiple"],
        "crop_minimum": crop["minimum"],
        "fill_context": work.FILL_CONTEXT,
        "shadow_context": work.SHADOW_CONTEXT,
        "sticker_context": work.STICKER_CONTEXT,
        "blank": pipeline.BLANK,
        "wide_blur": filters.WIDE,
        "large_growth": masks.LARGE,
    }


def _guesses() -> dict:
    return {
        "membrane_coarsest": guess.COARSEST,
        # sweeps per level, the coarsest is 0; the last holds for all finer ones
        **{f"membrane_sweeps_{level}": sweeps for level, sweeps in enumerate(guess.SWEEPS)},
        "spread": guess.SPREAD,
        "stretch_bins": guess.BINS,
        "stretch_low": guess.LOW,
        "stretch_high": guess.HIGH,
        "tone_blend": first_guess.TONE_BLEND,
        "tone_limit": first_guess.TONE_LIMIT,
    }


def _maps() -> dict:
    return {
        "map_ridge": delivery.RIDGE,
        "map_robust": delivery.ROBUST,
        "map_rounds": _default(delivery.fit_colour_map, "rounds"),
        "tone_scale": maps.TONE_SCALE,
        "highlights": maps.HIGHLIGHTS,
        "white_drop": maps.WHITE_DROP,
        "relight_scale": maps.RELIGHT_SCALE,
        "relight_radius": _default(delivery.upsample_gain, "radius"),
        "relight_eps": _default(delivery.upsample_gain, "eps"),
        "gain_blur": delivering.GAIN_BLUR,
        "shadow_minimum": maps.SHADOW_MINIMUM,
        "shadow_fade_small": maps.SHADOW_FADE[0],
        "shadow_fade_full": maps.SHADOW_FADE[1],
        "shadow_radius": maps.SHADOW_EDGES[0],
        "shadow_eps": maps.SHADOW_EDGES[1],
        "attached": maps.ATTACHED,
        "taper": maps.TAPER,
    }


def _paste() -> dict:
    return {
        "guide_size": delivering.GUIDE_SIZE,
        "strip_context": delivering.STRIP_CONTEXT,
        "strip_minimum": region.SURROUNDINGS,
        "texture_sigma": delivering.TEXTURE_SIGMA,
        "texture_hole": delivering.TEXTURE_HOLE,
        "texture_gain": delivering.TEXTURE_GAIN[False],
        "texture_gain_outpaint": delivering.TEXTURE_GAIN[True],
    }


def _texture() -> dict:
    return {
        "texture_scale": texture.SCALE,
        "texture_largest": texture.LARGEST,
        "texture_smooth": texture.SMOOTH,
        "texture_alike": texture.ALIKE,
        "texture_coarse": texture.COARSE,
        "texture_at_edge": texture.AT_EDGE,
        "texture_inside": texture.INSIDE,
        "texture_least": texture.STEADY[0],
        "texture_most": texture.STEADY[1],
        "texture_samples": texture.SAMPLES,
        "texture_limit": texture.LIMIT,
    }


def _offsets() -> dict:
    return {
        "offset_ring": offsets.RING,
        "texture_labels": offsets.LABELS,
        "offset_pieces": offsets.PIECES,
        "offset_least": offsets.LEAST,
        "offset_sweeps": offsets.SWEEPS,
        "offset_smoothness": offsets.SMOOTHNESS,
        "offset_coverage": offsets.COVERAGE,
        "offset_unlike": offsets.UNLIKE,
        "offset_poor": offsets.POOR,
        "offset_guide": offsets.GUIDE,
        "offset_missing": offsets.MISSING,
    }


def _stickers() -> dict:
    return {
        "sticker_render": delivering.STICKER_RENDER,
        "sticker_border": _default(pipeline.sticker, "border"),
        "sticker_shadow": cutout.SHADOW_OPACITY,
        "sticker_steps": guess.STICKER_STEPS,
        "sticker_softness": guess.STICKER_SOFTNESS,
        "sticker_saturation": guess.STICKER_SATURATION,
        "sticker_outline": guess.STICKER_OUTLINE,
    }
