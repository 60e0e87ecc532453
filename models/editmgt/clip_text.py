"""CLIP's text tower: the pooled vector of EditMGT, and the token states of base Meissonic. Names as Hugging Face's."""

from dataclasses import dataclass, fields
from functools import partial

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import EditError

LEGACY_EOS = 2  # configs of old carry this wrong id; the end is then the largest id of the prompt


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS = {
    "gelu": F.gelu,
    "quick_gelu": _quick_gelu,
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
    "gelu_new": partial(F.gelu, approximate="tanh"),
}


@dataclass(frozen=True)
class ClipConfig:
    """What a config.json that does not say has (OpenAI's ViT-B); the released one is ViT-H: 1024 wide, 24 layers."""

    vocab_size: int = 49408
    hidden_size: int = 512
    intermediate_size: int = 2048
    projection_dim: int = 512
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    max_position_embeddings: int = 77
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    eos_token_id: int = 49407


@dataclass(frozen=True)
class Encoded:
    """pooled: `text_embeds` [b, projection]. states: the last layer's input [b, t, c] (`hidden_states[-2]`)."""

    pooled: Tensor
    states: Tensor


def read(data: dict) -> ClipConfig:
    """A config from config.json, of the text tower alone or of a whole CLIP. EditError for an unknown activation."""
    outer = {k: data[k] for k in ("projection_dim",) if k in data}
    data = {**data["text_config"], **outer} if isinstance(data.get("text_config"), dict) else data
    known = {field.name for field in fields(ClipConfig)}
    config = ClipConfig(**{k: v for k, v in data.items() if k in known and v is not None})
    if config.hidden_act not in ACTIVATIONS:
        names = ", ".join(ACTIVATIONS)
        raise EditError(
            f"CLIP's config.json asks for the activation {config.hidden_act!r}; known are {names}."
        )
    return config


def needed(name: str) -> bool:
    """Whether the text tower has a weight of this name; a whole CLIP and old files hold more."""
    return name.startswith(("text_model.", "text_projection.")) and not name.endswith(".position_ids")


class Attention(nn.Module):
    """Causal attention, all of whose projections have a bias."""

    def __init__(self, config: ClipConfig, operations=nn):
        super().__init__()
        self.heads, width = config.num_attention_heads, config.hidden_size
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            setattr(self, name, operations.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            rearrange(project(x), "b n (h d) -> b h n d", h=self.heads)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out_proj(rearrange(out, "b h n d -> b n (h d)"))


class FeedForward(nn.Module):
    """Two layers with the config's activation between them."""

    def __init__(self, config: ClipConfig, operations=nn):
        super().__init__()
        self.fc1 = operations.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = operations.Linear(config.intermediate_size, config.hidden_size)
        self.activation = ACTIVATIONS[config.hidden_act]

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.activation(self.fc1(x)))


class Layer(nn.Module):
    """Attention and MLP, each after a norm."""

    def __init__(self, config: ClipConfig, operations=nn):
        super().__init__()
        norm = partial(operations.LayerNorm, config.hidden_size, eps=config.layer_norm_eps)
        self.self_attn, self.mlp = Attention(config, operations), FeedForward(config, operations)
        self.layer_norm1, self.layer_norm2 = norm(), norm()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class Embeddings(nn.Module):
    """Token plus position: ids [b, t] to [b, t, c]."""

    def __init__(self, config: ClipConfig, operations=nn):
        super().__init__()
        self.token_embedding = operations.Embedding(config.vocab_size, config.hidden_size)
        self.position_embedding = operations.Embedding(config.max_position_embeddings, config.hidden_size)

    def forward(self, ids: Tensor, dtype: torch.dtype | None) -> Tensor:
        places = torch.arange(ids.shape[1], device=ids.device)
        parts = self.token_embedding(ids), self.position_embedding(places)
        token, place = parts if dtype is None else (x.to(dtype) for x in parts)
        return token + place


class Encoder(nn.Module):
    """The layers; it exists for its name."""

    def __init__(self, config: ClipConfig, operations=nn):
        super().__init__()
        self.layers = nn.ModuleList(Layer(config, operations) for _ in range(config.num_hidden_layers))


class Tower(nn.Module):
    """Ids [b, t] to the last layer's input and to what the final norm gives, both [b, t, c]."""

    def __init__(self, config: ClipConfig, operations=nn):
        super().__init__()
        self.embeddings, self.encoder = Embeddings(config, operations), Encoder(config, operations)
        self.final_layer_norm = operations.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, ids: Tensor, dtype: torch.dtype | None) -> tuple[Tensor, Tensor]:
        before = x = self.embeddings(ids, dtype)
        for layer in self.encoder.layers:
            before, x = x, layer(x)
        return before, self.final_layer_norm(x)


class ClipText(nn.Module):
    """Token ids [b, t], t at most 77, to the projected vector of the end token, and to the token states."""

    def __init__(self, config: ClipConfig, operations=nn):
        super().__init__()
        self.config = config
        self.text_model = Tower(config, operations)
        self.text_projection = operations.Linear(config.hidden_size, config.projection_dim, bias=False)

    def forward(self, ids: Tensor, dtype: torch.dtype | None = None) -> Encoded:
        """dtype: of the computation, the embeddings' by default."""
        states, normed = self.text_model(ids, dtype)
        pooled = normed[torch.arange(len(ids), device=ids.device), self.end(ids)]
        return Encoded(self.text_projection(pooled), states)

    def end(self, ids: Tensor) -> Tensor:
        """Where each prompt ends [b]: the first end token; pads may be end tokens too."""
        if self.config.eos_token_id == LEGACY_EOS:
            return ids.argmax(-1)
        return (ids == self.config.eos_token_id).int().argmax(-1)
