"""The frozen encoders of a FLUX.1 folder in diffusers' layout: the autoencoder, T5 and CLIP."""

from pathlib import Path

import torch
from torch import Tensor

from ...models.errors import EditError

PARTS = ("vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")
FILES = {"tokenizer": "tokenizer_config.json", "tokenizer_2": "tokenizer_config.json"}  # else config.json
TOKENS = 512  # of T5, pads and all, as the released pipelines encode
CLIP_TOKENS = 77


def find(model: str | None, named: dict[str, str | None]) -> dict[str, Path]:
    """The folder of each part below `model`; below named["text"], or in or below named["vae"], where these are given.

    EditError for one that is not there.
    """
    found = {}
    for part in PARTS:
        given = named["vae" if part == "vae" else "text"]
        if not (given or model):
            raise EditError("Name the folder of the encoders with --model, or --vae and --text.")
        root = Path(given or model).expanduser()
        places = (root / part, root) if given and part == "vae" else (root / part,)
        file = FILES.get(part, "config.json")
        found[part] = next((place for place in places if (place / file).is_file()), None)
        if found[part] is None:
            raise EditError(f"There is no {part} in {root} ({part}/{file} is missing); see --vae and --text.")
    return found


class Encoders:
    """Pictures and texts to what a FLUX.1 transformer takes."""

    def __init__(self, folders: dict[str, Path], device: str, dtype: torch.dtype, tokens: int = TOKENS):
        from diffusers import AutoencoderKL
        from transformers import AutoTokenizer, CLIPTextModel, T5EncoderModel

        kinds = {"vae": AutoencoderKL, "text_encoder": CLIPTextModel, "text_encoder_2": T5EncoderModel}
        self.vae, self.clip, self.t5 = (
            kind.from_pretrained(folders[name], local_files_only=True).to(device, dtype).eval()
            for name, kind in kinds.items()
        )
        self.tokenizers = [
            AutoTokenizer.from_pretrained(folders[name], local_files_only=True)
            for name in ("tokenizer", "tokenizer_2")
        ]
        self.device, self.dtype, self.tokens = device, dtype, tokens

    @property
    def scale(self) -> int:
        """Pixels per side of a latent."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @torch.no_grad()
    def latent(self, picture: Tensor) -> Tensor:
        """A picture [3, h, w] in 0..1 to a latent [c, h/8, w/8], shifted and scaled as the transformer takes it.

        The mode, not a sample, of the encoder's distribution, so that a prepared table is always the same.
        """
        given = (2 * picture - 1)[None].to(self.device, self.dtype)
        mode, config = self.vae.encode(given).latent_dist.mode()[0], self.vae.config
        return ((mode - (config.shift_factor or 0)) * config.scaling_factor).cpu()

    @torch.no_grad()
    def text(self, text: str) -> tuple[Tensor, Tensor]:
        """T5's states [tokens, joint], pads and all, and CLIP's pooled vector [p]."""
        clip, t5 = self.tokenizers
        words = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
        longest = min(CLIP_TOKENS, self.clip.config.max_position_embeddings)
        pooled = self.clip(clip([text], max_length=longest, **words).input_ids.to(self.device)).pooler_output[0]
        states = self.t5(t5([text], max_length=self.tokens, **words).input_ids.to(self.device))[0][0]
        return states.cpu(), pooled.cpu()
