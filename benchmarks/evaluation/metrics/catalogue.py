"""Every metric by its name: what it means, what it needs of a sample, which engine computes it, and how it is printed.

Names end in what the result is compared with: `_target`, `_source`, `_outside` (the source where it was not to be
edited), `_edit` (the target where it was), or nothing where words are the measure.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ....models.icedit import vie
from . import clip, pixels
from .engines import CLIP_B32, CLIP_L14, DINO_B8, DINO_S16, FACE, JUDGE, LPIPS, PIXELS, Engines
from .views import Views

NAN = float("nan")


@dataclass(frozen=True)
class Metric:
    """needs: fields of a sample without which there is nothing to measure. scale: what a value is printed times.

    better: "higher" or "lower". measure(views, engine) gives a number, or NaN where the sample leaves none.
    """

    name: str
    title: str
    engine: str
    needs: tuple[str, ...]
    better: str
    said: str
    measure: Callable[[Views, object], float]
    scale: float = 1.0
    digits: int = 3

    @property
    def arrow(self) -> str:
        return "↑" if self.better == "higher" else "↓"

    @property
    def label(self) -> str:
        """The name, with the power of ten that values are printed times."""
        return self.name + "".join(self.title.partition("×")[1:])


def _outside(measure: Callable) -> Callable[[Views, object], float]:
    """A comparison of result and source with the edit's region black in both."""

    def measured(views: Views, engine) -> float:
        pair = pixels.outside(views.result, views.source, views.region)
        return NAN if pair is None else measure(*pair, engine)

    return measured


def _clip_edited(views: Views, engine) -> float:
    if not views.region.any():
        return NAN
    return engine.score(clip.edited(views.result, views.region), views.sample.target_caption)


def _l1_edit(views: Views, engine) -> float:
    return pixels.l1(views.result_as_target, views.target, views.region_at(views.target_picture.size))


def _to_source(views: Views):
    from .views import at

    return at(views.result_picture, views.source_picture.size)


