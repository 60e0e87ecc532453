"""What a ComfyUI server tells while it works: its messages of steps done, over a WebSocket (RFC 6455).

Nothing depends on them but the progress bar: whatever goes wrong here, the caller asks /history as well.
"""

import base64
import contextlib
import hashlib
import json
import os
import socket
import struct
import time
from collections.abc import Callable

from .remote import Remote

SUFFIX = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
LARGEST = 1 << 26  # bytes of a message; a preview picture is far smaller
AGAIN = 10.0  # seconds between two attempts to connect
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


class Events:
    """The messages to one client id. hear(kind, data) gets each; true means that waiting may end."""

    def __init__(self, remote: Remote, client_id: str, hear: Callable[[str, dict], bool | None]):
        self._remote, self._client_id, self._hear = remote, client_id, hear
        self._socket: socket.socket | None = None
        self._buffer, self._message, self._next = b"", b"", 0.0

    def wait(self, seconds: float) -> None:
        """Listens for so long, or until hear() says that something has ended; sleeps where it cannot listen."""
        end = time.monotonic() + seconds
        try:
            if self._socket is None and time.monotonic() >= self._next:
                self._connect()
            while self._socket is not None and (left := end - time.monotonic()) > 0:
                if any([self._heard(frame) for frame in self._frames(left)]):
                    return
        except (OSError, ValueError):  # the server is gone, or speaks another language
            self.close()
        time.sleep(max(0.0, end - time.monotonic()))

    def close(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
        self._socket, self._buffer, self._message = None, b"", b""
        self._next = time.monotonic() + AGAIN

    def _connect(self) -> None:
        self._next = time.monotonic() + AGAIN
        connection = self._remote.connection(3.0)
        connection.connect()
        self._socket, where = connection.sock, self._remote.address
        key = base64.b64encode(os.urandom(16)).decode()
        headers = {
            "Host": where.place, "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": key,
            "Sec-WebSocket-Version": "13", **self._remote.header,
        }  # fmt: skip
        lines = [f"GET {where.prefix}/ws?clientId={self._client_id} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        answer = self._head()
        wanted = base64.b64encode(hashlib.sha1((key + SUFFIX).encode()).digest())
        if b" 101 " not in answer.split(b"\r\n")[0] or wanted not in answer:
            raise ValueError("not a WebSocket")

    def _head(self) -> bytes:
        while b"\r\n\r\n" not in self._buffer:
            if not self._receive() or len(self._buffer) > 1 << 16:
                raise ValueError("not a WebSocket")
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        return head

    def _receive(self) -> bool:
        data = self._socket.recv(1 << 16)
        self._buffer += data
        return bool(data)

    def _frames(self, seconds: float) -> list[tuple[int, int, bytes]]:
        """The frames that have come in whole: (last of its message, opcode, content)."""
        self._socket.settimeout(max(seconds, 0.01))
        try:
            if not self._receive():
                raise ValueError("closed")
        except TimeoutError:
            return []
        found = []
        while (frame := self._frame()) is not None:
            found.append(frame)
        return found

    def _frame(self) -> tuple[int, int, bytes] | None:
        """Takes one frame off the buffer, when it is there to its end (RFC 6455, 5.2)."""
        if len(self._buffer) < 2:
            return None
        first, length = self._buffer[0], self._buffer[1]
        start, form = {126: (4, ">H"), 127: (10, ">Q")}.get(length, (2, ""))
        if len(self._buffer) < start:
            return None
        if form:
            (length,) = struct.unpack(form, self._buffer[2:start])
        if length > LARGEST or self._buffer[1] & 0x80:  # servers do not mask
            raise ValueError("a frame that no ComfyUI sends")
        if len(self._buffer) < start + length:
            return None
        content, self._buffer = self._buffer[start : start + length], self._buffer[start + length :]
        return first & 0x80, first & 0x0F, content

    def _heard(self, frame: tuple[int, int, bytes]) -> bool:
        last, opcode, content = frame
        if opcode == CLOSE:
            raise ValueError("closed")
        if opcode == PING:
            self._send(PONG, content[:125])
        if opcode == TEXT or (opcode == 0 and self._message):
            self._message += content
        if not last or opcode > TEXT or not self._message:  # binary ones are preview pictures
            return False
        message, self._message = json.loads(self._message), b""
        data = message.get("data") if isinstance(message, dict) else None
        return bool(self._hear(str(message.get("type")), data)) if isinstance(data, dict) else False

    def _send(self, opcode: int, content: bytes) -> None:
        """A client masks what it sends (RFC 6455, 5.3)."""
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(content))
        self._socket.sendall(bytes([0x80 | opcode, 0x80 | len(content)]) + mask + masked)
