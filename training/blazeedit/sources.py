"""What a run trains on: photographs, cut-outs and rendered scenes, with whole photographs set aside for validation."""

from dataclasses import dataclass

import numpy as np

from .data.cutouts import CutoutBank
from .data.photos import PhotoBank, package_photographs
from .data.scenes import SceneBank
from .data.triplets import TripletSource

SCENES, SCENE_SIZE, SCENE_SHARE = 600, 192, 0.25


@dataclass
class Sources:
    """Banks for training and for choosing; the cut-outs may be absent (then objects are rendered)."""

    photos: PhotoBank
    held: PhotoBank
    cutouts: CutoutBank | None
    held_cutouts: CutoutBank | None
    scenes: SceneBank | None = None

    def triplets(self, *, removal_share=None, **identity: float) -> TripletSource:
        """Training triplets; identity: e.g. tone_identity=0.1, the share of pairs whose x is already good."""
        shares = {name.removesuffix("_identity"): share for name, share in identity.items()}
        if self.scenes is None:
            self.scenes = SceneBank(SCENES, SCENE_SIZE, seed=0)
        return TripletSource(
            self.photos,
            self.cutouts,
            SCENE_SHARE,
            scenes=self.scenes,
            identity=shares,
            removal_share=removal_share,
        )

    def held_triplets(self, *, removal_share=None) -> TripletSource:
        """Triplets of photographs and cut-outs that are never trained on."""
        return TripletSource(self.held, self.held_cutouts, 0.0, evaluation=True, removal_share=removal_share)


def open_sources(photos: list[str] | None, cutouts: str | None) -> Sources:
    """Reads the folders; without one, the sample photographs of scikit-image and scikit-learn are used.

    EditError for a folder that is missing or empty.
    """
    packaged = PhotoBank(package_photographs())
    if photos:
        train, held = PhotoBank(photos).split()
        train = train.joined(packaged, weight=0.4)  # mostly grey: they may not pull the colours
    else:
        train, held = packaged.split()
    bank = CutoutBank(cutouts) if cutouts else None
    taken, kept = bank.split() if bank else (None, None)
    return Sources(train, held, taken, kept)


def crops(bank: PhotoBank, rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    """[count, 3, size, size] float32 crops."""
    return np.stack([bank.crop(rng, size) for _ in range(count)]).transpose(0, 3, 1, 2).copy()
