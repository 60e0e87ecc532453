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
        "block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 1, "attention_head_dim": 8,
        "cross_attention_dim": WIDTH, "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), **changes,
    })  # fmt: skip


def vae():
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(16, 32), norm_num_groups=1, latent_channels=4, layers_per_block=1,
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


@torch.no_grad()
def as_generator(network, family="swiftbrush_v2", leak=0.03):
    """Makes a random UNet a one-step generator: its latent is near the noise with its channels moved by one.

    What a generator predicts must be right to a part of alpha_T, which random weights never are: the noise is led past
    them, as e and -e through the first skip connection, for silu(x) - silu(-x) = x. The rest leaks in a little, so that
    text and image count.
    """
    from editkit.models.swiftedit.generators import GENERATORS

    family, one, up = GENERATORS[family], torch.eye(4), network.up_blocks[-1]
    for layer, part in ((network.conv_in, 0), (up.resnets[-1].conv_shortcut, 0), (up.resnets[-1].conv2, leak),
                        (up.attentions[-1].proj_out, leak)):  # fmt: skip
        layer.weight[:8] *= part
        layer.bias[:8] *= part
    network.conv_in.weight[:8, :, 1, 1] = torch.cat([one, -one])
    width = network.config.block_out_channels[0]
    up.resnets[-1].conv_shortcut.weight[:8, width : width + 8, 0, 0] = torch.eye(8)
    noise = torch.randn(64, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    lead(network.conv_out, one)
    out = network(noise, family.timestep, torch.zeros(64, 8, WIDTH)).sample
    moved = one.roll(1, 0)
    wanted = moved - one if family.prediction == "velocity" else (one - family.alpha * moved) / family.sigma
    lead(network.conv_out, wanted * (out * noise).mean() / out.square().mean())
    return network


def lead(layer, matrix):
    """Sets a convolution to `matrix` [m, n] of its first n inputs less the n after them; the outputs after m are 0."""
    rows, columns = matrix.shape
    layer.weight.zero_()
    layer.bias.zero_()
    middle = layer.kernel_size[0] // 2
    layer.weight[:rows, : 2 * columns, middle, middle] = torch.cat([matrix, -matrix], 1)


@torch.no_grad()
def as_autoencoder(network, leak=0.03):
    """Makes a random VAE an autoencoder, up to each picture's contrast, in the way of `as_generator`."""
    for module in network.modules():
        if getattr(module, "conv_shortcut", None) is not None:
            pass_on(module.conv_shortcut)
        if type(module).__name__ in ("Downsample2D", "Upsample2D"):
            pass_on(module.conv)
        for layer in (getattr(module, "conv2", None), *list(getattr(module, "to_out", []))[:1]):
            if layer is not None:
                layer.weight *= leak
                layer.bias *= leak
    for layer in (network.quant_conv, network.post_quant_conv):
        layer.weight[:, :, 0, 0] = torch.eye(len(layer.weight))
        layer.bias.zero_()
    for layer, inputs in ((network.encoder.conv_in, 3), (network.decoder.conv_in, 4)):
        layer.weight[: 2 * inputs] = 0
        layer.bias[: 2 * inputs] = 0
        layer.weight[: 2 * inputs, :, 1, 1] = torch.cat([torch.eye(inputs), -torch.eye(inputs)])
    image = torch.nn.functional.interpolate(torch.rand(16, 3, 5, 5) * 2 - 1, 16, mode="bilinear")
    lead(network.encoder.conv_out, torch.eye(4)[:, :3])
    gain = 1 / (0.18215 * network.encode(image).latent_dist.mode()[:, :3].std())
    lead(network.encoder.conv_out, gain * torch.eye(4)[:, :3])
    lead(network.decoder.conv_out, torch.eye(4)[:3])
    out = network.decode(network.encode(image).latent_dist.mode()).sample
    lead(network.decoder.conv_out, (out * image).mean() / out.square().mean() * torch.eye(4)[:3])
    return network


def pass_on(layer, channels=8):
    """The first channels of a convolution's output become its input's."""
    layer.weight[:channels] = 0
    layer.bias[:channels] = 0
    middle = layer.kernel_size[0] // 2
    layer.weight[:channels, :channels, middle, middle] = torch.eye(channels)
