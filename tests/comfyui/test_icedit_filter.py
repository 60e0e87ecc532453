"""ICEdit's early filter on a real ComfyUI with the tiny FLUX.1 Fill, against the core's own runs of each seed."""


import pytest
import torch
from safetensors.torch import save_file

from editkit.tests.comfyui.test_icedit import recorded

ROUNDING = 5e-6


@pytest.fixture(scope="module")
def run(run_inside, root):
    """run(folder, place): what the checks found inside of ComfyUI's Python."""

    def checks(folder, place="") -> dict:
        (folder / "models" / "editkit").mkdir(parents=True)
        save_file({"none": torch.zeros(1)}, folder / "cases.safetensors")
        return run_inside("icedit_filter.py", folder, recorded(root), place=place)

    return checks


@pytest.fixture(scope="module")
def results(run, tmp_path_factory):
    return run(tmp_path_factory.mktemp("filter"))


@pytest.fixture
def found(results):
    """found(name): what a check gave; a crash fails the test with its traceback."""

    def get(name):
        made = results[name]
        assert "crashed" not in made, made["crashed"]
        return made

    return get


IN_A_BATCH = {"batch", "heun", "masked", "several_masks", "flat_mask", "empty", "indexed", "cfg", "last_seeds"}


def test_every_candidate_is_the_run_of_its_own_seed(found):
    made = found("equal_to_runs_of_their_own")
    for name, one in made.items():
        assert one["away"] < ROUNDING < 0.1 < one["differ"], (name, one)
    assert {name for name, one in made.items() if one["rows"][0] > 2 - (name == "last_seeds")} == IN_A_BATCH
    for name in ("one_by_one", "ancestral", "two_prompts", "two_pictures"):  # a batch would make them others
        assert set(made[name]["rows"]) == {1} and made[name]["away"] == 0
    assert made["two_at_once"]["rows"] == [2, 2, 2, 1, 1, 1]


def test_the_noise_is_that_of_random_noise_bit_by_bit(found):
    made = found("noise")
    assert made["rows"] == [True, True] and made["winner"]


def test_the_best_candidate_wins_and_the_judge_sees_the_edit_at_the_pictures_size(found):
    made = found("who_wins")
    assert len({made[c]["best"] for c in "012"}) > 1  # else any winner would do
    for one in (made[c] for c in "012"):
        assert one["seed"] == one["best"]
        assert one["asked"] == [[[3, 70, 90]] * 3] * 3 and one["shape"] == [4, 70, 90, 3]
        assert one["shown"] < 1e-4 and one["latent"] < ROUNDING
        assert one["nfe"] == 7 + 4 * 3 and "NFE = n + M · m = 7 + 4 · 3 = 19" in one["report"]
        assert one["sheet"][2] > 4 * 90
    assert made["plain"] == [4, 48, 128, 3]  # without the record: the diptych as it is decoded


def test_the_full_run_begins_as_its_candidate_where_the_schedules_agree(found):
    made = found("restart")
    assert max(made["predictions"]) < ROUNDING < 0.1 < made["moved"]
    assert made["calls"] == [3, 7] and made["nfe"] == 19
    assert made["carried_on"] < ROUNDING  # the winner's latent and the rest of the schedule give the full run
    assert made["shown"] < 1e-5  # what is not finished is shown as it was predicted


def test_a_pick_by_hand_first_shows_and_then_samples_nothing_again(found):
    made = found("by_hand")
    assert made["blocked"] == [True] * 3 and made["shape"] == [4, 70, 90, 3]
    assert "none picked yet" in made["report"] and made["picked"] == 102 and made["judged"]
    assert made["calls"] == [3, 3, 6, 9]  # another pick and judge: none; other seeds, another guider: a run each
    assert made["same"] == 0 and made["other"] > 0.01 and made["fresh"] == 0


def test_a_judge_that_fails_leaves_the_leader_and_says_so(found):
    made = found("failing_judge")
    assert made["seeds"] == [100, 101, 101] and made["images"] == [4, 70, 90, 3]
    assert "1 against 2: It is gone. 1 stays." in made["reports"][0]
    assert "2 against 3: It is gone. 2 stays." in made["reports"][1]
    assert len(made["warned"]) == 2 and all("left it open in 1 comparison" in w for w in made["warned"])


def test_candidates_are_as_many_side_by_side_as_memory_allows(found):
    made = found("memory")
    assert made["tried"] == [5, 2, 2, 1] and made["same"] < ROUNDING
    assert made["two"] == [2] * 6 and made["none"] == [1] * 12
    assert made["two_forced"] == made["none_forced"] == [4] * 3
    assert made["full"].startswith("OutOfMemoryError")


def test_progress_reaches_its_end_in_sampling_and_in_judging(found):
    told = found("progress_and_interrupt")["told"]
    assert told == [[3, 12], [6, 12], [9, 12], [10, 12], [11, 12], [12, 12], [1, 3], [2, 3], [3, 3]]


def test_an_interrupt_ends_sampling_and_the_waiting_for_a_judge(found):
    made, waiting = found("progress_and_interrupt"), found("interrupted_judge")
    assert made["stopped"] == "InterruptProcessingException" and 2 <= made["calls"] < 100 and made["later"] == 4
    assert waiting["ended"] == "interrupted" and waiting["took"] < 4
    assert waiting["sampled_again"] == 0


def test_a_graph_without_the_filter_is_untouched(found):
    assert set(found("untouched").values()) == {True}


def test_bad_input_is_said_in_one_sentence_before_anything_is_sampled(found):
    made = found("bad_input")
    said = {"latents": "holds 2 pictures", "pictures": "2 pictures to edit", "steps": "hold no step",
            "instruction": "instruction is empty", "pick": "Candidate 5 is picked and there are 4"}  # fmt: skip
    assert all(part in made[name] and made[name].count(". ") == 0 for name, part in said.items())
    assert made["sampled"] == 0


def test_models_of_a_folder_judge_in_comfyuis_memory_management(found):
    made = found("models_as_judges")
    assert made["said"] == made["expected"] != made["other"]
    assert "qwen, 2 questions" in made["report"] and "no decision, 1 stays" in made["report"]
    assert "CLIP score of clip" in made["clip"] and made["clip"].count(": CLIP ") == 3 + 1
    assert sorted(made["held"]) == ["CLIPModel", "Qwen2_5_VLForConditionalGeneration"]


def test_on_another_device_nothing_is_mixed_and_the_results_are_the_same(run, tmp_path, found):
    placed = run(tmp_path, "gpu")
    assert {name: one for name, one in placed.items() if "crashed" in one} == {}
    assert [placed["who_wins"][c]["seed"] for c in "012"] == [found("who_wins")[c]["seed"] for c in "012"]
    assert max(placed["restart"]["predictions"]) < ROUNDING and placed["restart"]["carried_on"] < ROUNDING
    assert placed["models_as_judges"]["said"] == found("models_as_judges")["said"]
