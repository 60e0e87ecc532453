"""What a second run takes over of the first: rows of the same workflow, words, pictures and models, and no others."""

import pytest
from PIL import Image

from editkit.models.errors import EditError
from editkit.tests.benchmarks.evaluation import layouts
from editkit.tests.benchmarks.evaluation.test_running import WITHOUT_MASK, darker, rows


def test_a_metric_whose_model_comes_later_is_measured_without_editing_again(evaluate, data, models, tmp_path):
    first = evaluate("folder", data, lambda p, s: p, "--models", tmp_path / "none")
    assert rows(first.out)["edit 0"]["clip_i_target"] is None
    assert any("clip-vit-base-patch32" in why for why in first.report["missing"])
    second = evaluate("folder", data, lambda p, s: p, "--models", models)
    assert second.editor.asked == [] and rows(second.out)["edit 0"]["clip_i_target"] > 0
    assert rows(second.out)["edit 0"]["l1_target"] == rows(first.out)["edit 0"]["l1_target"]


def test_another_models_numbers_are_not_mixed_in(evaluate, data, models, tmp_path):
    import shutil

    evaluate("folder", data, lambda p, s: p, "--models", models, "--metrics", "dino_target")
    other = tmp_path / "other"
    shutil.copytree(models / "dino-vits16", other / "dino-vits16")
    config = other / "dino-vits16" / "config.json"
    config.write_text(config.read_text() + " ")
    with pytest.raises(EditError, match="was measured with dino-vits16 .* and not with dino-vits16"):
        evaluate("folder", data, lambda p, s: p, "--models", other, "--metrics", "dino_target")


def test_another_workflow_or_benchmark_needs_another_folder(evaluate, data, tmp_path):
    made = evaluate("folder", data)
    with pytest.raises(EditError, match="holds results of another workflow; choose another --out"):
        evaluate("folder", data, titles=("instruction",))
    with pytest.raises(EditError, match=r"another benchmark \(folder\)"):
        evaluate("kontext-bench", layouts.kontext_bench(tmp_path / "k"), titles=WITHOUT_MASK)
    layouts.plain(data, instruction="Something else")
    with pytest.raises(EditError, match="an edit 'edit 0' of other words or of another picture"):
        evaluate("folder", data)
    assert len(rows(made.out)) == 3


def test_another_folders_pictures_are_not_taken_for_edited_ones(evaluate, tmp_path):
    """Edits by mask alone bear no words to tell two folders by."""
    bare = dict.fromkeys(("id", "instruction", "source_caption", "target_caption"))
    evaluate("folder", layouts.plain(tmp_path / "one", 2, **bare), titles=("mask",))
    (other := layouts.plain(tmp_path / "other", 2, **bare)).joinpath("0_source.png").write_bytes(
        (tmp_path / "one/1_source.png").read_bytes()
    )
    with pytest.raises(EditError, match="an edit '0001' of other words or of another picture"):
        evaluate("folder", other, titles=("mask",))


def test_an_edit_is_made_again_by_another_mask(evaluate, data):
    assert len(evaluate("folder", data).editor.asked) == 3
    layouts.save(Image.new("L", (layouts.WIDTH, layouts.HEIGHT), 255), data / "mask.png")
    assert len(evaluate("folder", data).editor.asked) == 3
    assert evaluate("folder", data).editor.asked == []


def test_a_mask_that_the_workflow_does_not_take_is_only_measured_by(evaluate, data):
    evaluate("folder", data, titles=WITHOUT_MASK)
    layouts.save(Image.new("L", (layouts.WIDTH, layouts.HEIGHT), 255), data / "mask.png")
    assert evaluate("folder", data, titles=WITHOUT_MASK).editor.asked == []


def test_a_result_that_was_changed_is_named(evaluate, data, models):
    made = evaluate("folder", data)
    Image.new("RGB", (8, 8)).save(made.out / rows(made.out)["edit 0"]["result"])
    again = evaluate("folder", data, lambda p, s: p, "--models", models)
    assert "is not the picture that was measured" in again.report["failed"][0]["error"]


def test_a_turn_is_made_again_where_the_one_before_it_was(evaluate, tmp_path):
    data, given = layouts.magicbrush(tmp_path / "magic"), ("--turns", "multi")
    first = evaluate("magicbrush", data, darker, *given, titles=WITHOUT_MASK)
    (first.out / "results" / "139-output1.png").unlink()
    again = evaluate("magicbrush", data, lambda picture, sets: picture, *given, titles=WITHOUT_MASK)
    assert [path.name for path, _ in again.editor.asked] == ["139-input.png", "139-output1.png"]
