"""Reads the folder of EditMGT as it is published, and that of base Meissonic.

    editmgt/ (Meissonic: transformer/)   config.json + the transformer's weights
    text_encoder/, tokenizer/            CLIP ViT-H's text tower and its tokenizer
    llm_encoder/                         Gemma2-2B-IT and its tokenizer (Meissonic has none)
    vqvae/                               the VQ tokenizer
    scheduler/                           scheduler_config.json

Weights are read as `files` says; LoRA files as `lora` does.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import EditError
from ..files import save_tensors
from . import clip_text, config, files, gemma, vq
from .clip_text import ClipText
from .config import MGTConfig
from .gemma import Gemma2
from .options import TIMES
from .schedule import SCHEDULES
from .transformer import EditMGT
from .vq import VQ

TRANSFORMERS = ("editmgt", "transformer")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
PUBLISHED = "https://huggingface.co/WeiChow/EditMGT"
SCHEDULER = "scheduler_config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
TRAINING = "training.json"  # what our training notes beside what it exports
EXPECTED = "editmgt/, text_encoder/, tokenizer/, llm_encoder/, vqvae/ and scheduler/"


@dataclass(frozen=True)
class Parts:
    """Where the parts of a folder lie. llm_encoder is None for base Meissonic, whose text is CLIP's alone."""

    folder: Path
    transformer: Path
    text_encoder: Path
    tokenizer: Path
    vqvae: Path
    scheduler: Path
    llm_encoder: Path | None


@dataclass(frozen=True)
class Settings:
    """What the scheduler's file says: the id of [MASK], and how the masked share falls ("cosine" or "linear")."""

    mask_token_id: int = 8255
    masking_schedule: str = "cosine"


def folders(root: Path) -> list[Path]:
    """The folders in `root` that hold a release or a part of one, by the names that no other model's folder has."""
    found = {
        root / path.relative_to(root).parts[0]
        for name in ("editmgt", "llm_encoder", "vqvae")
        for path in root.glob(f"*/**/{name}/config.json")
    }
    return sorted(found)


def find(folder: Path | str) -> Parts:
    """The parts of a folder, or of the one folder in it that is EditMGT's.

    EditError where it does not exist, is another model's, or lacks parts: their names and where they belong.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise EditError(
            f"There is no folder {folder}; put EditMGT's release ({EXPECTED}, from {PUBLISHED}) there."
        )
    root = next((p for p in _candidates(folder) if any((p / name).is_dir() for name in TRANSFORMERS)), None)
    if root is None:
        raise EditError(
            f"{folder} holds nothing of EditMGT; it should hold {EXPECTED}, which {PUBLISHED} offers."
        )
    transformer = next(root / name for name in TRANSFORMERS if (root / name).is_dir())
    language = root / "llm_encoder" if _reads_gemma(root, transformer) else None
    _all_there(root, transformer, language)
    rest = (root / name for name in ("text_encoder", "tokenizer", "vqvae", "scheduler"))
    return Parts(root, transformer, *rest, language)


def _candidates(folder: Path) -> list[Path]:
    inside = sorted(p for pattern in ("*", "*/*") for p in folder.glob(pattern) if p.is_dir())
    return [folder, *(p for p in inside if not p.name.startswith("."))]


def _reads_gemma(root: Path, transformer: Path) -> bool:
    """Whether the instruction goes through a language model; base Meissonic's does not."""
    if transformer.name == TRANSFORMERS[0] or (root / "llm_encoder").is_dir():
        return True
    path = transformer / "config.json"
    data = files.read_json(path) if path.is_file() else {}
    return "connector_type" in data or "gemma" in str(data.get("text_encoder_architecture", "")).lower()


def _all_there(root: Path, transformer: Path, language: Path | None) -> None:
    tokenizers = {"tokenizer": root / "tokenizer"} | ({"llm_encoder": language} if language else {})
    wanted = [
        transformer / "config.json",
        root / "text_encoder" / "config.json",
        root / "vqvae" / "config.json",
    ]
    wanted += [root / "scheduler" / SCHEDULER] + ([language / "config.json"] if language else [])
    missing = [path.relative_to(root).as_posix() for path in wanted if not path.is_file()]
    for name, where in tokenizers.items():
        if not any((where / file).is_file() for file in TOKENIZER_FILES):
            missing.append(f"{name}/{TOKENIZER_FILES[0]}")
    if missing:
        raise EditError(f"{root} lacks {', '.join(missing)}; download the whole folder from {PUBLISHED}.")