_TARGET, _MASK, _CAPTION = ("target",), ("region",), ("target_caption",)
_METRICS = (
    Metric("l1_target", "L1", PIXELS, _TARGET, "lower", "mean absolute difference to the target (MagicBrush)",
           lambda v, e: pixels.l1(v.result_as_target, v.target)),
    Metric("l2_target", "L2", PIXELS, _TARGET, "lower", "mean squared difference to the target (MagicBrush)",
           lambda v, e: pixels.l2(v.result_as_target, v.target), digits=4),
    Metric("l1_edit", "L1 edit", PIXELS, ("target", "region"), "lower",
           "mean absolute difference to the target inside the mask (ours)", _l1_edit),
    Metric("psnr_target", "PSNR", PIXELS, _TARGET, "higher", "PSNR to the target in dB, at most 99",
           lambda v, e: pixels.psnr(v.result_as_target, v.target), digits=2),
    Metric("ssim_target", "SSIM", PIXELS, _TARGET, "higher", "SSIM to the target",
           lambda v, e: pixels.ssim(v.result_as_target, v.target)),
    Metric("lpips_target", "LPIPS", LPIPS, _TARGET, "lower", "LPIPS (SqueezeNet) to the target",
           lambda v, e: e.distance(v.result_as_target, v.target)),
    Metric("clip_i_target", "CLIP-I", CLIP_B32, _TARGET, "higher", "cosine of CLIP ViT-B/32 embeddings to the target",
           lambda v, e: e.images(v.result_picture, v.target_picture)),
    Metric("dino_target", "DINO", DINO_S16, _TARGET, "higher", "cosine of DINO ViT-S/16 embeddings to the target",
           lambda v, e: e.images(v.result_picture, v.target_picture)),
    Metric("l1_source", "L1 source", PIXELS, (), "lower", "mean absolute difference to the source",
           lambda v, e: pixels.l1(v.result, v.source)),
    Metric("clip_i_source", "CLIP-I source", CLIP_B32, (), "higher", "cosine of CLIP ViT-B/32 embeddings to the source",
           lambda v, e: e.images(v.result_picture, v.source_picture)),
    Metric("dino_source", "DINO source", DINO_S16, (), "higher", "cosine of DINO ViT-S/16 embeddings to the source",
           lambda v, e: e.images(v.result_picture, v.source_picture)),
    Metric("clip_out", "CLIP-Out", CLIP_B32, _CAPTION, "higher",
           "cosine of CLIP ViT-B/32 embeddings of result and target caption (CLIP-T, CLIP-Out)",
           lambda v, e: e.caption(v.result_picture, v.sample.target_caption)),
    Metric("psnr_outside", "PSNR", PIXELS, _MASK, "higher",
           "PSNR to the source in dB with the edit's region black in both, at most 99 (PIE-Bench)",
           _outside(lambda a, b, e: pixels.psnr(a, b)), digits=2),
    Metric("mse_outside", "MSE×10⁴", PIXELS, _MASK, "lower",
           "mean squared difference to the source with the edit's region black in both (PIE-Bench)",
           _outside(lambda a, b, e: pixels.mse(a, b)), scale=1e4, digits=2),
    Metric("ssim_outside", "SSIM×10²", PIXELS, _MASK, "higher",
           "SSIM to the source with the edit's region black in both (PIE-Bench)",
           _outside(lambda a, b, e: pixels.ssim(a, b)), scale=1e2, digits=2),
    Metric("lpips_outside", "LPIPS×10³", LPIPS, _MASK, "lower",
           "LPIPS (SqueezeNet) to the source with the edit's region black in both (PIE-Bench)",
           _outside(lambda a, b, e: e.distance(a, b)), scale=1e3, digits=2),
    Metric("structure_distance", "Structure×10³", DINO_B8, (), "lower",
           "mean squared difference of the self-similarity of DINO ViT-B/8's last keys to the source's (PIE-Bench)",
           lambda v, e: e.distance(v.result, v.source), scale=1e3, digits=2),
    Metric("clip_whole", "CLIP whole", CLIP_L14, _CAPTION, "higher",
           "CLIP score (ViT-L/14, times 100) of result and target caption (PIE-Bench)",
           lambda v, e: e.score(_to_source(v), v.sample.target_caption), digits=2),
    Metric("clip_edited", "CLIP edited", CLIP_L14, ("region", "target_caption"), "higher",
           "CLIP score (ViT-L/14, times 100) of the result with all but the region black (PIE-Bench)",
           _clip_edited, digits=2),
    Metric("face_source", "Face", FACE, (), "higher",
           "cosine of AuraFace embeddings of the largest face to the source's",
           lambda v, e: e.similarity(v.source_picture, v.result_picture)),
)  # fmt: skip
# VIE-Score's marks come of one conversation, so they are measured together.
VIE = ("vie_sc", "vie_pq", "vie_overall", "vie_weighted")


def _of_scores(name: str, title: str, said: str, digits: int = 2) -> Metric:
    return Metric(name, title, JUDGE, ("instruction",), "higher", said, lambda v, e: NAN, digits=digits)


_VIE = (
    _of_scores("vie_sc", "SC", "VIE-Score's semantic consistency: the lower mark of success and restraint, 0 to 10"),
    _of_scores("vie_pq", "PQ", "VIE-Score's perceptual quality, 0 to 10"),
    _of_scores("vie_overall", "Overall", "VIE-Score: √(SC · PQ), 0 to 10"),
    _of_scores("vie_weighted", "GPT", "PQ / 10 weighted by SC / 10 (ICEdit B.4.2, whose threshold is unpublished)", 3),
)
METRICS = {metric.name: metric for metric in (*_METRICS, *_VIE)}


def applicable(names: tuple[str, ...], has: Callable[[str], bool]) -> list[str]:
    """Of these metrics those for which a sample has everything. has(field): whether the sample has it."""
    return [name for name in names if all(has(field) for field in METRICS[name].needs)]


def measured(names: list[str], views: Views, engines: Engines) -> dict[str, float]:
    """The values of these metrics, whose engines must be there. JudgeFailed from a judge that gives no marks."""
    found = {name: METRICS[name].measure(views, engines.get(METRICS[name].engine)) for name in names if name not in VIE}
    if any(name in VIE for name in names):
        found |= _marks(engines.get(JUDGE), views)
    return {name: float(found[name]) for name in names}


def _marks(judge, views: Views) -> dict[str, float]:
    """All four numbers of one judgement."""
    scores = judge.score(views.source_picture, _to_source(views), views.sample.instruction)
    return dict(zip(VIE, vie.mean([scores]), strict=True))
