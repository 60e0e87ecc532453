"""The quality table end to end on a pipeline without a network."""

import numpy as np
import pytest

from editkit.benchmarks import bars, baselines, methods, quality, report, triplets
from editkit.models.errors import EditError

SLOW = ("shift-map", "fsr", "membrane")  # checked by themselves


@pytest.fixture
def fast(monkeypatch):
    for task in ("remove", "outpaint"):
        kept = {k: v for k, v in baselines.BASELINES[task].items() if k not in SLOW}
        monkeypatch.setitem(baselines.BASELINES, task, kept)


@pytest.fixture
def kit(fake):
    return methods.Kit(fake.pipeline(), fake.model())


def scored(kit, fake, task):
    rows, tile = quality.score(kit, fake.triplet(task))
    return bars.Table(rows), tile


@pytest.mark.parametrize("task", quality.TASKS)
def test_every_bar_of_a_task_is_measured(fast, kit, fake, task):
    table, tile = scored(kit, fake, task)
    kit_only = "undistilled"
    assert all(v.value is not None for v in bars.evaluate(table, [task]) if kit_only not in v.bar.text)
    assert [p.shape for p in tile.pictures] == [(64, 64, 3)] * 5
    assert report.task_lines(table, task)


def test_the_bars_see_exact_and_inexact_edits(fast, kit, fake):
    table, _ = scored(kit, fake, "remove")
    assert table.values("remove", "ours", "outside_changed") == {("photo", 0): 0.0}
    assert table.values("sticker", "ours", "border_change") == {}
    kit.pipeline.remove = lambda m, image, mask, seed: fake._edit(image + 0.001, mask)
    assert scored(kit, fake, "remove")[0].values("remove", "ours", "outside_changed")["photo", 0] > 5e-4
    assert scored(kit, fake, "sticker")[0].values("sticker", "ours", "border_change") == {("photo", 0): 0.0}


def test_a_border_that_follows_the_colours_is_seen(fast, kit, fake):
    def leaky(model, image, mask, *, seed=0):
        edit = fake.sticker(model, image, mask)
        edit.image[:, 3] *= 0.9 + 0.1 * image.mean()
        return edit

    kit.pipeline.sticker = leaky
    assert scored(kit, fake, "sticker")[0].values("sticker", "ours", "border_change")["photo", 0] > 0


def test_a_pipeline_without_swap_leaves_those_rows_out_and_fails_the_bar(fast, fake):
    kit = methods.Kit(fake.pipeline(swap=None), fake.model())
    table, _ = scored(kit, fake, "tone")
    verdict = next(v for v in bars.evaluate(table, ["tone"]) if v.bar.text.startswith("right τ"))
    assert verdict.value is None


def test_only_the_undistilled_model_is_sampled_for_its_row(fast, kit, fake):
    kit.undistilled = object()
    kit.pipeline.sample = lambda model, c, steps, seed: c.guess + (0.2 if model is kit.undistilled else 0.0)
    table, _ = scored(kit, fake, "remove")
    own, other = (
        table.values("remove", m, "fill_psnr")["photo", 0] for m in ("2 steps", "2 steps undistilled")
    )
    assert own != other


def test_run_adds_reconstruction_once_a_crop_and_writes_a_sheet(fast, kit, fake, tmp_path):
    stream = [fake.triplet(task, seed=seed) for seed in (0, 1) for task in ("remove", "tone")]
    rows, tiles = quality.run(kit, stream, ["remove", "tone"])
    found = [r for r in rows if r["task"] == "autoencoder"]
    assert [r["value"] for r in found] == [99.0, 99.0]
    assert [t.task for t in tiles] == ["remove", "tone"]
    report.sheet(tiles, tmp_path / "new" / "sheet.jpg")
    assert (tmp_path / "new" / "sheet.jpg").stat().st_size > 5000


def test_fills_keep_what_is_known_and_never_look_into_the_hole(fake):
    for task in ("remove", "outpaint"):
        t = fake.triplet(task)
        dirty = fake.triplet(task)
        dirty.x[dirty.hole] = 0.123
        for name, fill in baselines.BASELINES[task].items():
            if name in ("untouched", "membrane"):
                continue
            out = fill(t)
            assert np.array_equal(out[~t.hole], t.x[~t.hole]), name
            assert np.array_equal(out, fill(dirty)), name


def test_replicate_and_reflect_on_a_known_picture(fake):
    t = fake.triplet("outpaint")
    assert np.array_equal(baselines.replicate(t)[:, 48:], np.repeat(t.x[:, 47:48], 16, 1))
    assert np.array_equal(baselines.reflect(t)[:, 48:], t.x[:, 46:30:-1])


def test_stretches_reach_black_and_white_and_the_partial_one_lies_between(fake):
    t = fake.triplet("tone")
    full = baselines.luminance_stretch(t)
    assert (full.max(), full.min()) == (1, 0)
    assert np.allclose(baselines.partial_stretch(t, 0.5), (t.x + full) / 2, atol=0.01)
    assert baselines.fit_partial([fake.triplet("tone", seed=s) for s in range(3)]) >= 0


class Blocks:
    """An object source: a grey block."""

    def take(self, rng, size):
        rgba = np.zeros((size, size, 4), np.float32)
        rgba[size // 4 : -size // 4, size // 3 : -size // 3] = (0.2, 0.3, 0.4, 1)
        return rgba


def test_triplets_are_seeded_by_name_crop_and_task_and_keep_the_protocol(fake):
    photo = (fake.smooth_picture(300) * 255).astype(np.uint8)
    every = list(triplets.triplets({"a": photo, "b": photo[::-1].copy()}, Blocks(), quality.TASKS, crops=1))
    alone = list(triplets.triplets({"b": photo[::-1].copy()}, Blocks(), ["relight"], crops=1))
    assert np.array_equal(alone[0].x, next(t for t in every if (t.photograph, t.task) == ("b", "relight")).x)
    for t in every:
        assert t.x.shape == (256, 256, 3)
        assert t.x.dtype == t.y.dtype == np.float32
        if t.task == "remove":
            assert 0.05 <= t.hole.mean() <= 0.08
            assert t.shadow.sum() >= triplets.SHADOW_PIXELS
            assert not (t.shadow & t.hole).any()
            assert np.abs(t.x - t.y)[t.shadow].max(-1).min() >= 0
        if t.task == "outpaint":
            left, top, right, bottom = t.margins
            assert not t.hole[top : 256 - bottom, left : 256 - right].any()
            assert t.hole.sum() == 256 * 256 - (256 - top - bottom) * (256 - left - right)


def test_a_black_photograph_still_gives_a_removal(fake, monkeypatch):
    monkeypatch.setattr(triplets, "ATTEMPTS", 3)
    night = np.zeros((260, 260, 3), np.uint8)
    (only,) = triplets.triplets({"night": night}, Blocks(), ["remove"], crops=1)
    assert 0.05 <= only.hole.mean() <= 0.08
    assert not only.shadow.any()
    kit = methods.Kit(fake.pipeline(), fake.model())
    assert quality.measured(only, methods.ours(kit, only))["lattice"] >= 1


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(EditError):
        triplets.photographs(tmp_path)