def settings(parts: Parts) -> Settings:
    """The scheduler's settings. EditError for a schedule that is unknown or an id that is none."""
    path = parts.scheduler / SCHEDULER
    data = files.read_json(path)
    made = Settings(**{k: data[k] for k in ("mask_token_id", "masking_schedule") if k in data})
    if made.masking_schedule not in SCHEDULES:
        known = ", ".join(SCHEDULES)
        raise EditError(f"{path} asks for the mask schedule {made.masking_schedule!r}; known are {known}.")
    if isinstance(made.mask_token_id, bool) or not isinstance(made.mask_token_id, int):
        raise EditError(
            f"{path} has the mask token {made.mask_token_id!r}, which is no id; download it again."
        )
    return made


def trained_time(folder: Path | str) -> str | None:
    """What each step was told in training ("step" or "ratio"), where a training.json says so.

    EditError for one that is damaged or says something else.
    """
    path = Path(folder) / TRAINING
    time = files.read_json(path).get("time") if path.is_file() else None
    if time not in (None, *TIMES):
        raise EditError(f"{path} says that steps were told {time!r}; known are {', '.join(TIMES)}.")
    return time


def load_transformer(
    parts: Parts, dtype: torch.dtype | None = None, device: torch.device | str = "cpu", operations=nn
) -> EditMGT:
    """The transformer. dtype: as the file has it by default.

    EditError for a bad file, for weights that do not fit, and for a text encoder that is not the one it reads.
    """
    data = files.read_json(parts.transformer / "config.json")
    state = config.clean(files.read_weights(parts.transformer))
    shape = config.read(data, state)
    _check_text(parts, shape)
    with torch.device("meta"):
        model = EditMGT(shape, operations)
    return files.fit(model, state, parts.transformer, dtype, device)


def _check_text(parts: Parts, shape: MGTConfig) -> None:
    """The instruction's encoder must be as wide as what the transformer takes."""
    if parts.llm_encoder is None:
        encoder, found = (
            parts.text_encoder,
            clip_text.read(files.read_json(parts.text_encoder / "config.json")),
        )
    else:
        encoder, found = parts.llm_encoder, gemma.read(files.read_json(parts.llm_encoder / "config.json"))
    expected = shape.width if shape.connector == "none" else shape.joint_attention_dim
    if found.hidden_size != expected:
        raise EditError(
            f"The transformer in {parts.transformer} reads text states {expected} wide, and those of {encoder} are "
            f"{found.hidden_size} wide; use the folders that were published together."
        )
    mask = settings(parts).mask_token_id
    if mask != shape.mask_token:
        raise EditError(
            f"The scheduler's mask token is {mask}, and the transformer's {shape.mask_token}; "
            "use the folders that were published together."
        )


def load_gemma(
    parts: Parts, dtype: torch.dtype | None = None, device: torch.device | str = "cpu", operations=nn
) -> Gemma2:
    """Gemma without its last layer and head, which are not even read. EditError for base Meissonic and bad files."""
    if parts.llm_encoder is None:
        raise EditError(
            f"{parts.folder} is base Meissonic's, which has no language model; CLIP reads its text."
        )
    shape = gemma.read(files.read_json(parts.llm_encoder / "config.json"))
    state = files.read_weights(parts.llm_encoder, lambda name: gemma.needed(name, shape))
    with torch.device("meta"):
        model = Gemma2(shape, operations)
    return files.fit(model, gemma.weights(state, shape), parts.llm_encoder, dtype, device)


def load_clip(
    parts: Parts, dtype: torch.dtype | None = None, device: torch.device | str = "cpu", operations=nn
) -> ClipText:
    """CLIP's text tower. EditError for a bad file."""
    shape = clip_text.read(files.read_json(parts.text_encoder / "config.json"))
    state = files.read_weights(parts.text_encoder, clip_text.needed)
    with torch.device("meta"):
        model = ClipText(shape, operations)
    return files.fit(model, state, parts.text_encoder, dtype, device)


def load_vq(parts: Parts, device: torch.device | str = "cpu") -> VQ:
    """The VQ tokenizer, in float32 whatever the file has. EditError for a bad file."""
    data, state = files.read_json(parts.vqvae / "config.json"), files.read_weights(parts.vqvae)
    return build_vq(data, state, parts.vqvae, device)


def build_vq(
    data: dict, state: dict[str, Tensor], where: Path | str, device: torch.device | str = "cpu"
) -> VQ:
    """The VQ tokenizer of a config.json and weights, which come from `where`."""
    return VQ(files.fit(vq.build(data), config.clean(state), where, torch.float32, device))


def save_transformer(folder: Path | str, shape: MGTConfig, state: dict[str, Tensor]) -> None:
    """Writes config.json and weights of a transformer, each file whole or not at all, as `load_transformer` reads."""
    data = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(shape).items() if k != "connector"}
    save_tensors(Path(folder) / WEIGHTS, config.clean(state))
    files.save_json(Path(folder) / "config.json", data | {"connector_type": shape.connector})


def save_settings(folder: Path | str, made: Settings) -> None:
    """Writes a scheduler's folder."""
    files.save_json(Path(folder) / SCHEDULER, asdict(made))
