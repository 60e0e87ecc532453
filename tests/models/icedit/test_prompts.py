"""The prompts: the words that the LoRAs were trained on to the letter, and the forms of Fig. 3."""

import pytest

from editkit.models.errors import EditError
from editkit.models.icedit.prompts import PRESETS, prompt

START = "A diptych with two side-by-side images of the same scene. On the right, the scene is"


def test_the_training_string_is_the_released_one_to_the_letter():
    expected = f"{START} exactly the same as on the left but make the sky a sunset"
    assert prompt("icedit", " make the sky a sunset ") == expected


def test_the_in_context_prompt_is_the_papers_with_one_full_stop():
    expected = f"{START} identical to the left but it snows."
    assert prompt("training-free", "it snows") == prompt("training-free", "it snows.") == expected


def test_the_other_forms_of_figure_3():
    assert prompt("direct", "add a hat") == "add a hat"
    made = prompt("descriptions", "a cat with a hat", "a cat")
    assert made == "On the left a cat. On the right a cat with a hat."


def test_braces_in_an_instruction_are_only_braces():
    assert prompt("icedit", "write {instruction} on it").endswith("but write {instruction} on it")


@pytest.mark.parametrize("preset", PRESETS)
def test_an_empty_instruction_is_refused(preset):
    with pytest.raises(EditError, match="The instruction is empty"):
        prompt(preset, " \n", "a cat")


def test_descriptions_need_both_texts():
    with pytest.raises(EditError, match="needs both texts"):
        prompt("descriptions", "a dog", "")


def test_another_preset_is_refused():
    with pytest.raises(EditError, match="no prompt preset 'best'"):
        prompt("best", "x")
