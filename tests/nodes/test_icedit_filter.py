"""ICEdit's filter where there is no ComfyUI: what it says, and the judges' own checks before anything is sampled."""

import pytest
import torch

from editkit import NODE_CLASS_MAPPINGS as NODES
from editkit.models.errors import EditError
from editkit.nodes.icedit_filter import JUDGE

LATENT = {"samples": torch.zeros(1, 16, 8, 16)}
IMAGE = torch.zeros(1, 64, 64, 3)


def pick(number):
    return NODES["EditKitICEditJudgePick"]().run(pick=number)[0]


def test_without_comfyui_the_filter_says_what_it_needs():
    inputs = {"guider": None, "sampler": None, "early_sigmas": torch.tensor([1.0, 0.0]), "sigmas": None, "vae": None,
              "image": IMAGE, "instruction": "x", "seed": 0, "candidates": 2, "at_once": 0}  # fmt: skip
    with pytest.raises(EditError, match="samples through ComfyUI and needs it"):
        NODES["EditKitICEditEarlyFilter"]().run(latent=LATENT, judge=pick(1), **inputs)


def test_every_judge_goes_into_the_filter_and_the_score():
    judges = {name for name, cls in NODES.items() if JUDGE in cls.RETURN_TYPES}
    assert judges == {f"EditKitICEditJudge{kind}" for kind in ("Pick", "Endpoint", "Local", "CLIP")}
    for name in ("EditKitICEditEarlyFilter", "EditKitICEditVIEScore"):
        assert NODES[name].INPUT_TYPES()["required"]["judge"][0] == JUDGE


def test_a_person_is_asked_for_a_number_that_there_is():
    pick(0).check("", 4)
    pick(4).check("", 4)
    with pytest.raises(EditError, match="Candidate 5 is picked and there are 4"):
        pick(5).check("", 4)


def test_a_score_needs_as_many_pictures_and_an_instruction():
    judge = NODES["EditKitICEditJudgeEndpoint"]().run(
        url="http://127.0.0.1:1/v1", model="m", key_variable="", timeout=0.5, retries=0, swap_order=False,
        image_format="png", image_side=64, max_tokens=0, temperature=0.0,
    )[0]  # fmt: skip
    score = NODES["EditKitICEditVIEScore"]().run
    with pytest.raises(EditError, match="instruction is empty"):
        score(judge=judge, image=IMAGE, edited=IMAGE, instruction="  ", threshold=0)
    two, three = (IMAGE.repeat(count, 1, 1, 1) for count in (2, 3))
    with pytest.raises(EditError, match="do not fit"):
        score(judge=judge, image=two, edited=three, instruction="x", threshold=0)
