"""Training examples (x, m, y) for every task: photographs, rendered scenes and pasted objects as the targets y."""

from dataclasses import dataclass, field

import numpy as np
import torch

from ....models.errors import EditError
from . import degrade
from .holes import outpaint_strip
from .light import spread
from .shadows import composite
from .teacher import sticker_teacher

IDENTITY = {"tone": 0.10, "relight": 0.35}  # share of examples with x == y: a good picture must stay
PASTED = 0.20  # share of targets that show an object which has to stay
BLANK = 0.5  # the grey of pixels that do not exist yet
TRAINING_SHARE, EVALUATION_SHARE, STICKER_SHARE = (0.03, 0.14), (0.029, 0.047), (0.12, 0.5)


@dataclass
class Triplet:
    """x, y: float32 [s, s, 3], 0..1. mask: float32 [s, s], 0 or 1, white = to be edited. extra: maps of the task."""

    x: np.ndarray
    mask: np.ndarray
    y: np.ndarray
    task: str
    extra: dict = field(default_factory=dict)


class TripletSource:
    """Draws examples of any task; the same rng gives the same examples."""

    def __init__(
        self, photos, cutouts=None, scene_share=0.25, *, scenes=None, identity=None, evaluation=False,
        removal_share=None,
    ):  # fmt: skip
        """photos: PhotoBank, or None for rendered scenes only. cutouts: CutoutBank (None: rendered objects).

        scenes: SceneBank to take rendered scenes from (None: each is rendered when needed). identity: share of x == y
        per task. evaluation: exact masks, objects whose hole covers 5-8 % of 256 px, always a changed x.
        removal_share: (least, most) of the picture that an object to remove covers.
        """
        self.photos, self.cutouts, self.scenes = photos, cutouts, scenes
        self.scene_share = 1.0 if photos is None else scene_share
        self.identity = {} if evaluation else (IDENTITY if identity is None else identity)
        self.evaluation = evaluation
        self.removal_share = removal_share or (EVALUATION_SHARE if evaluation else TRAINING_SHARE)
        self._tasks = {"remove": self._remove, "outpaint": self._outpaint, "tone": self._tone,
                       "relight": self._relight, "sticker": self._sticker}  # fmt: skip

    def sample(self, task: str, rng: np.random.Generator, size: int) -> Triplet:
        """One example of `task` at `size` px. EditError for a task that has no generator."""
        if task not in self._tasks:
            raise EditError(
                f"There is no training data for the task {task!r}; choose one of {', '.join(self._tasks)}."
            )
        return self._tasks[task](rng, size)

    def batch(self, task: str, n: int, rng: np.random.Generator, size: int):
        """n examples as tensors: x [n, 3, size, size], mask [n, size, size], y [n, 3, size, size]."""
        if task in ("tone", "relight"):
            return self._map_batch(task, n, rng, size)
        examples = [self.sample(task, rng, size) for _ in range(n)]
        masks = torch.from_numpy(np.stack([e.mask for e in examples]))
        return stack([e.x for e in examples]), masks, stack([e.y for e in examples])

    def targets(self, n: int, rng: np.random.Generator, size: int) -> torch.Tensor:
        """n clean pictures [n, 3, size, size], for the autoencoder and for pretraining with masks of the zoo."""
        return stack([self.target(rng, size) for _ in range(n)])

    def target(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """One clean picture, float32 [size, size, 3]: a photograph or a scene, with an object in one of five."""
        y = self.scene(rng, size) if rng.random() < self.scene_share else self.photos.crop(rng, size)
        if not self.evaluation and rng.random() < PASTED:
            y = composite(rng, y, self.object(rng, size // 2)).x
        return y

    def scene(self, rng, size):
        """One rendered scene, from the bank if there is one."""
        if self.scenes is not None:
            return self.scenes.crop(rng, size)
        from .scenes import render_scene

        return render_scene(rng, size)

    def object(self, rng, size):
        """One object that fills `size` px: float32 [size, size, 4]."""
        if self.cutouts is not None:
            return self.cutouts.take(rng, size)
        from .objects import render_object

        return render_object(rng, size)

    def _remove(self, rng, size):
        share = rng.uniform(*self.removal_share)
        y = self.target(rng, size)
        made = composite(
            rng, y, self.object(rng, round(1.6 * size * share**0.5)), share=share, exact=self.evaluation
        )
        extra = {"alpha": made.alpha, "shadow": made.shadow, "gain": made.gain}
        return Triplet(made.x, made.mask, y, "remove", extra)

    def _outpaint(self, rng, size):
        y, mask = self.target(rng, size), outpaint_strip(rng, size)
        return Triplet(np.where(spread(mask) > 0, np.float32(BLANK), y), mask, y, "outpaint")

    def _tone(self, rng, size):
        return self._mapped("tone", degrade.tone, rng, size)

    def _relight(self, rng, size):
        return self._mapped("relight", degrade.relight, rng, size)

    def _mapped(self, task, spoil, rng, size):
        y = self.target(rng, size)
        x = y.copy() if rng.random() < self.identity.get(task, 0) else spoil(y, rng)
        return Triplet(x, np.ones((size, size), np.float32), y, task)

    def _map_batch(self, task, n, rng, size):
        """Tone and relight for the whole batch at once, several times faster than one by one."""
        y = self.targets(n, rng, size)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        spoilt = (degrade.tone_batch if task == "tone" else degrade.relight_batch)(y, generator)
        same = torch.from_numpy(rng.random(n) < self.identity.get(task, 0))
        return torch.where(same[:, None, None, None], y, spoilt), torch.ones(n, size, size), y

    def _sticker(self, rng, size):
        """x shows a subject, y is x with the subject drawn by the teacher and everything else untouched."""
        share = rng.uniform(*STICKER_SHARE)
        made = composite(rng, self.target(rng, size), self.object(rng, size), share=share, exact=True)
        drawn = sticker_teacher(made.x, made.alpha)
        y = np.where(spread(made.alpha) > 0, made.x + spread(made.alpha) * (drawn - made.x), made.x)
        return Triplet(made.x, (made.alpha > 0.5).astype(np.float32), y, "sticker", {"alpha": made.alpha})


def stack(pictures) -> torch.Tensor:
    """[s, s, 3] NumPy pictures -> a contiguous tensor [n, 3, s, s]."""
    return torch.from_numpy(np.ascontiguousarray(np.stack(pictures).transpose(0, 3, 1, 2), np.float32))
