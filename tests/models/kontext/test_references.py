"""References in a conditioning: the chain, what it leaves alone, and what it refuses."""

import pytest
import torch

from editkit.models.errors import EditError
from editkit.models.kontext import references
from editkit.models.kontext.references import GUARD, KEY, NATIVE, Reference, chain, with_reference

LATENT = torch.zeros(1, 16, 4, 6)


def conditioning(**options):
    return [[torch.zeros(1, 3, 8), {"pooled_output": None, **options}]]


def test_a_reference_is_added_and_the_given_conditioning_stays():
    given = conditioning(guidance=2.5)
    made = with_reference(given, Reference(LATENT, strength=0.5))
    options = made[0][1]
    assert given[0][1].keys() == {"pooled_output", "guidance"} and options["guidance"] == 2.5
    assert len(options[NATIVE]) == len(options[KEY]) == 1 and options[KEY][0].strength == 0.5
    assert made[0][0] is given[0][0]


def test_a_chain_keeps_its_order_with_native_references_in_it():
    options = with_reference(conditioning(), Reference(LATENT, "index"))[0][1]
    options = {**options, NATIVE: [*options[NATIVE], torch.ones(1, 16, 2, 2)], references.NATIVE_METHOD: "uxo"}
    options = with_reference([[None, options]], Reference(LATENT + 2, strength=3))[0][1]
    found = chain(options)
    assert [r.placement for r in found] == ["index", "uxo", "offset"] and [r.strength for r in found] == [1, 1, 3]
    assert [float(r.latent.mean()) for r in found] == [0, 1, 2]
    assert chain({}) == [] and chain({NATIVE: [LATENT]})[0].placement == "offset"


def test_latents_that_were_exchanged_for_others_of_their_size_are_taken():
    """So a node that scales or noises references may stand behind."""
    options = with_reference(conditioning(), Reference(LATENT, strength=0.5))[0][1]
    found = chain({**options, NATIVE: [LATENT + 1]})[0]
    assert float(found.latent.mean()) == 1 and found.strength == 0.5


@pytest.mark.parametrize("latents", [[], [torch.zeros(1, 16, 4, 4)]])
def test_latents_that_are_gone_or_of_another_size_are_refused(latents):
    options = with_reference(conditioning(), Reference(LATENT))[0][1]
    with pytest.raises(EditError, match="put Kontext Reference after it"):
        chain({**options, NATIVE: latents})


def test_the_conditioning_refuses_a_model_without_apply():
    options = with_reference(conditioning(model_conds={"other": 1}), Reference(LATENT))[0][1]
    assert options["model_conds"]["other"] == 1
    with pytest.raises(EditError, match="Kontext Apply"):
        options["model_conds"][GUARD].process_cond(batch_size=1, area=None)


NAN = torch.full((1, 16, 4, 4), float("nan"))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"latent": NAN}, "256 values"), ({"latent": torch.zeros(16, 4, 4)}, r"\[16, 4, 4\]"),
        ({"latent": torch.zeros(1, 16, 1, 4, 4)}, "batch, channels"), ({"placement": "left"}, "left"),
        ({"index": -1}, "-1"), ({"strength": -0.5}, "-0.5"), ({"strength": float("nan")}, "nan"),
        ({"start": 0.7, "end": 0.2}, "0.7 to 0.2"), ({"mask": torch.zeros(1, 4, 4)}, r"\[1, 4, 4\]"),
        ({"target_mask": torch.full((4, 4), float("nan"))}, "target mask"), ({"confine": "loose"}, "loose"),
    ],
)  # fmt: skip
def test_bad_settings_are_refused_with_their_value(wrong, said):
    with pytest.raises(EditError, match=said):
        Reference(**{"latent": LATENT, **wrong})


def test_latents_of_another_vae_are_refused():
    with pytest.raises(EditError, match="4 channels and this MODEL's have 16"):
        references.check_channels([LATENT, torch.zeros(1, 4, 4, 4)], 16)
