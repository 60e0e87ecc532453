"""CLIP's text tower gives what transformers' gives."""

import pytest
import torch

from editkit.models.editmgt import clip_text, files
from editkit.models.errors import EditError

SIZES = {
    "vocab_size": 60, "hidden_size": 32, "intermediate_size": 48, "projection_dim": 20, "num_hidden_layers": 3,
    "num_attention_heads": 4, "max_position_embeddings": 77,
}  # fmt: skip


def by_released_names(state):
    """transformers 5 dropped `text_model.` inside; files keep it."""
    return {k if k.startswith("text_") else f"text_model.{k}": v for k, v in state.items()}


@pytest.mark.parametrize("act", ["gelu", "quick_gelu"])
@pytest.mark.parametrize("eos", [2, 58])
def test_the_vector_is_that_of_transformers(act, eos):
    transformers = pytest.importorskip("transformers")
    config = transformers.CLIPTextConfig(
        **SIZES, hidden_act=act, eos_token_id=eos, bos_token_id=0, pad_token_id=1
    )
    torch.manual_seed(0)
    theirs = transformers.CLIPTextModelWithProjection(config).eval()
    with torch.no_grad():
        for weight in theirs.parameters():
            weight.normal_(std=0.4)
    ours = clip_text.ClipText(clip_text.read(config.to_dict()))
    state = {k: v for k, v in by_released_names(theirs.state_dict()).items() if clip_text.needed(k)}
    files.fit(ours, state, "memory")
    ids = torch.randint(3, 57, (2, 77), generator=torch.Generator().manual_seed(1))
    ids[0, 9:], ids[1, 30:], ids[0, 5] = 58, 58, 59  # a token of the text above the end token
    with torch.inference_mode():
        expected, found = theirs(ids, output_hidden_states=True), ours(ids)
    for one, two in ((found.pooled, expected.text_embeds), (found.states, expected.hidden_states[-2])):
        assert one.shape == two.shape
        assert torch.allclose(one, two, rtol=1e-5, atol=1e-5 * two.abs().max())


def test_where_a_prompt_ends():
    ids = torch.tensor([[0, 9, 8, 7, 58, 58], [0, 58, 1, 1, 1, 1]])
    proper = clip_text.ClipText(clip_text.read(SIZES | {"eos_token_id": 58}))
    assert proper.end(ids).tolist() == [4, 1]
    legacy = clip_text.ClipText(clip_text.read(SIZES | {"eos_token_id": 2}))
    assert legacy.end(torch.tensor([[0, 9, 59, 58]])).tolist() == [2]


def test_what_follows_the_end_does_not_matter():
    torch.manual_seed(0)
    model = clip_text.ClipText(clip_text.read(SIZES | {"eos_token_id": 58})).eval()
    ids = torch.tensor([[0, 9, 8, 58, 58, 58]])
    other = torch.tensor([[0, 9, 8, 58, 1, 30]])
    assert torch.allclose(model(ids).pooled, model(other).pooled, atol=1e-6)


def test_a_config_of_a_whole_clip():
    config = clip_text.read({"text_config": SIZES | {"projection_dim": 512}, "projection_dim": 20})
    assert (config.hidden_size, config.projection_dim) == (32, 20)


def test_the_weights_of_the_text_alone():
    names = ["text_model.embeddings.position_ids", "text_model.final_layer_norm.weight", "text_projection.weight",
             "vision_model.x", "logit_scale", "visual_projection.weight"]  # fmt: skip
    assert [n for n in names if clip_text.needed(n)] == names[1:3]


def test_an_unknown_activation_is_named():
    with pytest.raises(EditError, match="'sine'"):
        clip_text.read({"hidden_act": "sine"})


def test_the_released_size_has_the_published_names():
    sizes = {"hidden_size": 1024, "intermediate_size": 4096, "projection_dim": 1024, "num_hidden_layers": 24,
             "num_attention_heads": 16, "hidden_act": "gelu"}  # fmt: skip
    with torch.device("meta"):
        state = clip_text.ClipText(clip_text.read(sizes)).state_dict()
    assert len(state) == 2 + 24 * 16 + 2 + 1
    assert state["text_model.encoder.layers.23.self_attn.out_proj.weight"].shape == (1024, 1024)
    assert state["text_projection.weight"].shape == (1024, 1024)
