"""The speed table on tiny sizes: that its arithmetic and its rows are right, not how fast this machine is."""

import pytest
import torch

from editkit.benchmarks import cli, large_photo, speed, stable_diffusion, swiftedit, timing
from editkit.models.errors import EditError


def test_edits_of_a_fake_pipeline_beside_a_tiny_vae(fake):
    rows = speed.run(["edit"], quick=True, kit=(fake.pipeline(), fake.model()))
    musts = [r for r in rows if r["kind"] == "must"]
    assert len(musts) == 10
    assert {r["limit"] for r in musts} == {1.0, 0.04}
    assert speed.lines(rows)[-1].endswith("aims reached")


def test_a_row_that_falls_short_says_so():
    rows = speed.row("paper", "faster", 7.0, "x", must=5.0, aim=8.0, at_most=False)
    assert [r["ok"] for r in rows] == [True, False]
    assert speed.lines(rows)[-1] == "1 of 1 musts met, 0 short; 0 of 1 aims reached"
    assert speed.row("p", "w", 1.0, "s")[0]["ok"] is None


def test_stable_diffusions_own_shapes_without_download():
    vae, unet = stable_diffusion.vae(quick=True), stable_diffusion.unet(quick=True)
    jobs = stable_diffusion.jobs(vae, unet, 64)
    with torch.inference_mode():
        assert jobs["sd15 vae decode"]().shape == (1, 3, 64, 64)
        assert jobs["sd15 u-net step, guided"]().shape == (2, 4, 8, 8)
        assert torch.isfinite(jobs["sd15 u-net step"]()).all()


def test_stable_diffusions_sizes_are_the_published_ones(monkeypatch):
    monkeypatch.setattr(stable_diffusion, "_random", lambda build: build())
    with torch.device("meta"):
        sizes = [
            sum(p.numel() for p in build().parameters())
            for build in (stable_diffusion.unet, stable_diffusion.vae)
        ]
        sizes.append(sum(p.numel() for p in stable_diffusion.unet21().parameters()))
    assert sizes == [859_535_364, 83_653_863, 865_910_724]


def test_the_ratio_of_the_paper_counts_encode_steps_and_decode():
    seconds = {"195m edit, 2 steps": [2.0], "sd15 vae encode": [1.0], "sd15 vae decode": [3.0],
               "sd15 u-net step": [4.0], "sd15 u-net step, guided": [8.0]}  # fmt: skip
    found = {r["what"]: r for r in speed.paper_rows(seconds)}
    assert found["195m edit is faster by, with guidance"]["value"] == pytest.approx((1 + 4 * 8 + 3) / 2)
    assert found["195m edit is faster by, without guidance"]["value"] == pytest.approx((1 + 4 * 4 + 3) / 2)


@pytest.fixture(scope="module")
def swiftedit_kit():
    return swiftedit.kit(quick=True)


def test_swiftedit_ours_and_the_released_way_draw_the_same_pictures(swiftedit_kit):
    with torch.inference_mode():
        (ours, mask), (theirs, other) = swiftedit.ours(swiftedit_kit), swiftedit.released(swiftedit_kit)
    assert ours.shape == theirs.shape == (2, 3, 64, 64)
    assert torch.equal(mask, other)
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=0)


def test_swiftedits_random_networks_edit_something(swiftedit_kit):
    with torch.inference_mode():
        pictures, mask = swiftedit.ours(swiftedit_kit)
    assert 0.02 < mask.mean() < 0.6
    assert pictures.std() > 0.05
    assert (pictures[0] - pictures[1]).abs().max() > 0.01


def test_the_released_way_decodes_four_pictures_and_ours_two(swiftedit_kit, monkeypatch):
    decoded, real = [], swiftedit.Kit.decoded
    monkeypatch.setattr(swiftedit.Kit, "decoded", lambda kit, z: decoded.append(len(z)) or real(kit, z))
    with torch.inference_mode():
        swiftedit.ours(swiftedit_kit)
        assert decoded == [2]
        swiftedit.released(swiftedit_kit)
        assert decoded == [2, 2, 2]
        alone, _ = swiftedit.ours(swiftedit_kit, reconstruct=False)
    assert decoded[3:] == [1] and len(alone) == 1


def test_the_released_mask_is_ours(swiftedit_kit):
    from editkit.models.swiftedit import mask

    noise = torch.randn(2, 4, 16, 12, generator=torch.Generator().manual_seed(0))
    assert torch.equal(swiftedit.released_mask(*noise), mask.self_guided(noise[:1], noise[1:])[0])


def test_swiftedits_rows_have_a_must_on_the_pictures_and_an_aim_on_the_time():
    rows = speed.run(["swiftedit"], quick=True)
    judged = {r["what"]: (r["kind"], r["limit"]) for r in rows if r["kind"] != "info"}
    assert judged == {
        "ours is faster by": ("aim", 1.5),
        "largest difference of their pictures": ("must", 1e-3),
    }
    assert next(r for r in rows if r["kind"] == "must")["ok"]


def test_small_values_are_printed_with_their_order_of_magnitude():
    lines = speed.lines(speed.row("p", "w", 1.5e-6, "", must=1e-3))
    assert "1.5e-06" in lines[0] and "must <= 0.001 : pass" in lines[0]


def test_interleaving_runs_every_job_in_every_round():
    calls = []
    jobs = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    seconds = timing.interleaved(jobs, 2)
    assert "".join(calls) == "baabba"
    assert {k: len(v) for k, v in seconds.items()} == {"a": 2, "b": 2}


def test_operations_count_a_multiply_add_as_two():
    a = torch.randn(8, 16)
    assert timing.operations(lambda: a @ a.T) == 2 * 8 * 8 * 16
    q = torch.randn(1, 2, 16, 8)
    work = timing.operations(lambda: torch.nn.functional.scaled_dot_product_attention(q, q, q))
    assert work == 2 * (2 * 2 * 16 * 16 * 8)  # q·k and weights·v, two heads


def test_a_large_photograph_is_edited_by_every_task(fake):
    for task in speed.TASKS:
        assert large_photo.edit(fake.pipeline(), fake.model(), task, 48, 64) > 0
    assert 0 < large_photo.resident_bytes() <= large_photo.peak_bytes()


def test_a_child_that_fails_is_reported_in_one_sentence(tmp_path):
    with pytest.raises(EditError, match="failed: "):
        large_photo.measure("tone", (96, 128), tmp_path / "no weights here")


def test_unknown_choices_are_refused_before_anything_runs(capsys, tmp_path):
    assert cli.main(["speed", "--only", "warp"]) == 1
    assert "choose from edit, large, parts, paper, swiftedit, editmgt, kontext, icedit" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert cli.main(["speed", "--json", str(tmp_path / "file" / "x.json")]) == 1
    assert "cannot be written" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["quality", "--crops", "0"])


@pytest.mark.parametrize("table", ["quality", "speed", "mobile", "parity"])
def test_help_teaches_with_examples(table, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([table, "--help"])
    assert stop.value.code == 0
    assert f"python . bench {table} " in capsys.readouterr().out
