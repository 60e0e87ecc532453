"""The image branch of G^IP: a projection of CLIP's image embedding to tokens, and each layer's keys and values."""

from torch import Tensor, nn

TOKENS = 4


class ImageProjection(nn.Module):
    """CLIP's image embedding [b, e] to image tokens [b, 4, c] (IP-Adapter's linear map and norm)."""

    def __init__(self, embedding: int, context: int, tokens: int = TOKENS, operations=nn):
        super().__init__()
        self.tokens = tokens
        self.proj = operations.Linear(embedding, tokens * context)
        self.norm = operations.LayerNorm(context)

    def forward(self, embedding: Tensor) -> Tensor:
        return self.norm(self.proj(embedding).unflatten(-1, (self.tokens, -1)))


class LayerBranch(nn.Module):
    """W_x^K and W_x^V of one cross-attention layer (Eq. 3), without bias."""

    def __init__(self, context: int, width: int, operations=nn):
        super().__init__()
        self.to_k_ip = operations.Linear(context, width, bias=False)
        self.to_v_ip = operations.Linear(context, width, bias=False)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Image tokens [b, m, c] to keys and values [b, m, width]."""
        return self.to_k_ip(tokens), self.to_v_ip(tokens)


class ImageBranch(nn.Module):
    """Projection and layers together. `layers` gives the width of each attn2 by its path in diffusers' UNet."""

    def __init__(self, layers: dict[str, int], embedding: int, context: int, operations=nn):
        super().__init__()
        self.projection = ImageProjection(embedding, context, operations=operations)
        self.names = list(layers)
        self.layers = nn.ModuleList(LayerBranch(context, width, operations) for width in layers.values())

    def forward(self, embedding: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """CLIP's image embedding [b, e] to every layer's (keys, values), each [b, 4, width]."""
        tokens = self.projection(embedding)
        return {name: layer(tokens) for name, layer in zip(self.names, self.layers, strict=True)}
