"""The VQ tokenizer: the recorded numbers, and ids and vectors that say the same."""

import pytest
import torch
from safetensors.torch import load_file

from editkit.models.editmgt import checkpoint, files, vq
from editkit.models.errors import EditError


@pytest.fixture(scope="module")
def folder(root):
    return root / "tests" / "fixtures" / "editmgt_vq"


@pytest.fixture
def model(folder):
    weights = load_file(folder / "weights.safetensors")
    return checkpoint.build_vq(files.read_json(folder / "config.json"), weights, folder)


@pytest.fixture(scope="module")
def recorded(folder):
    return load_file(folder / "io.safetensors")


def test_the_recorded_numbers(model, recorded):
    assert torch.allclose(model.latents(recorded["image"]), recorded["latents"], atol=1e-4)
    ids = model.encode(recorded["image"])
    assert ids.shape == (1, 4, 4) and ids.dtype == torch.int64
    assert torch.equal(ids.flatten(1), recorded["indices"].long())
    assert torch.allclose(model.raw(model.vectors(ids)), recorded["decoded"], atol=1e-4)
    assert torch.equal(model.decode(ids), model.raw(model.vectors(ids)).clamp(0, 1))
    assert model.scale == 16


def test_ids_and_vectors_say_the_same(model):
    ids = torch.arange(64).view(1, 8, 8).repeat(2, 1, 1)
    vectors = model.vectors(ids)
    assert vectors.shape == (2, 8, 8, 8)
    assert torch.equal(model.ids(vectors), ids)
    assert torch.equal(model.ids(vectors + 1e-4 * torch.randn(vectors.shape)), ids)


def test_codes_hard_to_tell_apart_are_told_apart():
    """Distances by a matrix product would lose codes this near to each other."""
    from editkit.tests.tiny_editmgt_release import VQ

    model = vq.VQ(vq.build(VQ | {"num_vq_embeddings": 4096, "latent_channels": 64}).to_empty(device="cpu"))
    codes = 100 + 1e-3 * torch.randn(4096, 64, generator=torch.Generator().manual_seed(0))
    model.model.quantize.embedding.weight = torch.nn.Parameter(codes)
    ids = torch.arange(4096).view(1, 64, 64)
    assert torch.equal(model.ids(model.vectors(ids)), ids)


def test_what_is_no_code_counts_as_the_first(model):
    ids = torch.tensor([[[64, 8255, -1, 3]]])
    assert torch.equal(model.vectors(ids), model.vectors(torch.tensor([[[0, 0, 0, 3]]])))


def test_other_sizes_and_batches(model):
    images = torch.rand(2, 3, 48, 32, generator=torch.Generator().manual_seed(0))
    ids = model.encode(images)
    assert ids.shape == (2, 3, 2)
    assert torch.equal(ids[1:], model.encode(images[1:]))
    picture = model.decode(ids)
    assert picture.shape == images.shape and picture.min() >= 0 and picture.max() <= 1


def test_encoding_stays_in_float32(model, recorded):
    ids = model.encode(recorded["image"])
    model.model.decoder.bfloat16()
    model.model.post_quant_conv.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model.latents(recorded["image"].half()).dtype == torch.float32
        assert torch.equal(model.encode(recorded["image"]), ids)
    assert model.decode(ids).dtype == torch.float32
    assert model.bfloat16().latents(recorded["image"]).dtype == torch.float32


def test_a_size_that_does_not_divide_is_refused(model):
    with pytest.raises(EditError, match="40x32 does not divide into tokens of 16 pixels"):
        model.encode(torch.zeros(1, 3, 32, 40))


def test_another_vaes_latent_is_refused(model):
    with pytest.raises(EditError, match="EditMGT's have 8 channels"):
        model.ids(torch.zeros(1, 4, 8, 8))


def test_a_config_of_something_else_is_refused():
    with pytest.raises(EditError, match="not a VQModel's"):
        vq.build({"block_out_channels": [8], "down_block_types": ["NoSuchBlock"]})


def test_the_released_size_has_277_tensors():
    released = {
        "block_out_channels": [128, 256, 256, 512, 768], "down_block_types": ["DownEncoderBlock2D"] * 5,
        "up_block_types": ["UpDecoderBlock2D"] * 5, "latent_channels": 64, "layers_per_block": 2,
        "mid_block_add_attention": False, "num_vq_embeddings": 8192, "lookup_from_codebook": True,
    }  # fmt: skip
    state = vq.build(released).state_dict()
    assert len(state) == 277
    assert state["quantize.embedding.weight"].shape == (8192, 64)
