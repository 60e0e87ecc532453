"""Vision-language models and a CLIP of a few thousand random weights, in transformers' folders, for judges to load."""

from pathlib import Path

import torch

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
           "<|video_pad|>", "<image>"]  # fmt: skip
TEMPLATE = (
    "{{% for m in messages %}}<|im_start|>{{{{ m.role }}}}\n{{% for c in m.content %}}{{% if c.type == 'image' %}}"
    "{picture}{{% else %}}{{{{ c.text }}}}{{% endif %}}{{% endfor %}}<|im_end|>\n{{% endfor %}}"
    "{{% if add_generation_prompt %}}<|im_start|>assistant\n{{% endif %}}"
)
TEXT = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 2, "max_position_embeddings": 4096, "bos_token_id": None, "eos_token_id": None,
        "pad_token_id": None}  # fmt: skip
CLIP_VISION = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
               "image_size": 28, "patch_size": 14}  # fmt: skip


def words():
    """A tokenizer of single bytes, so that every text can be told and said."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.add_special_tokens(SPECIAL)
    return PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<|im_end|>", pad_token="<|endoftext|>",
        additional_special_tokens=SPECIAL[1:], model_max_length=4096,
    )  # fmt: skip


def randomised(model, seed: int = 0):
    """Weights large enough that what a model is shown matters to what it says."""
    draw = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:  # norms stay, and CLIP's temperature
            size = 0.2 if "embed_tokens" in name else 3.0
            parameter.data = torch.randn(parameter.shape, generator=draw) * (size / parameter.shape[-1] ** 0.5)
    return model.eval()


def write_qwen(folder: Path) -> None:
    """Qwen2.5-VL. Its processor needs torchvision, which every ComfyUI has."""
    import transformers as t

    tokenizer = words()
    ids = dict(zip(SPECIAL, tokenizer.convert_tokens_to_ids(SPECIAL), strict=True))
    rope = {"type": "mrope", "mrope_section": [2, 3, 3]}
    config = t.Qwen2_5_VLConfig(
        text_config={**TEXT, "vocab_size": len(tokenizer), "rope_scaling": rope},
        vision_config={"depth": 2, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32,
                       "patch_size": 14, "spatial_merge_size": 2, "fullatt_block_indexes": [1], "window_size": 112},
        image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"],
    )  # fmt: skip
    randomised(t.Qwen2_5_VLForConditionalGeneration(config)).save_pretrained(folder)
    template = TEMPLATE.format(picture="<|vision_start|><|image_pad|><|vision_end|>")
    pictures = t.Qwen2VLImageProcessor(min_pixels=56 * 56, max_pixels=112 * 112)
    videos = t.Qwen2VLVideoProcessor()
    t.Qwen2_5_VLProcessor(pictures, tokenizer, videos, chat_template=template).save_pretrained(folder)


def write_llava(folder: Path) -> None:
    """LLaVA, whose processor needs Pillow only."""
    import transformers as t

    tokenizer = words()
    config = t.LlavaConfig(
        text_config={**TEXT, "model_type": "llama", "vocab_size": len(tokenizer)},
        vision_config={**CLIP_VISION, "model_type": "clip_vision_model"},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"), image_seq_length=4,
    )  # fmt: skip
    randomised(t.LlavaForConditionalGeneration(config)).save_pretrained(folder)
    processor = t.LlavaProcessor(
        _pictures(t), tokenizer, patch_size=14, vision_feature_select_strategy="default", image_token="<image>",
        chat_template=TEMPLATE.format(picture="<image>"), num_additional_image_tokens=1,
    )  # fmt: skip
    processor.save_pretrained(folder)


def write_clip(folder: Path) -> None:
    import transformers as t

    tokenizer = words()
    text = {**{k: v for k, v in TEXT.items() if k != "num_key_value_heads"}, "vocab_size": len(tokenizer)}
    text |= {"eos_token_id": tokenizer.eos_token_id, "max_position_embeddings": 77}
    config = t.CLIPConfig(text_config=text, vision_config=CLIP_VISION, projection_dim=16)
    randomised(t.CLIPModel(config)).save_pretrained(folder)
    tokenizer.model_max_length = 77
    t.CLIPProcessor(_pictures(t), tokenizer).save_pretrained(folder)


def _pictures(t):
    return t.CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
