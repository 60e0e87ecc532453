"""EditMGT's release is found, read and refused; its names are the published ones."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from editkit.models.editmgt import checkpoint, prompts
from editkit.models.editmgt.config import MGTConfig
from editkit.models.editmgt.transformer import EditMGT
from editkit.models.errors import EditError
from editkit.tests.tiny_editmgt_release import MASK, TRANSFORMER, write_gemma, write_release

pytest.importorskip("transformers")
FILE = "diffusion_pytorch_model.safetensors"
# what the released file has, by its documentation: number of tensors and some shapes
RELEASED = {
    "time_text_embed.timestep_embedder.linear_1.weight": (1024, 256), "context_embedder.bias": (1024,),
    "transformer_blocks.13.norm1_context.linear.weight": (6144, 1024),
    "transformer_blocks.0.attn.to_out.0.weight": (1024, 1024), "transformer_blocks.0.attn.norm_added_k.weight": (128,),
    "transformer_blocks.0.ff.net.0.proj.weight": (4096, 1024), "transformer_blocks.0.ff_context.net.2.bias": (1024,),
    "single_transformer_blocks.27.norm.linear.weight": (3072, 1024),
    "single_transformer_blocks.0.proj_out.weight": (1024, 5120), "embed.embeddings.weight": (8256, 1024),
    "embed.conv.weight": (1024, 1024, 1, 1), "down_block.downsample.conv.weight": (1024, 1024, 2, 2),
    "up_block.upsample.norm.weight": (1024,), "cond_embed.linear_1.weight": (1024, 2304),
    "mlm_layer.conv2.weight": (8192, 1024, 1, 1), "connector.projector.weight": (1024, 2304),
    "encoder_proj_layer_norm.weight": (1024,), "project_from_hidden.weight": (1024, 1024),
}  # fmt: skip


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    return write_release(tmp_path_factory.mktemp("published") / "EditMGT")


@pytest.fixture
def release(published, tmp_path):
    return shutil.copytree(published, tmp_path / "EditMGT")


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    return write_release(tmp_path_factory.mktemp("base") / "Meissonic", meissonic=True)


def test_the_released_size_has_869_tensors():
    with torch.device("meta"):
        state = EditMGT(MGTConfig()).state_dict()
    assert len(state) == 869
    assert {name: tuple(state[name].shape) for name in RELEASED} == RELEASED
    assert 1.009e9 < sum(v.numel() for v in state.values()) < 1.010e9


def test_every_part_is_found_and_read(release):
    parts = checkpoint.find(release)
    assert parts.transformer == release / "editmgt" and parts.llm_encoder == release / "llm_encoder"
    assert checkpoint.settings(parts) == checkpoint.Settings(MASK, "cosine")
    assert checkpoint.load_transformer(parts).config == TRANSFORMER
    text = ["make the cat blue"]
    ids = prompts.gemma_ids(prompts.load_gemma(parts.llm_encoder), text)
    with torch.inference_mode():
        states = checkpoint.load_gemma(parts)(ids)
        pooled = checkpoint.load_clip(parts)(prompts.clip_ids(prompts.load(parts.tokenizer), text)).pooled
        assert states.shape == (1, 256, 24) and pooled.shape == (1, 16)
        vq, model = checkpoint.load_vq(parts), checkpoint.load_transformer(parts)
        tokens = vq.encode(torch.rand(1, 3, 64, 64))
        logits = model(torch.full_like(tokens, MASK), model.prompt(states, pooled, tokens), torch.zeros(1))
        assert logits.shape == (1, 64, 4, 4) and logits.isfinite().all()


def test_the_released_weights_of_gemma_are_read_but_for_the_last_layer(release):
    parts = checkpoint.find(release)
    stored = load_file(parts.llm_encoder / "model.safetensors")
    state = checkpoint.load_gemma(parts).state_dict()
    assert all(torch.equal(stored[f"model.{k}"], v) for k, v in state.items())
    assert {k for k in stored if k.removeprefix("model.") not in state and "layers.2." not in k} == {
        "model.norm.weight"
    }


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod.", "_orig_mod.module."])
def test_prefixes_of_training_are_dropped(release, prefix):
    path = release / "editmgt" / FILE
    plain = load_file(path)
    save_file({prefix + k: v.clone() for k, v in plain.items()}, path)
    state = checkpoint.load_transformer(checkpoint.find(release)).state_dict()
    assert all(torch.equal(state[k], v) for k, v in plain.items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_any_precision_under_any_name(release, dtype):
    path = release / "editmgt" / FILE
    state = {k: v.to(dtype) for k, v in load_file(path).items()}
    path.unlink()
    save_file(state, release / "editmgt" / "diffusion_pytorch_model.fp16.safetensors")
    parts = checkpoint.find(release)
    assert checkpoint.load_transformer(parts).embed.embeddings.weight.dtype == dtype
    assert checkpoint.load_transformer(parts, torch.float32).embed.embeddings.weight.dtype == torch.float32


def test_the_vq_tokenizer_is_always_float32(release):
    path = release / "vqvae" / FILE
    save_file({k: v.half() for k, v in load_file(path).items()}, path)
    assert checkpoint.load_vq(checkpoint.find(release)).codebook.dtype == torch.float32


def test_own_operations_are_used(release):
    class Linear(torch.nn.Linear):
        pass

    operations = type("Operations", (), {n: getattr(torch.nn, n) for n in (
        "Embedding", "LayerNorm", "Conv2d", "ConvTranspose2d")} | {"Linear": Linear})  # fmt: skip
    parts = checkpoint.find(release)
    for load in (checkpoint.load_transformer, checkpoint.load_gemma, checkpoint.load_clip):
        model = load(parts, operations=operations)
        assert {type(m) for m in model.modules() if isinstance(m, torch.nn.Linear)} == {Linear}


def test_the_folder_above_serves_too(release):
    assert checkpoint.find(release.parent).folder == release
    deeper = release.parent / "snapshots" / "0a00f14"
    deeper.parent.mkdir()
    release.rename(deeper)
    assert checkpoint.find(deeper.parent.parent).folder == deeper


def test_base_meissonic(base):
    parts = checkpoint.find(base)
    assert parts.transformer.name == "transformer" and parts.llm_encoder is None
    model = checkpoint.load_transformer(parts)
    assert model.connector is None
    encoded = checkpoint.load_clip(parts)(prompts.clip_ids(prompts.load(parts.tokenizer), ["a cat"]))
    assert encoded.states.shape == (1, 77, 32)
    logits = model(torch.full((1, 4, 4), MASK), model.prompt(encoded.states, encoded.pooled), torch.zeros(1))
    assert logits.shape == (1, 64, 4, 4)
    with pytest.raises(EditError, match="base Meissonic's, which has no language model"):
        checkpoint.load_gemma(parts)


def test_what_is_missing_is_named_with_its_place(release):
    shutil.rmtree(release / "llm_encoder")
    shutil.rmtree(release / "vqvae")
    (release / "scheduler" / "scheduler_config.json").unlink()
    with pytest.raises(EditError, match="lacks vqvae/config.json, scheduler/scheduler_config.json, "
                       "llm_encoder/config.json, llm_encoder/tokenizer.json; download"):  # fmt: skip
        checkpoint.find(release)


def test_a_transformer_that_reads_gemma_needs_it(release):
    (release / "editmgt").rename(release / "transformer")
    shutil.rmtree(release / "llm_encoder")
    with pytest.raises(EditError, match="lacks llm_encoder/config.json"):
        checkpoint.find(release)


def test_no_folder_and_another_models(tmp_path):
    with pytest.raises(EditError, match="There is no folder"):
        checkpoint.find(tmp_path / "gone")
    (tmp_path / "unet").mkdir()
    with pytest.raises(EditError, match="holds nothing of EditMGT"):
        checkpoint.find(tmp_path)


@pytest.mark.parametrize("part", ["editmgt", "text_encoder", "llm_encoder", "vqvae"])
def test_a_corrupt_file_of_any_part_is_one_sentence(release, part):
    (path,) = (release / part).glob("*model*.safetensors")
    path.write_bytes(path.read_bytes()[:-9])
    load = {"editmgt": checkpoint.load_transformer, "text_encoder": checkpoint.load_clip,
            "llm_encoder": checkpoint.load_gemma, "vqvae": checkpoint.load_vq}[part]  # fmt: skip
    with pytest.raises(EditError, match="is truncated or not safetensors") as error:
        load(checkpoint.find(release))
    assert path.name in str(error.value) and "\n" not in str(error.value)


def test_weights_that_lack_a_tensor_or_are_anothers(release):
    path = release / "editmgt" / FILE
    state = load_file(path)
    save_file({k: v for k, v in state.items() if k != "context_embedder.bias"}, path)
    with pytest.raises(
        EditError, match="1 tensors missing, 0 unknown, 0 of another shape, first 'context_embedder.bias'"
    ):
        checkpoint.load_transformer(checkpoint.find(release))
    save_file({"a": torch.ones(1)}, path)
    with pytest.raises(EditError, match="do not belong together"):
        checkpoint.load_transformer(checkpoint.find(release))


def test_text_encoders_of_another_model_are_refused(release, base):
    shutil.rmtree(release / "llm_encoder")
    write_gemma(release / "llm_encoder")
    path = release / "llm_encoder" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hidden_size": 40}))
    with pytest.raises(EditError, match="reads text states 24 wide, and those of .*llm_encoder are 40 wide"):
        checkpoint.load_transformer(checkpoint.find(release))


@pytest.mark.parametrize(("data", "words"), [
    ({"masking_schedule": "square"}, "mask schedule 'square'; known are cosine, linear"),
    ({"mask_token_id": "x"}, "mask token 'x'"),
])  # fmt: skip
def test_a_strange_scheduler_is_refused(release, data, words):
    (release / "scheduler" / "scheduler_config.json").write_text(json.dumps(data))
    with pytest.raises(EditError, match=words):
        checkpoint.settings(checkpoint.find(release))


def test_another_mask_token_is_refused(release):
    (release / "scheduler" / "scheduler_config.json").write_text('{"mask_token_id": 8255}')
    with pytest.raises(EditError, match="mask token is 8255, and the transformer's 71"):
        checkpoint.load_transformer(checkpoint.find(release))


@pytest.mark.parametrize(("told", "time"), [(None, None), ({}, None), ({"time": "ratio"}, "ratio"),
                                             ({"time": "step", "phase": "phase3"}, "step")])  # fmt: skip
def test_what_steps_were_told_in_training(tmp_path, told, time):
    if told is not None:
        (tmp_path / checkpoint.TRAINING).write_text(json.dumps(told))
    assert checkpoint.trained_time(tmp_path) == time


@pytest.mark.parametrize(("text", "said"), [
    ('{"time": "clock"}', "steps were told 'clock'; known are step, ratio"), ("{", "is not readable JSON"),
])  # fmt: skip
def test_a_strange_training_note_is_refused(tmp_path, text, said):
    (tmp_path / checkpoint.TRAINING).write_text(text)
    with pytest.raises(EditError, match=said):
        checkpoint.trained_time(tmp_path)


@pytest.mark.parametrize("kind", ["linear", "mlp", "fmlp", "qformer"])
def test_what_is_saved_is_read(release, kind):
    shape = MGTConfig(**{**vars(TRANSFORMER), "connector": kind, "downsample": False, "upsample": False})
    model = EditMGT(shape)
    shutil.rmtree(release / "editmgt")
    checkpoint.save_transformer(
        release / "editmgt", shape, {f"module.{k}": v for k, v in model.state_dict().items()}
    )
    again = checkpoint.load_transformer(checkpoint.find(release))
    assert again.config == shape
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in model.state_dict().items())
