"""EditMGT's nodes where there is no ComfyUI: a whole edit with a tiny release, and bad input."""

import json
import shutil

import pytest
import torch

import editkit
from editkit.models.editmgt.options import BIASES, TIMES
from editkit.models.errors import EditError
from editkit.nodes import editmgt as nodes
from editkit.nodes.host import editmgt, editmgt_run, folders

INSTRUCTION = "make the red cat and the small dog beside it blue"
OPTIONS = {
    "steps": 3, "cfg": 3.0, "gamma": 1.1, "bias": BIASES[0], "schedule": "model", "temperature": 2.0,
    "final_temperature": 0.0, "time": TIMES[0],
}  # fmt: skip


def call(kind, **inputs):
    return editkit.NODE_CLASS_MAPPINGS[f"EditKit{kind}"]().run(**inputs)


def photo(height=50, width=70, count=1):
    return torch.rand(count, height, width, 3, generator=torch.Generator().manual_seed(0))


def hold(threshold=0.0, mode="official", mask=None, localise=None):
    return call("EditMGTRegionHold", threshold=threshold, mode=mode, mask_threshold=0.5, mask=mask,
                localise=localise)[0]  # fmt: skip


def localise(keyword="", occurrence=1, method="adaptive", blocks="all"):
    return call("EditMGTLocalise", blocks=blocks, keyword=keyword, occurrence=occurrence, method=method, strength=1.0,
                factor=3, preserve_peaks=True)[0]  # fmt: skip


def sample(loaded, image, seed=1, instruction=INSTRUCTION, side=64, **more):
    model, clip, vae = loaded
    return call("EditMGTSample", model=model, clip=clip, vae=vae, instruction=instruction, negative="", seed=seed,
                side=side, image=image, **OPTIONS | more)  # fmt: skip


def decode(loaded, latent, image=None, square=None, changed=None, feather=2):
    return call("EditMGTDecode", vae=loaded[2], latent=latent, feather=feather, image=image, square=square,
                changed=changed)[0]  # fmt: skip


