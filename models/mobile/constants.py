"""The numbers of the delivery to full resolution, collected from where they are used, for code on other devices."""

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
    """Name -> number, as a bundle's manifest lists them."""
    return {
        "blank": pipeline.BLANK,
        "fill_context": work.FILL_CONTEXT,
        "shadow_context": work.SHADOW_CONTEXT,
        "sticker_context": work.STICKER_CONTEXT,
        "tone_blend": first_guess.TONE_BLEND,
        "tone_limit": first_guess.TONE_LIMIT,
        "tone_scale": maps.TONE_SCALE,
        "highlights": maps.HIGHLIGHTS,
        "white_drop": maps.WHITE_DROP,
        "relight_scale": maps.RELIGHT_SCALE,
        "attached": maps.ATTACHED,
        "taper": maps.TAPER,
        "spread": guess.SPREAD,
        "stretch_low": guess.LOW,
        "stretch_high": guess.HIGH,
        "guide_size": delivering.GUIDE_SIZE,
        "gain_blur": delivering.GAIN_BLUR,
        "sticker_render": delivering.STICKER_RENDER,
        "sticker_steps": guess.STICKER_STEPS,
        "sticker_softness": guess.STICKER_SOFTNESS,
        "sticker_saturation": guess.STICKER_SATURATION,
        "sticker_outline": guess.STICKER_OUTLINE,
        "sticker_shadow": cutout.SHADOW_OPACITY,
        "texture_sigma": delivering.TEXTURE_SIGMA,
        "texture_hole": delivering.TEXTURE_HOLE,
        "texture_gain": delivering.TEXTURE_GAIN[False],
        "texture_limit": texture.LIMIT,
        "texture_labels": offsets.LABELS,
        "strip_context": delivering.STRIP_CONTEXT,
        "map_ridge": delivery.RIDGE,
        "map_robust": delivery.ROBUST,
    }
