"""Bad input to EditMGT's nodes: one sentence says what was found, what was expected, and what to do."""

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from editkit.models.errors import EditError
from editkit.nodes.host import editmgt, editmgt_run
from editkit.tests.nodes.test_editmgt import call, decode, hold, localise, photo, sample
from editkit.tests.tiny_editmgt_release import write_gemma

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def release(models, tmp_path, monkeypatch):
    """A release of one's own to spoil."""
    shutil.copytree(models / "models", tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "models/editkit/editmgt"


def refused(run):
    with pytest.raises(EditError) as error:
        run()
    said = str(error.value)
    assert "\n" not in said and said.endswith(".") and len(said) < 500, said
    return said


def load():
    return call("LoadEditMGT", release="editmgt", weight_dtype="default")


def truncated(path):
    path.write_bytes(path.read_bytes()[:-9])


def changed_config(path, **more):
    path.write_text(json.dumps(json.loads(path.read_text()) | more))


def without(path, name):
    save_file({k: v for k, v in load_file(path).items() if k != name}, path)


def right_padding(release):
    shutil.rmtree(release / "llm_encoder")
    write_gemma(release / "llm_encoder", padding_side="right")


SPOILT = {  # what is done to the folder; what was found; what to do
    "no transformer": (lambda r: shutil.rmtree(r / "editmgt"), "holds nothing of EditMGT; it should hold", "offers"),
    "no CLIP": (lambda r: shutil.rmtree(r / "text_encoder"), "lacks text_encoder/config.json", "download the whole"),
    "no tokenizer": (lambda r: shutil.rmtree(r / "tokenizer"), "lacks tokenizer/tokenizer.json", "download the whole"),
    "no Gemma": (lambda r: shutil.rmtree(r / "llm_encoder"),
                 "lacks llm_encoder/config.json, llm_encoder/tokenizer.json", "download the whole"),
    "no weights": (lambda r: (r / "vqvae" / WEIGHTS).unlink(), "vqvae lacks its weights", "put its .safetensors there"),
    "a shard too few": (lambda r: (r / "editmgt" / WEIGHTS).rename(
        r / "editmgt/diffusion_pytorch_model-00001-of-00002.safetensors"),
        "lacks diffusion_pytorch_model-00002-of-00002.safetensors, one of its 2", "download it again"),
    "another transformer": (lambda r: changed_config(r / "editmgt/config.json", num_attention_heads=4),
                            "32, and config.json says 72 of 64", "do not belong together"),
    "a tensor too few": (lambda r: without(r / "editmgt" / WEIGHTS, "context_embedder.bias"),
                         "1 tensors missing, 0 unknown, 0 of another shape, first 'context_embedder.bias'",
                         "use the files that were published together"),
    "another Gemma": (lambda r: changed_config(r / "llm_encoder/config.json", hidden_size=40),
                      "reads text states 24 wide, and those of .* are 40 wide", "published together"),
    "another scheduler": (lambda r: changed_config(r / "scheduler/scheduler_config.json", mask_token_id=8255),
                          "mask token is 8255, and the transformer's 71", "published together"),
    "right padding": (right_padding, "llm_encoder pads on the right, and EditMGT's on the left",
                      'set "padding_side": "left" in its tokenizer_config.json'),
    "a broken tokenizer": (lambda r: (r / "llm_encoder/tokenizer.json").write_text("{"),
                           "tokenizer in .*llm_encoder cannot be read", "download it again"),
    "a broken config": (lambda r: (r / "vqvae/config.json").write_text("{"), "vqvae.config.json is not readable JSON",
                        "download it again"),
    "a truncated transformer": (lambda r: truncated(r / "editmgt" / WEIGHTS), "is truncated or not safetensors",
                                "download it again"),
    "a truncated VQ": (lambda r: truncated(r / "vqvae" / WEIGHTS), "is truncated or not safetensors",
                       "download it again"),
    "a truncated Gemma": (lambda r: truncated(r / "llm_encoder/model.safetensors"), "is truncated or not safetensors",
                          "download it again"),
    "a truncated CLIP": (lambda r: truncated(r / "text_encoder/model.safetensors"), "is truncated or not safetensors",
                         "download it again"),
    "weights as .bin": (lambda r: (r / "vqvae" / WEIGHTS).rename(r / "vqvae/diffusion_pytorch_model.bin"),
                        "holds its weights as .bin", "save them as .safetensors"),
    "a strange training note": (lambda r: (r / "training.json").write_text('{"time": "clock"}'),
                                "steps were told 'clock'", "known are step, ratio"),
}  # fmt: skip


@pytest.mark.parametrize("what", SPOILT)
def test_a_wrong_incomplete_or_damaged_release(release, what):
    spoil, found, advice = SPOILT[what]
    spoil(release)
    said = refused(load)
    assert re.search(found, said), said
    assert advice in said, said


def test_masks_of_any_size_fit_and_those_of_another_number_do_not(loaded):
    """A mask follows its picture; as many masks as pictures, or one."""
    latent, changed, _ = sample(loaded, photo(50, 70), hold=hold(mask=torch.ones(1, 10, 14)))
    assert changed.shape == (1, 50, 70)
    said = refused(lambda: sample(loaded, photo(count=3), hold=hold(mask=torch.ones(2, 50, 70))))
    assert "2" in said and "3" in said
    said = refused(lambda: sample(loaded, photo(64, 64), hold=hold(mask=torch.zeros(1, 50, 50))))
    assert "mask is empty at the token grid; paint a larger region" in said


def test_tokens_of_another_size_than_the_mask_or_the_reference(loaded):
    """What only wirings of single parts can do: the sentence has both sizes."""
    net, clip = editmgt.network(loaded[0]), loaded[1]
    text = clip.encode(["make the red cat blue"])
    reference = torch.zeros(1, 4, 4, dtype=torch.long)
    options = editmgt_run.Options(steps=1)
    for more, words in (({"reference": reference[:, :2]}, "reference has (1, 2, 4) tokens and (1, 4, 4) are sampled"),
                        ({"reference": reference, "mask": torch.ones(1, 8, 8, dtype=torch.bool)},
                         "mask has (1, 8, 8) tokens and (1, 4, 4) are sampled")):  # fmt: skip
        said = refused(lambda: editmgt_run.run(net, text, None, (4, 4), options, seed=0, **more))  # noqa: B023
        assert words in said and "bring them to one size" in said


@pytest.mark.parametrize("mode", ["official", "strict"])
def test_a_threshold_above_everything_gives_the_input_and_says_so(loaded, capsys, mode):
    image = photo()
    latent, changed, square = sample(loaded, image, hold=hold(1.01, mode, localise=localise()))
    said = capsys.readouterr().err
    assert "held every token: the result is the input. Lower λ, or paint a larger mask." in said
    assert not bool(changed.any()) and torch.equal(decode(loaded, latent, image, square, changed), image)
    assert torch.equal(latent[editmgt.TOKENS], loaded[2].tokens(square.pixels))


@pytest.mark.parametrize(("word", "times", "found", "advice"), [
    ("sky", 1, "'sky' is not in the instruction 'make the red cat", "choose one of its words"),
    ("ca", 1, "'ca' is not in the instruction", "choose one of its words"),
    ("the", 3, "'the' is in the instruction 2 times, so there is no occurrence 3", "choose 0 for all, or up to 2"),
])  # fmt: skip
def test_a_keyword_that_is_not_in_the_instruction(loaded, word, times, found, advice):
    for wired in ({"localise": localise(word, times)}, {"hold": hold(0.5, localise=localise(word, times))}):
        said = refused(lambda: sample(loaded, photo(), **wired))  # noqa: B023
        assert found in said and advice in said


def test_a_keyword_beyond_what_is_read(loaded):
    long = "make the cat blue " * 100 + "sky"
    said = refused(lambda: sample(loaded, photo(), instruction=long, localise=localise("sky")))
    assert "'sky' lies beyond the 256 tokens that the model reads; shorten the instruction" in said


def test_another_vaes_latent(loaded):
    said = refused(lambda: editmgt.tokens_of(editmgt.network(loaded[0]), {"samples": torch.zeros(1, 4, 8, 8)}))
    assert "[1, 4, 8, 8] and EditMGT's have 8 channels; encode the picture with the VAE of Load EditMGT" in said
