"""A whole one-step text-to-image pipeline of a few thousand random weights, on disk as diffusers lays it out."""

import json

import numpy as np
import torch
from PIL import Image
from torch import nn

WIDTH = 16  # of the text embeddings
WORDS = [
    "a",
    "red",
    "green",
    "blue",
    "cat",
    "dog",
    "house",
    "tree",
    "on",
    "the",
    "hill",
    "by",
    "sea",
    "big",
    "small",
]
VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")


def write_pipeline(folder, seed=0, prediction="epsilon"):
    """unet, text_encoder, tokenizer, vae, scheduler and image_encoder below `folder`."""
    torch.manual_seed(seed)
    unet().save_pretrained(folder / "unet")
    text_encoder().save_pretrained(folder / "text_encoder")
    vae().save_pretrained(folder / "vae")
    image_encoder().save_pretrained(folder / "image_encoder")
    write_tokenizer(folder / "tokenizer")
    (folder / "scheduler").mkdir()
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps({"prediction_type": prediction}))
    return folder


def unet(**changes):
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(**{
        "block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 8, "attention_head_dim": 8,
        "cross_attention_dim": WIDTH, "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), **changes,
    })  # fmt: skip


def vae():
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(16, 32), norm_num_groups=8, latent_channels=4, layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip


def text_encoder():
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(CLIPTextConfig(
        vocab_size=64, hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=8, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    ))  # fmt: skip


def image_encoder():
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    return CLIPVisionModelWithProjection(CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=16,
        patch_size=8, projection_dim=12,
    ))  # fmt: skip


def write_tokenizer(folder):
    """CLIP's byte-pair tokenizer whose vocabulary is WORDS: each is merged from its letters in one chain."""
    from transformers import CLIPTokenizer

    merges, pieces = [], {}
    for word in WORDS:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        pieces.update(dict.fromkeys(parts))
        while len(parts) > 1:
            merges.append(tuple(parts[:2]))
            parts[:2] = ["".join(parts[:2])]
            pieces[parts[0]] = None
    names = ["<|startoftext|>", "<|endoftext|>", *(f"{w}</w>" for w in WORDS)]
    names += [piece for piece in pieces if piece not in names]
    vocabulary = {name: i for i, name in enumerate(names)}
    CLIPTokenizer(vocabulary, list(dict.fromkeys(merges)), model_max_length=8).save_pretrained(folder)
    return vocabulary


def captions(count, seed=0):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, 4)) for _ in range(count)]


def write_photos(folder, count=20, seed=0, size=(48, 40)):
    """Smooth random pictures, each with a caption beside it."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for i, caption in enumerate(captions(count, seed)):
        coarse = Image.fromarray(rng.integers(0, 255, (5, 6, 3), dtype=np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(folder / f"{i:03d}.png")
        (folder / f"{i:03d}.txt").write_text(caption)
    return folder


def random_vgg16(weights=None):
    """torchvision's vgg16 before training, as far as DISTS looks at it: `features`. Always the same weights."""
    layers, channels = [], 3
    draw = torch.Generator().manual_seed(0)
    for width in VGG16:
        if width == "M":
            layers.append(nn.MaxPool2d(2, 2))
            continue
        convolution = nn.Conv2d(channels, width, 3, padding=1)
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu", generator=draw)
        nn.init.zeros_(convolution.bias)
        layers += [convolution, nn.ReLU(inplace=False)]
        channels = width
    made = nn.Module()
    made.features = nn.Sequential(*layers)
    return made


def teach(network, family="swiftbrush_v2", steps=80, seed=0):
    """Makes a random UNet a one-step generator: from noise, a latent of about unit size that is not the noise.

    Its latent is near the noise with its channels moved by one, so that F starts out wrong and can be right.
    """
    from editkit.models.swiftedit.generators import GENERATORS

    family, draw = GENERATORS[family], torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(steps):
        noise = torch.randn(8, 4, 8, 8, generator=draw)
        context = torch.randn(8, 8, WIDTH, generator=draw)
        latent = noise.roll(1, 1)
        target = (noise - family.alpha * latent) / family.sigma
        if family.prediction == "velocity":
            target = latent - noise
        loss = (network(noise, family.timestep, context).sample - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network
