"""Which folders a SwiftEdit training reads. All is checked from their configs, before anything heavy is loaded."""

import json
from dataclasses import dataclass
from pathlib import Path

from ...models.errors import EditError
from ...models.swiftedit import generators, unets

PREDICTIONS = ("epsilon", "v_prediction")


@dataclass(frozen=True)
class Folders:
    """Where the networks lie; None for one that the run does without."""

    generator: Path
    text: Path
    tokenizer: Path
    vae: Path
    vision: Path | None = None
    teacher: Path | None = None
    prediction: str = "epsilon"  # the teacher's


def resolve(
    generator: str,
    family: generators.OneStep,
    *,
    text: str | None = None,
    vae: str | None = None,
    vision: str | None = None,
    image_branch: bool = True,
    teacher: str | None = None,
    prediction: str = "auto",
) -> Folders:
    """The folders of a run. What is not named is looked for beside the generator's UNet, as in a diffusers pipeline.

    EditError for a folder that is missing, or whose network does not fit the generator.
    """
    unet = unet_folder(generator, "--generator")
    beside = unet.parent
    texts = _existing(text, "--text") if text else beside
    found = Folders(
        unet,
        _part("text encoder", texts / "text_encoder", "--text", "config.json"),
        _part("tokenizer", texts / "tokenizer", "--text", "tokenizer_config.json"),
        _part("VAE", _either(vae, "--vae", "vae", beside), "--vae", "config.json"),
    )
    _check_widths(found, family)
    if image_branch:
        encoder = _either(vision, "--vision", "image_encoder", beside)
        found = _with(found, vision=_part("CLIP image encoder", encoder, "--vision", "config.json"))
    if teacher:
        teacher = unet_folder(teacher, "--teacher")
        _check_teacher(teacher, unet)
        found = _with(found, teacher=teacher, prediction=teacher_prediction(teacher, prediction))
    return found


def unet_folder(given: str, flag: str) -> Path:
    """The UNet of a folder that is one, or a whole diffusers pipeline. EditError otherwise, and for SDXL."""
    folder = _existing(given, flag)
    found = next((p for p in (folder / "unet", folder) if (p / "config.json").is_file()), None)
    if found is None:
        raise EditError(
            f"{flag} {folder} holds no config.json; name the folder of a diffusers UNet or pipeline."
        )
    unets.check(read_json(found / "config.json"), str(found))
    return found


def teacher_prediction(teacher: Path, asked: str) -> str:
    """What a teacher predicts: as asked, or as its scheduler says. EditError when neither does."""
    if asked != "auto":
        return asked
    for path in (teacher.parent / "scheduler/scheduler_config.json", teacher / "scheduler_config.json"):
        if path.is_file():
            kind = read_json(path).get("prediction_type", "epsilon")
            if kind not in PREDICTIONS:
                raise EditError(
                    f"{path} says that the teacher predicts {kind!r}; it must be epsilon or v_prediction."
                )
            return kind
    raise EditError(f"No scheduler beside {teacher} says what it predicts; say --teacher-prediction epsilon.")


def read_json(path: Path) -> dict:
    """A JSON object from a file. EditError when it is none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        data = None
    if not isinstance(data, dict):
        raise EditError(f"{path} is not readable as JSON; download it again.")
    return data


def _with(folders: Folders, **changes) -> Folders:
    return Folders(**{**vars(folders), **changes})


def _existing(given: str, flag: str) -> Path:
    folder = Path(given).expanduser()
    if not folder.is_dir():
        raise EditError(f"There is no folder {folder}, which {flag} names.")
    return folder


def _either(given: str | None, flag: str, name: str, beside: Path) -> Path:
    """The folder that the flag names, or its part of that name, or the one beside the generator."""
    if not given:
        return beside / name
    folder = _existing(given, flag)
    return folder / name if (folder / name / "config.json").is_file() else folder


def _part(what: str, folder: Path, flag: str, file: str) -> Path:
    if not (folder / file).is_file():
        raise EditError(f"There is no {what} in {folder} ({file} is missing); name its folder with {flag}.")
    return folder


def _check_widths(found: Folders, family: generators.OneStep) -> None:
    """The generator belongs to its family, and the text encoder and the VAE to the generator."""
    width = read_json(found.generator / "config.json").get("cross_attention_dim")
    if width in unets.FAMILY and width != family.context:
        raise EditError(
            f"{found.generator} is of the {unets.family(width)} family, and {family.name} of the "
            f"{unets.family(family.context)} family; name the right --family."
        )
    text = read_json(found.text / "config.json").get("hidden_size")
    if text != width:
        raise EditError(
            f"{found.text} makes embeddings {text} wide, and the generator takes {width}; see --text."
        )
    channels = read_json(found.vae / "config.json").get("latent_channels", 4)
    if channels != 4:
        raise EditError(f"{found.vae} has {channels} latent channels, and the generator 4; see --vae.")


def _check_teacher(teacher: Path, generator: Path) -> None:
    own, other = (read_json(p / "config.json").get("cross_attention_dim") for p in (teacher, generator))
    if own != other:
        raise EditError(
            f"{teacher} takes embeddings {own} wide, and the generator {other}; the teacher must be of its family."
        )
