"""A language model of a local transformers folder. Only safetensors are read; nothing is fetched or run from it."""

import threading
from dataclasses import dataclass, field
from pathlib import Path

from ...models.errors import EditError
from ...models.icedit.answers import shortened

LOCAL = {"local_files_only": True, "trust_remote_code": False}


def pretrained(folder: Path, kind: str, helper: str):
    """(model in evaluation mode on the best device, tokenizer or processor) of a folder. kind, helper: transformers'
    class names. EditError for a folder that is not there or does not hold such a model."""
    import torch
    import transformers

    if not (folder / "config.json").is_file():
        raise EditError(f"{folder} holds no config.json; name the folder of a model in transformers' format.")
    try:
        extra = getattr(transformers, helper).from_pretrained(folder, **LOCAL)
        model = getattr(transformers, kind).from_pretrained(folder, use_safetensors=True, **LOCAL)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, AttributeError) as error:
        raise EditError(f"The model in {folder} cannot be loaded by {kind} ({shortened(str(error))}).") from None
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return model.requires_grad_(False).eval().to(device, _precision(device)), extra


def _precision(device):
    import torch

    return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32


@dataclass
class Language:
    """Answers without pictures. tokens: the longest answer. Loaded when the first question is asked."""

    folder: Path
    tokens: int = 512
    temperature: float = 0.0
    _held: tuple | None = None
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self):
        if not (self.folder / "config.json").is_file():
            raise EditError(f"--llm {self.folder} is neither an address (http://…/v1) nor a folder with a config.json.")

    @property
    def name(self) -> str:
        return self.folder.name

    def ask(self, question: str, pictures=()) -> str:
        """The model's words; drawn with a temperature above 0, else the likeliest."""
        import torch

        with self._turn, torch.inference_mode():
            if self._held is None:
                self._held = pretrained(self.folder, "AutoModelForCausalLM", "AutoTokenizer")
            model, tokenizer = self._held
            ids = self._prompt(tokenizer, question).to(model.device)
            drawn = {"do_sample": self.temperature > 0}
            drawn |= {"temperature": self.temperature} if self.temperature > 0 else {}
            made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=self.tokens, **drawn)
        return tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True).strip()

    def _prompt(self, tokenizer, question: str):
        """[1, t] token ids, in the model's own chat format where it has one."""
        if tokenizer.chat_template is None:
            return tokenizer(question, return_tensors="pt").input_ids
        messages = [{"role": "user", "content": question}]
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        return tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
