"""The metrics put edits in the right order: the truth, half of the edit, the untouched source, and noise."""

import numpy as np
import pytest
from PIL import Image

from editkit.benchmarks.evaluation.metrics.catalogue import METRICS
from editkit.benchmarks.evaluation.papers import BENCHMARKS
from editkit.tests.benchmarks.evaluation import layouts
from editkit.tests.benchmarks.evaluation.test_models import marks
from editkit.tests.loopback_judge import serving

COUNT = 4
OUTSIDE = ("psnr_outside", "mse_outside", "ssim_outside", "lpips_outside")
EDIT = ("l1_edit", "vie_sc", "vie_overall")
WORDS = ("clip_out", "clip_whole", "clip_edited")  # a random CLIP knows no words


def truth(number, photo):
    return layouts.edited(photo, seed=number)


def half(number, photo):
    """Half of the edit, and the rest with more noise than the truth has."""
    rough = layouts.edited(photo, noise=6, seed=number + 50)
    return Image.composite(Image.blend(photo, truth(number, photo), 0.5), rough, layouts.mask())


def untouched(number, photo):
    return photo


def noise(number, photo):
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (64, 72, 3), np.uint8))


@pytest.fixture
def means(evaluate, tmp_path, models, torchvision):
    """{editor: {metric: mean}} of a plain folder."""
    data, photos, found = layouts.plain(tmp_path / "data", COUNT), layouts.photographs(), {}
    with serving(marks) as server:
        for editor in (truth, half, untouched, noise):
            numbers = iter(range(COUNT))

            def edit(picture, sets, editor=editor, numbers=numbers):
                number = next(numbers)
                return editor(number, photos[number])

            made = evaluate(
                "folder", data, edit, "--models", models, "--judge-url", server.url, "--judge-model", "m",
                out=tmp_path / editor.__name__,
            )  # fmt: skip
            found[editor.__name__] = {name: told["value"] for name, told in made.report["metrics"].items()}
    return found


def test_metrics_rank_edits(means):
    def order(name):
        """The editors from the best to the worst."""
        sign = -1 if METRICS[name].better == "higher" else 1
        return sorted(means, key=lambda editor: sign * means[editor][name])

    measured = set(means["truth"]) - {"seconds"}
    assert measured == set(BENCHMARKS["folder"].metrics) - {"face_source"}
    for name in measured - set(WORDS):
        assert order(name)[-1] == "noise", name
    to_target = [name for name in measured if name.endswith("_target")]
    assert len(to_target) == 6
    for name in (*to_target, *EDIT):
        assert order(name)[0] == "truth", name
    for name in OUTSIDE:
        assert order(name) == ["untouched", "truth", "half", "noise"], name
    for name in EDIT:
        assert [editor for editor in order(name) if editor != "noise"] == ["truth", "half", "untouched"], name
    for name in ("l1_source", "clip_i_source", "dino_source", "structure_distance"):
        assert order(name)[0] == "untouched", name
