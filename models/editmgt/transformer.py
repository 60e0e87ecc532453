"""The transformer: tokens, instruction and reference to logits over the codebook. Names are the released weights'."""

from dataclasses import dataclass, replace

import torch
from einops import rearrange
from torch import Tensor, nn

from ..errors import EditError
from .attention import Attend
from .config import MICRO, MGTConfig
from .connectors import connector
from .layers import (
    Capture,
    DoubleBlock,
    RMSNorm,
    SingleBlock,
    Step,
    Tokens,
    TwoLayers,
    Vectors,
    grid_ids,
    rotary_table,
    sinusoid,
)

MICRO_CONDITIONS = (1024, 1024, 0, 0, 6)  # width, height, crop, crop, aesthetic score


@dataclass(frozen=True)
class Prompt:
    """What does not change during a run: text tokens [b, t, c], the pooled condition [b, c], reference tokens."""

    text: Tensor
    pooled: Tensor
    reference: Tensor | None = None

    def halves(self) -> tuple["Prompt", "Prompt"]:
        """The unconditional and the conditional half of a doubled batch."""
        half = len(self.text) // 2
        parts = (slice(0, half), slice(half, None))
        return tuple(
            replace(self, text=self.text[p], pooled=self.pooled[p],
                    reference=None if self.reference is None else self.reference[p])
            for p in parts
        )  # fmt: skip


class Embed(nn.Module):
    """Token ids [b, h, w] to vectors [b, c, h, w]."""

    def __init__(self, config: MGTConfig, operations=nn):
        super().__init__()
        self.embeddings = operations.Embedding(config.vocab_size, config.width)
        self.layer_norm = RMSNorm(config.width)
        self.conv = operations.Conv2d(config.width, config.width, 1, bias=False)

    def forward(self, ids: Tensor, dtype: torch.dtype, table: Tensor | None = None) -> Tensor:
        if table is not None:
            return table[ids].permute(0, 3, 1, 2)
        return self.conv(self.layer_norm(self.embeddings(ids).to(dtype)).permute(0, 3, 1, 2))

    def table(self, dtype: torch.dtype, device=None) -> Tensor:
        """What every id becomes [vocabulary, c], worked out once for a run."""
        ids = torch.arange(self.embeddings.num_embeddings, device=device)
        return self(ids[None, None], dtype)[0, :, 0].T.contiguous()


class Resample(nn.Module):
    """Halves or doubles the grid of tokens by a 2x2 convolution."""

    def __init__(self, width: int, up: bool, operations=nn):
        super().__init__()
        self.norm = RMSNorm(width)
        make = operations.ConvTranspose2d if up else operations.Conv2d
        self.conv = make(width, width, 2, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))


class Head(nn.Module):
    """Features [b, c, h, w] to logits [b, codebook, h, w]. The last layer is linear, so guidance may come before it."""

    def __init__(self, config: MGTConfig, operations=nn):
        super().__init__()
        self.conv1 = operations.Conv2d(config.width, config.width, 1, bias=False)
        self.layer_norm = RMSNorm(config.width)
        self.conv2 = operations.Conv2d(config.width, config.codebook_size, 1, bias=False)

    def features(self, x: Tensor) -> Tensor:
        """All but the last layer: [b, c, h, w]."""
        made = self.conv1(x.contiguous(memory_format=torch.channels_last))
        return self.layer_norm(made.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def logits(self, features: Tensor) -> Tensor:
        """Features of single positions [n, c] to logits [n, codebook]."""
        if not len(features):
            return features.new_zeros(0, self.conv2.out_channels)
        # as one picture with its channels last, which is a matrix product; as n pictures it takes three times as long
        row = features.contiguous()[None, :, None].permute(0, 3, 1, 2)
        return self.conv2(row).permute(0, 2, 3, 1)[0, :, 0]

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.features(x))


def _inner(**modules: nn.Module) -> nn.Module:
    made = nn.Module()
    for name, module in modules.items():
        setattr(made, name, module)
    return made


