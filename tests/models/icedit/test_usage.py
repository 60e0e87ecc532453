"""The record of chosen experts: it belongs to a latent, and becomes a picture."""

import pytest
import torch

from editkit.models.errors import EditError
from editkit.models.icedit import usage
from editkit.models.icedit.usage import PALETTE, RUNS, Recorder, Run, Step


def run(sigmas=(1.0, 0.5), layers=("a", "b")):
    """Two rows of 2 x 3 tokens; layer b has four tokens of text before them."""
    steps = []
    for number, sigma in enumerate(sigmas):
        chosen = torch.arange(6).expand(2, -1) % (2 + number)
        text = torch.full((2, 4), 7)
        found = {"a": chosen, "b": torch.cat([text, chosen], 1)}
        steps.append(Step(sigma, (2, 3), {name: one.to(torch.uint8) for name, one in found.items()}))
    return Run({name: 4 for name in layers}, steps)


def test_the_texts_tokens_are_left_out():
    step = run().steps[0]
    assert torch.equal(step.choices("a"), step.choices("b"))
    assert step.choices("b")[0].tolist() == [[0, 1, 0], [1, 0, 1]]


def test_a_run_is_found_by_its_latent_and_the_oldest_is_forgotten():
    recorder, latents = Recorder(), [torch.full((1, 16, 4, 6), float(i)) for i in range(RUNS + 1)]
    kept = [run() for _ in latents]
    for latent, one in zip(latents, kept, strict=True):
        recorder.keep(latent, one)
    assert recorder.of(latents[-1].clone()) is kept[-1] and recorder.of(latents[1].double()) is kept[1]
    with pytest.raises(EditError, match="none of the last"):
        recorder.of(latents[0])


def test_a_run_without_steps_counts_as_none():
    recorder = Recorder()
    recorder.keep(torch.zeros(1), Run({}))
    with pytest.raises(EditError, match="none of the last"):
        recorder.of(torch.zeros(1))


def test_each_expert_has_a_colour_and_each_token_sixteen_pixels():
    made = usage.picture(run().steps[0].choices("a"))
    assert made.shape == (2, 3, 32, 48)
    for row, column, expert in ((0, 0, 0), (0, 1, 1), (1, 2, 1)):
        assert made[0, :, 16 * row + 7, 16 * column + 9].tolist() == pytest.approx(PALETTE[expert])


def test_over_a_picture_the_colours_have_the_opacity():
    image, choices = torch.rand(1, 3, 64, 96), run().steps[0].choices("a")
    assert torch.allclose(usage.picture(choices, image, 0.0), image.expand(2, -1, -1, -1))
    full = usage.picture(choices, image, 1.0)
    assert full.shape == (2, 3, 64, 96) and len(full[0].flatten(1).unique(dim=1).T) == 2


def test_the_film_has_a_picture_per_step_and_shares_are_told():
    one = run((1.0, 0.6, 0.2))
    assert usage.film(one, "b").shape == (3, 3, 32, 48)
    said = usage.told("a", one.steps[1], one.steps[1].choices("a"), 4)
    assert said == "a at noise level 0.6000: expert 0: 33.3 %, expert 1: 33.3 %, expert 2: 33.3 %, expert 3: 0.0 %"


def test_layers_and_steps_beyond_the_ends_are_refused():
    one = run()
    assert usage.layer_of(one, 1) == "b" and usage.step_of(one, -1) is one.steps[1]
    with pytest.raises(EditError, match="no routed layer 2; this LoRA's are 0 to 1"):
        usage.layer_of(one, 2)
    with pytest.raises(EditError, match="no step -3"):
        usage.step_of(one, -3)
