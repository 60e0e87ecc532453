"""A FLUX.1 folder in diffusers' layout with encoders of a few thousand random weights, and tables of pictures."""

import csv

import numpy as np
import torch
from PIL import Image

from editkit.tests.training.swiftedit.tiny import write_tokenizer

JOINT, POOLED = 32, 32  # as in the small world, so that one transformer takes both
CHANNELS = 4


def write_encoders(folder):
    """vae, text_encoder, tokenizer, text_encoder_2 and tokenizer_2 below `folder`. Returns it."""
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    torch.manual_seed(0)
    vae().save_pretrained(folder / "vae")
    CLIPTextModel(CLIPTextConfig(
        vocab_size=64, hidden_size=POOLED, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=8, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )).save_pretrained(folder / "text_encoder")  # fmt: skip
    T5EncoderModel(T5Config(
        vocab_size=40, d_model=JOINT, d_kv=8, d_ff=32, num_layers=1, num_heads=2,
    )).save_pretrained(folder / "text_encoder_2")  # fmt: skip
    write_tokenizer(folder / "tokenizer")
    t5_tokenizer().save_pretrained(folder / "tokenizer_2")
    return folder


def vae():
    """4 pixels a side of a latent, with a shift, as FLUX.1's has one."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8, 8), norm_num_groups=1, latent_channels=CHANNELS, layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        shift_factor=0.1159, scaling_factor=0.3611, use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip


def t5_tokenizer():
    """Words and marks of their ends, padded with 0 as T5's are."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "</s>", "<unk>", "make", "it", "red", "blue", "a", "cat", "dog", "small"]
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=made, **names)


def picture(rng, size):
    coarse = Image.fromarray(rng.integers(0, 255, (4, 5, 3), dtype=np.uint8))
    return coarse.resize(size, Image.Resampling.BICUBIC)


def write_tables(folder):
    """(a folder with ten edits, two with a second reference of another shape; a folder with six captioned pictures)."""
    edits, pairs, rng = folder / "edits", folder / "pairs", np.random.default_rng(0)
    edits.mkdir(parents=True)
    pairs.mkdir()
    with (edits / "edits.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["source", "source_2", "target", "instruction"])
        writer.writeheader()
        for i in range(10):
            row = {"source": f"{i}_source.png", "target": f"{i}_target.png", "instruction": "make it red"}
            for name in ("source", "target"):
                picture(rng, (70, 64)).save(edits / row[name])
            if i in (4, 6):
                row["source_2"] = f"{i}_second.png"
                picture(rng, (100, 60)).save(edits / row["source_2"])
            writer.writerow(row)
    for i in range(6):
        picture(rng, (64, 64)).save(pairs / f"{i}.png")
        (pairs / f"{i}.txt").write_text("a small cat")
    return edits, pairs