class EditMGT(nn.Module):
    """Eq. 1's network p(v | masked tokens, instruction; reference).

    Token ids are [b, h, w] int64, h and w even where the checkpoint downsamples. Logits are [b, codebook, h, w].
    """

    def __init__(self, config: MGTConfig, operations=nn):
        super().__init__()
        self.config, width = config, config.width
        self.embed = Embed(config, operations)
        self.project_to_hidden_norm = RMSNorm(width)
        self.project_to_hidden = operations.Linear(width, width, bias=False)
        self.connector = connector(config, operations)
        self.context_embedder = operations.Linear(width, width)
        self.encoder_proj_layer_norm = RMSNorm(width)
        self.cond_embed = TwoLayers(config.pooled_projection_dim + 5 * MICRO, width, False, operations)
        self.time_text_embed = _inner(
            timestep_embedder=TwoLayers(256, width, True, operations),
            text_embedder=TwoLayers(width, width, True, operations),
        )
        self.transformer_blocks = nn.ModuleList(DoubleBlock(config, operations) for _ in range(config.num_layers))
        self.single_transformer_blocks = nn.ModuleList(
            SingleBlock(config, operations) for _ in range(config.num_single_layers)
        )
        self.project_from_hidden_norm = RMSNorm(width)
        self.project_from_hidden = operations.Linear(width, width, bias=False)
        self.mlm_layer = Head(config, operations)
        for index, block in enumerate([*self.transformer_blocks, *self.single_transformer_blocks]):
            block.index = index
        if config.downsample:
            self.down_block = _inner(downsample=Resample(width, False, operations))
        if config.upsample:
            self.up_block = _inner(upsample=Resample(width, True, operations))

    def prompt(
        self, text: Tensor, pooled: Tensor, reference: Tensor | None = None, micro: tuple = MICRO_CONDITIONS,
        timestep: Tensor | None = None,
    ) -> Prompt:  # fmt: skip
        """What stays the same during a run, once.

        text: states of the language model [b, t, joint]. pooled: CLIP's [b, p]. reference: token ids [b, h, w].
        timestep: [b], needed by the connector qformer alone, which then has to be called for every step.
        """
        if self.connector is not None:
            text = self.connector(text, timestep)
        micro = torch.as_tensor(micro, dtype=torch.float32, device=pooled.device).expand(len(pooled), 5)
        sizes = sinusoid(micro.flatten(), MICRO).view(len(pooled), -1).to(text)
        condition = self.cond_embed(torch.cat([pooled.to(text), sizes], dim=1))
        made = self.time_text_embed.text_embedder(condition)
        text = self.encoder_proj_layer_norm(self.context_embedder(text))
        return Prompt(text, made, None if reference is None else self.tokens(reference, text.dtype)[0])

    def tokens(self, ids: Tensor, dtype: torch.dtype, table: Tensor | None = None) -> tuple[Tensor, tuple[int, int]]:
        """Token ids [b, h, w] to what the blocks take [b, n, c], and the grid (height, width) of those."""
        self.grid(ids)
        x = self.embed(ids, dtype, table)
        if self.config.downsample:
            x = self.down_block.downsample(x)
        size = tuple(x.shape[-2:])
        return self.project_to_hidden(self.project_to_hidden_norm(rearrange(x, "b c h w -> b (h w) c"))), size

    def condition(
        self, prompt: Prompt, timestep: Tensor, rounding: torch.dtype = torch.float32
    ) -> Tensor:
        """The vector [b, c] of a timestep [b] (the number of the step, which is multiplied by 1000) and the prompt.

        The timestep's embedding is worked out in float32: in bf16 most steps would be told a wrong time. rounding: in
        what the product is taken; the released code took the weights' precision.
        """
        embedded = sinusoid(timestep.to(rounding) * 1000, 256).to(prompt.pooled)
        return self.time_text_embed.timestep_embedder(embedded) + prompt.pooled

    def plan(
        self, prompt: Prompt, timesteps: Tensor, size: tuple[int, int], attention: Attend | None = None,
        rounding: torch.dtype = torch.float32,
    ) -> Step:  # fmt: skip
        """What all blocks share in a run, at its first step; `at` gives the others.

        timesteps: [steps, b]. size: the blocks' grid (height, width). rounding: as in `condition`.
        """
        conditions = torch.stack([self.condition(prompt, time, rounding) for time in timesteps])
        reference = None if prompt.reference is None else self.condition(prompt, torch.zeros_like(timesteps[0]))
        device, axes = prompt.text.device, self.config.axes_dims_rope
        ids = grid_ids(*size, device=device)
        both = torch.cat([torch.zeros(prompt.text.shape[1], 3, dtype=ids.dtype, device=device), ids])
        return Step(
            Vectors(conditions, reference), 0, rotary_table(both, axes),
            None if reference is None else rotary_table(ids, axes), attention or Attend(),
        )  # fmt: skip

    def blocks(self, x: Tokens, step: Step, capture: Capture | None = None, seen=None, short: bool = True) -> Tokens:
        """All blocks. seen(index, tokens) is told what each one gives. short: the last one gives the picture alone."""
        everything = [*self.transformer_blocks, *self.single_transformer_blocks]
        for index, block in enumerate(everything):
            wanted = capture if capture is not None and index in capture.blocks else None
            last = short and index == len(everything) - 1
            x = block(x, step, wanted, last)
            if seen is not None:
                seen(index, x)
        return x

    def head(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        """What the blocks give for the picture [b, n, c] to features [b, c, h, w] at the token grid."""
        made = self.project_from_hidden(self.project_from_hidden_norm(image))
        made = rearrange(made, "b (h w) c -> b c h w", h=size[0])
        if self.config.upsample:
            made = self.up_block.upsample(made)
        return self.mlm_layer.features(made)

    def features(
        self, ids: Tensor, prompt: Prompt, step: Step, *, capture: Capture | None = None, seen=None,
        short: bool = True, table: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """All but the projection to the codebook: features [b, c, h, w] of token ids [b, h, w].

        table: `embed.table`'s, where it was worked out for a run.
        """
        image, size = self.tokens(ids, prompt.text.dtype, table)
        reference = None if step.cache is not None and step.cache.reuse else prompt.reference
        x = self.blocks(Tokens(prompt.text, image, reference), step, capture, seen, short)
        return self.head(x.image, size)

    def grid(self, ids: Tensor) -> tuple[int, int]:
        """The blocks' grid for token ids [b, h, w]. EditError when it cannot be halved."""
        height, width = ids.shape[-2:]
        if not self.config.downsample:
            return height, width
        if height % 2 or width % 2:
            raise EditError(f"A grid of {width}x{height} tokens cannot be halved; use even sides.")
        return height // 2, width // 2

    def forward(
        self, ids: Tensor, prompt: Prompt, timestep: Tensor, attention: Attend | None = None, **options
    ) -> Tensor:
        """Logits [b, codebook, h, w] at a single timestep [b]; options as in `features`."""
        step = self.plan(prompt, timestep[None], self.grid(ids), attention)
        return self.mlm_layer.conv2(self.features(ids, prompt, step, **options))


def at(step: Step, index: int) -> Step:
    """The same run at another step."""
    return replace(step, index=index)
