"""What a training starts from: a release's folder, its frozen encoders, the transformer with a chosen connector."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ...models.editmgt import checkpoint, config, files, prompts
from ...models.editmgt.config import MGTConfig
from ...models.editmgt.options import Text
from ...models.editmgt.transformer import EditMGT
from ...models.errors import EditError

CONNECTORS = {"linear": "linear", "mlp2": "mlp", "mlp3": "fmlp", "qformer": "blip2", "ella": "qformer"}


@dataclass(frozen=True)
class Start:
    """Where everything lies. llm: Gemma's folder, which may be elsewhere, as base Meissonic has none."""

    parts: checkpoint.Parts
    llm: Path


def find(folder: str, llm: str | None) -> Start:
    """The folders of a run. EditError for one that is missing."""
    parts = checkpoint.find(Path(folder).expanduser())
    language = Path(llm).expanduser() if llm else parts.llm_encoder
    if language is None:
        raise EditError(f"{folder} has no language model; name the folder of Gemma2-2B-IT with --llm.")
    if not (language / "config.json").is_file():
        raise EditError(f"There is no language model in {language} (config.json is missing); see --llm.")
    return Start(replace(parts, llm_encoder=language), language)


class Release(nn.Module):
    """Gemma, CLIP's text tower and the VQ tokenizer, all frozen."""

    def __init__(self, start: Start):
        super().__init__()
        parts = start.parts
        self.tokenizer, self.clip_tokenizer = prompts.load_gemma(start.llm), prompts.load(parts.tokenizer)
        self.gemma, self.clip = checkpoint.load_gemma(parts), checkpoint.load_clip(parts)
        self.vq = checkpoint.load_vq(parts)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True):
        return super().train(False)

    @property
    def scale(self) -> int:
        return self.vq.scale

    def text(self, text: str) -> Text:
        """As in sampling: Gemma's states of 256 tokens, pads and all, and CLIP's pooled vector."""
        device = self.vq.codebook.device
        with torch.autocast(device.type, enabled=False):
            states = self.gemma(prompts.gemma_ids(self.tokenizer, [text]).to(device))
            pooled = self.clip(prompts.clip_ids(self.clip_tokenizer, [text]).to(device)).pooled
        return Text(states, pooled)

    def ids(self, image: Tensor) -> Tensor:
        return self.vq.encode(image[None].to(self.vq.codebook.device))[0]

    def picture(self, ids: Tensor) -> Tensor:
        return self.vq.decode(ids.to(self.vq.codebook.device))

    def widths(self) -> tuple[int, int]:
        """Of the text's states and of the pooled vector."""
        return self.gemma.config.hidden_size, self.clip.config.projection_dim


def network(shape: MGTConfig, state: dict[str, Tensor], connector: str, joint: int, seed: int) -> EditMGT:
    """A transformer in float32 with its weights and a connector of the wanted kind, new where it had another.

    EditError where weights are missing or of another shape.
    """
    kept = connector == shape.connector and joint == shape.joint_attention_dim
    shape = replace(shape, connector=connector, joint_attention_dim=joint)
    torch.manual_seed(seed)
    net = EditMGT(shape)
    wanted = {k: v for k, v in net.state_dict().items() if kept or not k.startswith("connector.")}
    wrong = [k for k, v in wanted.items() if k not in state or state[k].shape != v.shape]
    if wrong:
        raise EditError(f"{len(wrong)} tensors are missing or of another shape, first {wrong[0]!r}; download it again.")
    net.load_state_dict({k: state[k].float() for k in wanted}, strict=False)
    return net


def read(folder: Path) -> tuple[MGTConfig, dict[str, Tensor]]:
    """Config and weights of a transformer's folder. EditError for bad files."""
    state = config.clean(files.read_weights(folder))
    return config.read(files.read_json(folder / "config.json"), state), state
