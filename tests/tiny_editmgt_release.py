"""EditMGT's release in its published layout, with networks of a few thousand random weights, for tests."""

import json
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from editkit.models.editmgt import checkpoint, clip_text, gemma
from editkit.models.editmgt.config import MGTConfig
from editkit.models.editmgt.transformer import EditMGT

WORDS = (
    "make the red cat and the small dog beside it blue, then put a cat on the table "
    "replace sky with night remove unbelievable things turn into watercolour"
)
CODES, MASK = 64, 71
START, END = "<|startoftext|>", "<|endoftext|>"
TRANSFORMER = MGTConfig(
    num_layers=1, num_single_layers=2, num_attention_heads=2, attention_head_dim=16, joint_attention_dim=24,
    pooled_projection_dim=16, axes_dims_rope=(4, 6, 6), vocab_size=MASK + 1, codebook_size=CODES,
)  # fmt: skip
GEMMA = {
    "hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 12, "query_pre_attn_scalar": 12, "model_type": "gemma2",
}  # fmt: skip
CLIP = {
    "hidden_size": 32, "intermediate_size": 64, "projection_dim": 16, "num_hidden_layers": 2,
    "num_attention_heads": 2, "hidden_act": "gelu", "model_type": "clip_text_model",
}  # fmt: skip
VQ = {
    "act_fn": "silu", "block_out_channels": [8, 8, 8, 16, 16], "down_block_types": ["DownEncoderBlock2D"] * 5,
    "up_block_types": ["UpDecoderBlock2D"] * 5, "in_channels": 3, "out_channels": 3, "latent_channels": 8,
    "layers_per_block": 1, "lookup_from_codebook": True, "mid_block_add_attention": False, "norm_num_groups": 4,
    "num_vq_embeddings": CODES, "_class_name": "VQModel",
}  # fmt: skip


def randomised(module: torch.nn.Module, seed: int) -> dict[str, torch.Tensor]:
    """The state dict of a module with random weights."""
    draw = torch.Generator().manual_seed(seed)
    return {
        k: torch.randn(v.shape, generator=draw) * (0.5 / max(v.shape[-1], 1) ** 0.5)
        for k, v in module.state_dict().items()
    }


def gemma_tokenizer(padding_side: str = "left"):
    """A byte-pair tokenizer that marks spaces as Gemma's does: `▁` before a word, `<bos>` before the text."""
    from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.normalizer = normalizers.Replace(" ", "▁")
    split = pre_tokenizers.Split("▁", "merged_with_next")
    made.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.Punctuation()])
    special = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=340, special_tokens=special[:4], show_progress=False)
    made.train_from_iterator([WORDS, " ".join(reversed(WORDS.split()))], trainer)
    data = json.loads(made.to_str())
    vocab = data["model"]["vocab"]
    vocab.update({name: len(vocab) + i for i, name in enumerate(special[4:])})
    made = Tokenizer.from_str(json.dumps(data))
    made.add_special_tokens([AddedToken(name, special=True) for name in special[:4]])
    made.post_processor = processors.TemplateProcessing("<bos> $A", special_tokens=[("<bos>", 2)])
    names = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=made, padding_side=padding_side, **names)


def clip_tokenizer():
    """A tokenizer with a begin and an end token, which pads on the right with the end token as CLIP's does."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE(unk_token=END))
    made.normalizer, made.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=[START, END], show_progress=False)
    made.train_from_iterator([WORDS], trainer)
    made.post_processor = processors.TemplateProcessing(
        f"{START} $A {END}", special_tokens=[(START, 0), (END, 1)]
    )
    names = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    return PreTrainedTokenizerFast(tokenizer_object=made, **names)


def write_part(folder: Path, name: str, config: dict, state: dict[str, torch.Tensor]) -> None:
    """config.json and one file of weights."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(state, folder / name)


def write_release(folder: Path, meissonic: bool = False) -> Path:
    """The whole folder; meissonic: the base model's, whose instruction goes through CLIP alone. Returns it."""
    base = {"joint_attention_dim": 32, "connector": "none"} if meissonic else {}
    shape = replace(TRANSFORMER, **base)
    checkpoint.save_transformer(
        folder / ("transformer" if meissonic else "editmgt"), shape, randomised(EditMGT(shape), 1)
    )
    if meissonic:  # whose config says nothing of a connector
        path = folder / "transformer" / "config.json"
        path.write_text(
            json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "connector_type"})
        )
    checkpoint.save_settings(folder / "scheduler", checkpoint.Settings(MASK))
    tokenizer = clip_tokenizer()
    tokenizer.save_pretrained(folder / "tokenizer")
    sizes = CLIP | {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id}
    state = randomised(clip_text.ClipText(clip_text.read(sizes)), 2)
    write_part(folder / "text_encoder", "model.safetensors", sizes, state)
    write_vq(folder / "vqvae")
    if not meissonic:
        write_gemma(folder / "llm_encoder")
    return folder


def write_vq(folder: Path) -> None:
    """The VQ tokenizer, by diffusers' own class."""
    from diffusers import VQModel

    torch.manual_seed(3)
    write_part(folder, "diffusion_pytorch_model.safetensors", VQ, VQModel.from_config(VQ).state_dict())


def write_gemma(folder: Path, padding_side: str = "left") -> None:
    """Gemma as published: with the last layer and the norm, and `model.` before its names."""
    tokenizer = gemma_tokenizer(padding_side)
    sizes = GEMMA | {"vocab_size": len(tokenizer)}
    one_more = gemma.GemmaConfig(
        **{**vars(gemma.read(sizes)), "num_hidden_layers": GEMMA["num_hidden_layers"] + 1}
    )
    state = {f"model.{k}": v for k, v in randomised(gemma.Gemma2(one_more), 4).items()}
    state["model.norm.weight"] = torch.zeros(GEMMA["hidden_size"])
    write_part(folder, "model.safetensors", sizes, state)
    tokenizer.save_pretrained(folder)
