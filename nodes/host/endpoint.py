"""An OpenAI-compatible vision endpoint: pictures and a question go to the one address that the user wrote.

The key is read from the environment when a question is asked. No object here holds it, and what a server says is told
on only without it.
"""

import base64
import io
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from torch import Tensor

from ...models.errors import EditError
from .pictures import as_pillow

OWN = "EDITKIT_"  # variables that a workflow from elsewhere may name
SECRET_PARAMETERS = r"(?i)key|token|secret|password|auth|sig"
TYPES = {"png": "PNG", "jpeg": "JPEG"}


@dataclass(frozen=True)
class Endpoint:
    """Where and how to ask. url: …/v1 or …/chat/completions; key_variable: the NAME of an environment variable.

    seconds: for one try, from sending to the last byte; retries: further tries, with growing pauses; side: longest
    side of a picture in pixels; tokens, temperature: sent unless 0 and below 0.
    """

    url: str
    model: str
    key_variable: str = ""
    seconds: float = 60.0
    retries: int = 2
    encoding: str = "png"
    side: int = 768
    tokens: int = 512
    temperature: float = 0.0

    def __post_init__(self):
        check_address(self.url)
        if not self.model.strip():
            raise EditError("The endpoint's model is empty; write the name that the endpoint knows it by.")
        self._key()

    @property
    def host(self) -> str:
        return host_of(self.url)

    @property
    def name(self) -> str:
        return f"{self.model.strip()} at {self.host}"

    def ask(self, question: str, pictures: Sequence[Tensor]) -> str:
        """The model's words. JudgeFailed when no try brings any; EditError when the key is gone."""
        from . import chat_request  # Python's HTTP, only when a question is asked

        key = self._key()
        body = json.dumps(self._body(question, pictures)).encode()
        headers = {"Content-Type": "application/json", "User-Agent": "ComfyUI-EditKit"}
        headers |= {"Authorization": f"Bearer {key}"} if key else {}
        return chat_request.answer(address(self.url), body, headers, self.seconds, self.retries, key)

    def _body(self, question: str, pictures: Sequence[Tensor]) -> dict:
        shown = [{"type": "image_url", "image_url": {"url": self._encoded(picture)}} for picture in pictures]
        content = [*shown, {"type": "text", "text": question}]
        body = {"model": self.model.strip(), "messages": [{"role": "user", "content": content}], "stream": False}
        body |= {"max_tokens": self.tokens} if self.tokens else {}
        return body | ({"temperature": self.temperature} if self.temperature >= 0 else {})

    def _encoded(self, picture: Tensor) -> str:
        file = io.BytesIO()
        as_pillow(picture, self.side).save(file, TYPES[self.encoding], quality=95)
        return f"data:image/{self.encoding};base64,{base64.b64encode(file.getvalue()).decode()}"

    def _key(self) -> str | None:
        return key_of(self.key_variable.strip(), self.host)


def host_of(url: str) -> str:
    """The host of a checked address."""
    return urlsplit(url.strip()).hostname or ""


def check_address(url: str) -> None:
    """EditError for what is no http(s) address, and for one with a secret in it: it would be saved in the workflow."""
    parts = urlsplit(url.strip())
    try:
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    if not good:
        raise EditError("The endpoint's URL is no address of http or https; write one such as http://127.0.0.1:8000/v1.")
    secret = any(re.search(SECRET_PARAMETERS, name) for name, _ in parse_qsl(parts.query, keep_blank_values=True))
    if parts.username or parts.password or secret:
        raise EditError(
            "The endpoint's URL holds a key or a password, which would be saved in the workflow; put it into an "
            "environment variable and name that in key_variable."
        )


def address(url: str) -> str:
    """The address that is asked: …/chat/completions is added where it is not written."""
    parts = urlsplit(url.strip())
    path = parts.path.rstrip("/")
    path = path if path.endswith("/completions") else f"{path or '/v1'}/chat/completions"
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def key_of(name: str, host: str) -> str | None:
    """The key in the environment variable of that name; None without a name.

    A workflow may come from elsewhere, so it may not send just any secret to just any address: the name begins with
    EDITKIT_, or NAME_HOST says which host the key is for; where NAME_HOST is set, it is sent to no other. EditError
    that does not repeat a name that is none: it may be the key itself.
    """
    if not name:
        return None
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise EditError("key_variable takes the name of an environment variable, never the key itself.")
    pinned = os.environ.get(f"{name}_HOST")
    if pinned is None and not name.startswith(OWN):
        raise EditError(
            f"The key variable must begin with {OWN}, or set <its name>_HOST to the host that its key is for: a "
            "workflow from elsewhere could otherwise send any secret to any address."
        )
    if pinned is not None and pinned.strip().lower() != host.lower():
        raise EditError(f"The key in {name} is for the host {pinned.strip()!r} and is not sent to {host!r}.")
    key = os.environ.get(name, "").strip()
    if not key or not key.isascii() or not key.isprintable():
        raise EditError(f"The environment variable {name} holds no key; set it where ComfyUI is started.")
    return key
