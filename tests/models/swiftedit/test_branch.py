"""The image branch on its own."""

import torch

from editkit.models.swiftedit.branch import ImageBranch
from editkit.tests.tiny_swiftedit import CONTEXT, EMBEDDING, tiny_projection


def test_an_embedding_becomes_four_normalised_tokens():
    tokens = tiny_projection()(torch.randn(3, EMBEDDING, generator=torch.Generator().manual_seed(0)))
    assert tokens.shape == (3, 4, CONTEXT)
    torch.testing.assert_close(tokens.mean(-1), torch.zeros(3, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(tokens.std(-1, correction=0), torch.ones(3, 4), atol=1e-3, rtol=0)


def test_a_token_is_a_quarter_of_the_linear_map():
    projection = tiny_projection()
    embedding = torch.randn(1, EMBEDDING, generator=torch.Generator().manual_seed(0))
    second = projection.norm(projection.proj(embedding)[:, CONTEXT : 2 * CONTEXT])
    torch.testing.assert_close(projection(embedding)[:, 1], second)


def test_every_layer_gets_keys_and_values_of_its_width():
    torch.manual_seed(0)
    image = ImageBranch({"down.attn2": 8, "mid.attn2": 16}, EMBEDDING, CONTEXT)
    embedding = torch.randn(2, EMBEDDING)
    found = image(embedding)
    assert {k: [tuple(v.shape) for v in pair] for k, pair in found.items()} == {
        "down.attn2": [(2, 4, 8)] * 2,
        "mid.attn2": [(2, 4, 16)] * 2,
    }
    tokens = image.projection(embedding)
    torch.testing.assert_close(found["mid.attn2"][1], image.layers[1].to_v_ip(tokens))
