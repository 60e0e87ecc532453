"""Judges that run here: a vision-language model, or CLIP, of a transformers folder below models/editkit.

Only safetensors are read, nothing is fetched, and no code of the folder runs.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from ...models.errors import EditError
from ...models.icedit import answers
from ...models.icedit.judging import JudgeFailed
from .devices import Managed, load_device, managed
from .folders import vision_folder
from .models import fingerprint
from .pictures import as_pillow
from .progress import reporter

FROM_FOLDER = {"local_files_only": True, "trust_remote_code": False}
_loaded: dict[str, tuple[tuple, SimpleNamespace]] = {}  # one of a kind: they are large


@dataclass(frozen=True)
class LocalModel:
    """A vision-language model of a folder's name. tokens: the longest answer; side: longest side of a picture."""

    folder: str
    tokens: int = 256
    side: int = 768

    def __post_init__(self):
        vision_folder(self.folder, "chat")

    @property
    def name(self) -> str:
        return self.folder

    def ask(self, question: str, pictures: Sequence[Tensor]) -> str:
        """The model's words, chosen greedily. JudgeFailed when the device is too small for it."""
        held = _model(vision_folder(self.folder, "chat"), "chat")
        shown = [as_pillow(picture, self.side) for picture in pictures]
        content = [*({"type": "image"} for _ in shown), {"type": "text", "text": question}]
        messages = [{"role": "user", "content": content}]
        prompt = held.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        inputs = held.processor(text=[prompt], images=shown, return_tensors="pt")
        with _failing_softly(self.folder):
            model = held.managed.ready().inner
            inputs = _placed(inputs, model)
            with torch.inference_mode():
                made = model.generate(
                    **inputs, max_new_tokens=self.tokens, do_sample=False, stopping_criteria=_stopping(self.tokens)
                )
        new = made[:, inputs["input_ids"].shape[1] :]
        return held.processor.batch_decode(new, skip_special_tokens=True)[0].strip()


@dataclass(frozen=True)
class ClipScorer:
    """CLIP of a folder's name."""

    folder: str

    def __post_init__(self):
        vision_folder(self.folder, "clip")

    def scores(self, pictures: Sequence[Tensor], text: str) -> list[float]:
        """The cosine of each picture and the text, −1 to 1."""
        held = _model(vision_folder(self.folder, "clip"), "clip")
        shown = [as_pillow(picture) for picture in pictures]
        inputs = held.processor(text=[text], images=shown, return_tensors="pt", padding=True, truncation=True)
        with _failing_softly(self.folder), torch.inference_mode():
            model = held.managed.ready().inner
            made = model(**_placed(inputs, model))
        images, words = (nn.functional.normalize(e.float(), dim=-1) for e in (made.image_embeds, made.text_embeds))
        return (images @ words.T)[:, 0].tolist()


class _Holder(nn.Module):
    """Keeps a transformers model; ComfyUI notes the device on it, which transformers' own classes refuse."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner


def _model(folder: Path, kind: str) -> SimpleNamespace:
    """(managed model, processor) of a folder; loaded again when its files have changed. EditError for a damaged one."""
    mark = (str(folder), fingerprint(folder))
    if kind not in _loaded or _loaded[kind][0] != mark:
        _loaded.pop(kind, None)
        _loaded[kind] = mark, _load(folder, kind)
    return _loaded[kind][1]


def _load(folder: Path, kind: str) -> SimpleNamespace:
    import transformers

    classes = {"chat": "AutoModelForImageTextToText", "clip": "CLIPModel"}
    cls = getattr(transformers, classes[kind], None)
    if cls is None:
        raise EditError(f"transformers {transformers.__version__} has no {classes[kind]}; update it.")
    try:
        processor = transformers.AutoProcessor.from_pretrained(folder, **FROM_FOLDER)
        model = cls.from_pretrained(folder, use_safetensors=True, **_precision(transformers), **FROM_FOLDER)
    except ImportError as error:
        said = answers.shortened(str(error))
        raise EditError(f"The model in {folder.name!r} needs a library that is not installed ({said}).") from None
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        said = answers.shortened(str(error))
        raise EditError(f"The model in {folder.name!r} cannot be loaded; download it again ({said}).") from None
    return SimpleNamespace(managed=_held(model, folder), processor=processor)


def _held(model: nn.Module, folder: Path) -> Managed:
    return managed(_Holder(model.requires_grad_(False).eval()), folder)


def _precision(transformers) -> dict:
    """bf16 where the device computes in it, else fp32, under the name that this version of transformers has for it."""
    device = load_device()
    dtype = torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
    version = tuple(int(part) for part in transformers.__version__.split(".")[:2])
    return {"dtype" if version >= (4, 56) else "torch_dtype": dtype}


def _placed(inputs, model: nn.Module) -> dict[str, Tensor]:
    """A processor's tensors where the model is, floats in its precision."""
    weight = next(model.parameters())
    return {
        name: value.to(weight.device, weight.dtype if value.is_floating_point() else value.dtype)
        for name, value in inputs.items() if isinstance(value, Tensor)
    }  # fmt: skip


def _stopping(tokens: int):
    """Tells each token as progress, which is also where a cancelled run stops."""
    import transformers

    report = reporter()

    class Told(transformers.StoppingCriteria):
        done = 0

        def __call__(self, input_ids, scores, **_):
            self.done += 1
            report(min(self.done, tokens), tokens)
            return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

    return transformers.StoppingCriteriaList([Told()])


@contextmanager
def _failing_softly(folder: str) -> Iterator[None]:
    """A device that is too small is the judge's failure, not the end of a run that has its candidates."""
    try:
        yield
    except torch.cuda.OutOfMemoryError:
        said = f"The device has too little memory for the judge {folder!r}; take a smaller model."
        raise JudgeFailed(said, down=True) from None
