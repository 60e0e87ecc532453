"""A ComfyUI server over HTTP, with the standard library alone: what it is asked, and what its answers mean."""

import http.client
import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from .errors import EditError

HEADER = "EDITKIT_SERVER_HEADER"  # environment: `Name: value`, sent with every request, never shown
SILENCE = 30.0  # seconds without a byte after which a server counts as gone
LONGEST = 600.0  # seconds that one reply may take in all
GATEWAYS = (502, 503, 504)  # a proxy's way of saying that the server behind it is not there


class Unreachable(Exception):
    """The server did not answer, or not to the end: another try may succeed. `status` if it said one."""

    def __init__(self, reason: str, status: int | None = None):
        super().__init__(reason)
        self.status = status


class Refused(EditError):
    """The server answered, and said no. `status` is HTTP's."""

    def __init__(self, sentence: str, status: int):
        super().__init__(sentence)
        self.status = status


class Address(NamedTuple):
    """Where a server is; `prefix` is what comes before /prompt, without a slash at its end."""

    secure: bool
    host: str
    port: int | None
    prefix: str

    @property
    def place(self) -> str:
        """HOST:PORT, as in the header Host."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"http{'s' * self.secure}://{self.place}{self.prefix}"


def address(url: str) -> Address:
    """Reads http://HOST:PORT/PREFIX, https too; without a scheme it is http. EditError for anything else."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = None, None, None
    if parts is not None and "@" in parts.netloc:
        raise EditError(
            "A server's address holds no name and password; set the environment variable "
            f"{HEADER} to the header that the server wants, such as `Authorization: Basic …`."
        )
    if not host or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        raise EditError(f"{url!r} is no server's address; write it as http://127.0.0.1:8188.")
    return Address(parts.scheme == "https", host, port, quote(parts.path.rstrip("/"), safe="/%"))


def own_header() -> dict[str, str]:
    """The header that the environment adds, if any. EditError, without its value, when it is no header."""
    text = os.environ.get(HEADER, "")
    name, colon, value = text.partition(":")
    if not text:
        return {}
    if not colon or not name.strip() or " " in name.strip() or not (text.isascii() and text.isprintable()):
        raise EditError(f"The environment variable {HEADER} is no header; write it as `Name: value`.")
    return {name.strip(): value.strip()}


class Remote:
    """Requests to one server. Each opens a connection, and ends: no answer takes longer than LONGEST.

    No redirect is followed, so the header of the environment goes to this server only. Every method raises
    Unreachable, Refused, or EditError for an answer that no ComfyUI gives.
    """

    def __init__(self, url: str):
        self.address = address(url)
        self.header = own_header()

    def connection(self, seconds: float | None = None) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self.address.secure else http.client.HTTPConnection
        return kind(self.address.host, self.address.port, timeout=SILENCE if seconds is None else seconds)

    def get(self, path: str, seconds: float | None = None) -> dict:
        """GET of JSON."""
        with self._reply("GET", path, seconds=seconds) as reply:
            return self._json(path, *reply)[1]

    def post(self, path: str, body: dict, seconds: float | None = None) -> tuple[int, dict]:
        """POST of JSON. Returns (status, JSON); 400 with ComfyUI's error dicts is such an answer."""
        data, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
        with self._reply("POST", path, data, headers, seconds, accepted=(200, 400)) as reply:
            return self._json(path, *reply)

    def upload(self, file: Path, name: str, subfolder: str) -> str:
        """Puts a picture into the server's input folder. Returns what LoadImage is to be given."""
        boundary = uuid.uuid4().hex
        fields = {"type": "input", "subfolder": subfolder}
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'
            for key, value in fields.items()
        ]
        parts.append(
            f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        try:
            body = "".join(parts).encode() + file.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
        except OSError as problem:
            raise EditError(f"Cannot read {file}: {problem.strerror or problem}.") from problem
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        try:
            with self._reply("POST", "/upload/image", body, headers) as reply:
                stored = self._json("/upload/image", *reply)[1]
        except Refused as refusal:
            if refusal.status != 413:
                raise
            raise EditError(
                f"{file} is larger than {self.address} takes; make it smaller, or start the server with a "
                "larger --max-upload-size."
            ) from refusal
        try:
            path = f"{stored['subfolder']}/{stored['name']}".lstrip("/")
            return path if stored["type"] == "input" else f"{path} [{stored['type']}]"
        except KeyError:
            raise self._stranger("/upload/image") from None

    def download(self, stored: dict, file: BinaryIO) -> None:
        """Fetches one file of a history entry into an open one. Unreachable when it breaks off on the way."""
        query = urlencode({key: str(stored.get(key, "")) for key in ("filename", "subfolder", "type")})
        with self._reply("GET", f"/view?{query}") as (_, response):
            for chunk in _chunks(response, must_have_length=True):
                file.write(chunk)

    @contextmanager
    def _reply(
        self, method: str, path: str, body=None, headers=None, seconds: float | None = None, accepted=(200,)
    ) -> Iterator[tuple[int, http.client.HTTPResponse]]:
        connection = self.connection(seconds)
        try:
            with _as_unreachable():
                connection.request(
                    method, self.address.prefix + path, body,
                    {"Connection": "close", "Accept-Encoding": "identity", **self.header, **(headers or {})},
                )  # fmt: skip
                response = connection.getresponse()
            if response.status in GATEWAYS or response.status >= 500:
                raise Unreachable(f"it answered {response.status} {response.reason}", response.status)
            if response.status not in accepted:
                raise Refused(self._no(path, response), response.status)
            yield response.status, response
        finally:
            connection.close()

    def _no(self, path: str, response: http.client.HTTPResponse) -> str:
        said = f"The server at {self.address} answered {response.status} {response.reason} to {path.split('?')[0]}"
        if response.status in (401, 403, 407):
            return f"{said}; set {HEADER} to the header that lets you in."
        if 300 <= response.status < 400:
            return f"{said}, which sends you elsewhere; give --server the address that it redirects to."
        return f"{said}; check that this is the address of a ComfyUI server."

    def _json(self, path: str, status: int, response: http.client.HTTPResponse) -> tuple[int, dict]:
        content = b"".join(_chunks(response))
        try:
            found = json.loads(content or b"{}")
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise self._stranger(path)
        return status, found

    def _stranger(self, path: str) -> EditError:
        return EditError(
            f"What answers at {self.address} is no ComfyUI server (its {path.split('?')[0]} is not ComfyUI's); "
            "check --server."
        )


def _chunks(response: http.client.HTTPResponse, must_have_length: bool = False) -> Iterator[bytes]:
    """The body; Unreachable when it is shorter than the server announced, or takes too long."""
    if must_have_length and response.length is None and not response.chunked:
        raise Unreachable("it did not say how long its answer is")
    end = time.monotonic() + LONGEST
    while True:
        with _as_unreachable():
            chunk = response.read1(1 << 16) if response.chunked else response.read(1 << 16)
        if not chunk:
            break
        yield chunk
        if time.monotonic() > end:
            raise Unreachable(f"its answer took more than {LONGEST:.0f} s")
    if response.length:
        raise Unreachable("its answer broke off")


@contextmanager
def _as_unreachable() -> Iterator[None]:
    try:
        yield
    except TimeoutError as problem:
        raise Unreachable("it does not answer in time") from problem
    except OSError as problem:
        raise Unreachable(problem.strerror or str(problem) or type(problem).__name__) from problem
    except http.client.HTTPException as problem:
        raise Unreachable(f"its answer broke off ({type(problem).__name__})") from problem