@pytest.mark.parametrize(("height", "width", "count"), [(50, 70, 1), (64, 64, 2), (130, 41, 3)])
def test_outside_the_mask_every_pixel_stays_and_inside_it_changes(loaded, height, width, count):
    image, mask = photo(height, width, count), torch.zeros(1, height, width)
    mask[:, : height // 2, : width // 2] = 1
    kept = image.clone(), mask.clone()
    latent, changed, square = sample(loaded, image, hold=hold(mask=mask))
    out = decode(loaded, latent, image, square, changed)
    assert out.shape == image.shape and changed.shape == (count, height, width)
    outside = changed == 0
    assert torch.equal(out[outside], image[outside])
    assert (out[~outside] != image[~outside]).any(-1).float().mean() > 0.5
    assert 0.6 < float(changed.mean() / mask.mean()) < 2  # whole tokens
    assert torch.equal(image, kept[0]) and torch.equal(mask, kept[1])


def test_a_held_token_is_the_pictures_own(loaded):
    image, mask = photo(64, 64), torch.zeros(1, 64, 64)
    mask[:, 16:48, 16:48] = 1
    latent, _, square = sample(loaded, image, hold=hold(mask=mask))
    own = loaded[2].tokens(square.pixels)
    held = ~square.tokens_in(mask)
    assert torch.equal(latent[editmgt.TOKENS][held], own[held]) and bool((~held).any())


def test_without_a_hold_the_whole_picture_is_new(loaded):
    image = photo()
    latent, changed, square = sample(loaded, image)
    assert bool((changed == 1).all())
    assert torch.equal(decode(loaded, latent, image, square, None), decode(loaded, latent, image, square, changed))


def test_a_threshold_that_holds_everything_gives_the_input_and_a_warning(loaded, capsys):
    image = photo()
    latent, changed, square = sample(loaded, image, hold=hold(1.01, localise=localise()))
    assert "held every token" in capsys.readouterr().err
    sample(loaded, image, hold=hold(1.01, localise=localise()))
    assert "held every token" in capsys.readouterr().err  # each time, not once
    assert torch.equal(decode(loaded, latent, image, square, changed), image)


@pytest.mark.parametrize(("told", "time"), [(None, "step"), ({"time": "ratio"}, "ratio"), ({"time": "step"}, "step")])
def test_a_step_is_told_what_it_was_told_in_training(models, tmp_path, monkeypatch, told, time):
    """`model` is what the folder's training.json says, and the released code's way without one."""
    shutil.copytree(models / "models", tmp_path / "models")
    if told is not None:
        (tmp_path / "models/editkit/editmgt/training.json").write_text(json.dumps(told))
    monkeypatch.chdir(tmp_path)
    parts = call("LoadEditMGT", release="editmgt", weight_dtype="default")
    found = {name: sample(parts, photo(), time=name, cfg=10.0)[0][editmgt.TOKENS] for name in (*TIMES, "model")}
    assert torch.equal(found["model"], found[time]) and not torch.equal(found["step"], found["ratio"])


def test_the_time_of_older_workflows_keeps_its_place():
    kinds = nodes.EditMGTSample.INPUT_TYPES()["required"]["time"]
    assert kinds[0] == ["step", "ratio", "model"] and kinds[1]["default"] == "model"


def test_a_threshold_alone_reads_the_whole_instruction(loaded):
    """The tiny model has no blocks 28 to 36: what is read by default has to be named."""
    with pytest.raises(EditError, match="28-36"):
        sample(loaded, photo(), hold=hold(0.5))
    latent, _, _ = sample(loaded, photo(), hold=hold(0.5, localise=localise()))
    assert editmgt.ATTENTION in latent


def test_the_same_seed_gives_the_same_tokens(loaded):
    first, again, other = (sample(loaded, photo(), seed)[0][editmgt.TOKENS] for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_text_to_image_needs_no_picture(loaded):
    latent, changed, square = sample(loaded, None)
    assert square is None and changed.shape == (1, 64, 64)
    assert decode(loaded, latent).shape == (1, 64, 64, 3)
    with pytest.raises(EditError, match="wire an image"):
        sample(loaded, None, hold=hold(mask=torch.ones(1, 64, 64)))


def test_the_map_shows_each_step_at_the_photographs_size(loaded):
    reading, image = localise("red cat"), photo()
    latent, _, square = sample(loaded, image, localise=reading)
    shown = {"latent": latent, "localise": reading, "final": "mean", "opacity": 0.5, "image": image, "square": square}
    final, steps, mask = call("EditMGTLocalisationMap", threshold=0.5, **shown)
    assert final.shape == image.shape and steps.shape == (3, 50, 70, 3) and mask.shape == (1, 50, 70)
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    larger = call("EditMGTLocalisationMap", threshold=0.2, **shown)[2]
    assert bool((larger >= mask).all()) and larger.mean() > mask.mean()
    other = call("EditMGTLocalisationMap", threshold=0.5, **shown | {"localise": localise(method="none")})[0]
    assert not torch.equal(final, other)


def test_another_word_has_another_map(loaded):
    found = [sample(loaded, photo(), localise=localise(word))[0][editmgt.ATTENTION][0] for word in ("cat", "dog", "")]
    assert not torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_a_keyword_that_is_not_in_the_instruction_is_said(loaded):
    with pytest.raises(EditError, match="sky"):
        sample(loaded, photo(), localise=localise("sky"))


def test_a_latent_without_attention_is_said(loaded):
    latent, _, square = sample(loaded, photo())
    with pytest.raises(EditError, match="wire EditMGT Localise"):
        call("EditMGTLocalisationMap", latent=latent, localise=localise(), threshold=0.5, final="mean", opacity=0.5)


def test_another_photograph_is_said(loaded):
    latent, changed, square = sample(loaded, photo())
    with pytest.raises(EditError, match="wire the same image"):
        decode(loaded, latent, photo(20, 30), square, changed)


def test_tokens_travel_with_their_vectors_and_no_further(loaded):
    """Ids beside vectors that somebody has changed no longer count."""
    model = editmgt.network(loaded[0])
    latent = sample(loaded, photo())[0]
    own = latent[editmgt.TOKENS]
    assert torch.equal(editmgt.tokens_of(model, latent), own)
    assert torch.equal(editmgt.tokens_of(model, {"samples": latent["samples"]}), own)
    flipped = latent | {"samples": latent["samples"].flip(-1)}
    assert torch.equal(editmgt.tokens_of(model, flipped), own.flip(-1))
    with pytest.raises(EditError, match="16 channels|4 channels|have"):
        editmgt.tokens_of(model, {"samples": torch.zeros(1, 4, 4, 4)})


def test_the_vae_encodes_to_vectors_that_decode_as_their_tokens(loaded):
    vae, image = loaded[2], photo(64, 64)
    vectors = vae.encode(image)
    model = editmgt.network(loaded[0])
    assert torch.equal(editmgt.tokens_of(model, {"samples": vectors}), vae.tokens(image.movedim(-1, 1)))
    assert vae.decode(vectors).shape == image.shape
    assert vae.encode(photo(50, 70)).shape[-2:] == (3, 4)


def test_conditionings_carry_what_the_guider_reads(loaded):
    clip = loaded[1]
    made = clip.encode_from_tokens_scheduled(clip.tokenize(INSTRUCTION))
    text, direct = editmgt_run.from_conditioning(made, "positive"), clip.encode([INSTRUCTION])
    assert torch.equal(text.states, direct.states) and torch.equal(text.pooled, direct.pooled)
    with pytest.raises(EditError, match="positive"):
        editmgt_run.from_conditioning([[torch.zeros(1, 77, 8), {}]], "positive")


def test_without_comfyui_the_guider_says_what_to_use(loaded):
    with pytest.raises(EditError, match="use EditMGT Sample"):
        call("EditMGTGuider", model=loaded[0], positive=None, **OPTIONS)


@pytest.mark.parametrize("side", [16, 100])
def test_a_side_that_does_not_fit_is_said(loaded, side):
    with pytest.raises(EditError, match=str(side)):
        sample(loaded, photo(), side=side)


def test_another_systems_model_is_said(loaded):
    with pytest.raises(EditError, match="Load EditMGT"):
        sample((torch.nn.Linear(1, 1), *loaded[1:]), photo())


def test_a_missing_release_is_named_with_where_it_belongs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = nodes.LoadEditMGT.VALIDATE_INPUTS("mine")
    assert "'mine'" in said and "editkit" in said


def test_an_incomplete_release_says_what_is_missing(models, tmp_path, monkeypatch):
    shutil.copytree(models / "models", tmp_path / "models")
    shutil.rmtree(tmp_path / "models/editkit/editmgt/vqvae")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EditError, match="lacks vqvae/config.json; download"):
        call("LoadEditMGT", release="editmgt", weight_dtype="default")


def test_feather_blends_inward(loaded):
    image, mask = photo(64, 64), torch.zeros(1, 64, 64)
    mask[:, :, 32:] = 1
    latent, changed, square = sample(loaded, image, hold=hold(mask=mask))
    hard, soft = (decode(loaded, latent, image, square, changed, feather) for feather in (0, 8))
    assert torch.equal(soft[:, :, :32], image[:, :, :32])
    assert (soft[:, :, 33] - image[:, :, 33]).abs().mean() < (hard[:, :, 33] - image[:, :, 33]).abs().mean()
    assert torch.equal(soft[:, :, 48:], hard[:, :, 48:])


def test_its_parts_are_not_offered_as_blazeedits(models, monkeypatch):
    monkeypatch.chdir(models)
    assert list(folders.model_folders()) == []
    assert list(folders.editmgt_folders()) == ["editmgt"]
