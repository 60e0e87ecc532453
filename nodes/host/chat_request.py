"""One question to an OpenAI-compatible address over HTTP: time limits, retries, and what replies mean.

Redirects are not followed. The user can cancel at any moment.
"""

import http.client
import ipaddress
import json
import queue
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ...models.icedit import answers
from ...models.icedit.judging import JudgeFailed
from .devices import in_comfyui

AGAIN = {408, 409, 425, 429, 500, 502, 503, 504, 529}  # statuses after which a later try may succeed
LONGEST_ANSWER, FIRST_PAUSE, LONGEST_PAUSE = 2**18, 0.5, 30.0  # bytes, seconds


def answer(url: str, body: bytes, headers: dict, seconds: float, retries: int, key: str | None) -> str:
    """The words of a chat completion, without the key. seconds: for one try, from connecting to the last byte.

    JudgeFailed when no try brings any: at once where another try would not help.
    """
    request = urllib.request.Request(url, body, headers, method="POST")
    call = _Call(request, urlsplit(url).hostname or "", seconds, key)
    for attempt in range(retries + 1):
        try:
            return call.words(wait_for(call.body, seconds))
        except _Later as late:
            if attempt == retries:
                tries = f" ({attempt + 1} tries)" if attempt else ""
                raise JudgeFailed(f"{late.said}{tries}.", down=True) from None
            pause(min(late.pause or FIRST_PAUSE * 2**attempt, LONGEST_PAUSE))
    raise AssertionError  # the last try has returned or raised


class _Later(Exception):
    """A try that failed and may be repeated, after `pause` seconds where the server says so."""

    def __init__(self, said: str, pause: float | None = None):
        super().__init__(said)
        self.said, self.pause = said, pause


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect could lead the pictures and the key elsewhere: it is an error, told with the host it leads to."""

    def redirect_request(self, *args, **kwargs):
        return None


def _opener(host: str):
    """Without redirects; and without the environment's proxy for this machine itself."""
    handlers: list = [_NoRedirect()]
    if is_loopback(host):
        handlers.append(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener(*handlers)


def is_loopback(host: str) -> bool:
    """Whether the name or the address is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost" or host.lower().endswith(".localhost")


@dataclass(frozen=True)
class _Call:
    """One request and how its reply is understood. What the other side says is told without key and pictures."""

    request: urllib.request.Request = field(repr=False)
    host: str
    seconds: float
    key: str | None = field(repr=False)

    def body(self) -> bytes:
        """The reply's body within its time, which counts to the last byte. JudgeFailed, or _Later."""
        end = time.monotonic() + self.seconds
        try:
            with _opener(self.host).open(self.request, timeout=self.seconds) as reply:
                return self._read(reply, end)
        except urllib.error.HTTPError as error:
            raise self._refusal(error) from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)  # urllib's own errors are OSErrors with a reason
            if isinstance(reason, TimeoutError):
                raise _Later(f"{self.host} did not answer within {self.seconds:g} s") from None
            raise _Later(f"{self.host} does not answer: {self._told(str(reason) or type(reason).__name__)}") from None

    def _read(self, reply, end: float) -> bytes:
        """The whole body. A server that sends a little now and then does not get past its time."""
        parts, size = [], 0
        while part := reply.read1(65536):
            parts.append(part)
            size += len(part)
            if size > LONGEST_ANSWER:
                raise JudgeFailed(f"{self.host} answers with over {LONGEST_ANSWER} bytes.", down=True)
            if time.monotonic() > end:
                raise TimeoutError
        return b"".join(parts)

    def _refusal(self, error: urllib.error.HTTPError) -> Exception:
        """What a status means."""
        status = error.code
        if 300 <= status < 400:
            where = urlsplit(error.headers.get("Location") or "").hostname or "another address"
            return JudgeFailed(f"{self.host} redirects to {where}, which is not followed; write the final URL.", True)
        try:
            said = self._told(error.read(4096).decode("utf-8", "replace"))
        except (OSError, http.client.HTTPException):  # the status alone says enough
            said = ""
        said = said or self._told(str(error.reason))
        if status in AGAIN:
            return _Later(f"{self.host} answers {status} {said}".rstrip(), _pause_asked(error))
        hint = {401: "; check the key", 403: "; check the key", 404: "; check the URL and the model"}.get(status, "")
        return JudgeFailed(f"{self.host} refuses with {status}{hint}: {said}.", status in (401, 403, 404))

    def words(self, body: bytes) -> str:
        """The text of a chat completion. _Later for another body: a web page, half an answer, none."""
        try:
            content = json.loads(body)["choices"][0]["message"]["content"]
            if isinstance(content, list):
                content = "".join(part["text"] for part in content if part.get("type") == "text")
            if isinstance(content, str) and content.strip():
                return self._clean(content)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            pass
        said = self._told(body[:2000].decode("utf-8", "replace"), 80)
        raise _Later(f"{self.host} does not answer as a chat completion does: {said or 'nothing'}")

    def _told(self, text: str, most: int = 200) -> str:
        return answers.shortened(self._clean(text), most)

    def _clean(self, text: str) -> str:
        """Without the key, and without pictures that a server sends back."""
        text = text.replace(self.key, "…") if self.key else text
        return re.sub(r"(data:image/|base64,)\S*|[A-Za-z0-9+/]{120,}={0,2}", "…", text)


def _pause_asked(error: urllib.error.HTTPError) -> float | None:
    value = error.headers.get("Retry-After") or ""
    return float(value) if value.isdecimal() and len(value) < 6 else None


def wait_for(run: Callable[[], bytes], seconds: float) -> bytes:
    """run() in a thread of its own, so that the user can cancel meanwhile. _Later when it takes too long."""
    done: queue.Queue = queue.Queue(1)

    def work():
        try:
            done.put((run(), None))
        except BaseException as error:  # it is raised again below
            done.put((None, error))

    threading.Thread(target=work, name="editkit-judge", daemon=True).start()
    end = time.monotonic() + seconds + 1
    while True:
        stop_if_cancelled()
        try:
            value, error = done.get(timeout=0.05)
        except queue.Empty:
            if time.monotonic() > end:  # connecting can take longer than the socket's own limit
                raise _Later(f"There was no answer within {seconds:g} s") from None
            continue
        if error is not None:
            raise error
        return value


def pause(seconds: float) -> None:
    """Waits, unless the user cancels."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        stop_if_cancelled()
        time.sleep(min(left, 0.1))


def stop_if_cancelled() -> None:
    """Raises ComfyUI's own interruption when the user has cancelled."""
    if in_comfyui():
        import comfy.model_management

        comfy.model_management.throw_exception_if_processing_interrupted()
