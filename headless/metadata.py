"""The texts inside a PNG (PNG specification, 11.3.4), read without an imaging library."""

import struct
import zlib
from pathlib import Path

from .errors import EditError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LONGEST = 1 << 26  # bytes of one text, unpacked


def png_texts(path: Path) -> dict[str, str]:
    """Keyword -> text of every tEXt, zTXt and iTXt chunk. EditError for a file that is no PNG, or cut off."""
    texts = {}
    with path.open("rb") as file:
        if file.read(8) != SIGNATURE:
            raise EditError(f"{path} is not a workflow that can be read: it is no PNG, whatever its name says.")
        while True:
            head = file.read(8)
            length, kind = struct.unpack(">I4s", head) if len(head) == 8 else (0, b"cut off")
            if kind == b"IEND":
                return texts
            content = file.read(length) if kind in _READERS else b""
            if kind == b"cut off" or (kind in _READERS and len(content) < length):
                raise EditError(f"{path} is not a workflow that can be read: the file is cut off.")
            if kind in _READERS:
                texts.update(_READERS[kind](content))
            file.seek(4 if kind in _READERS else length + 4, 1)  # the checksum


def _plain(content: bytes) -> dict[str, str]:
    keyword, _, text = content.partition(b"\0")
    return {keyword.decode("latin-1"): text.decode("latin-1")}


def _packed(content: bytes) -> dict[str, str]:
    keyword, _, rest = content.partition(b"\0")
    return {keyword.decode("latin-1"): _unpack(rest[1:]).decode("latin-1")}


def _international(content: bytes) -> dict[str, str]:
    keyword, _, rest = content.partition(b"\0")
    packed, rest = rest[:1] == b"\1", rest[2:]
    text = rest.split(b"\0", 2)[-1]  # past the language and the translated keyword
    return {keyword.decode("latin-1"): (_unpack(text) if packed else text).decode("utf-8")}


def _unpack(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, LONGEST)
    except zlib.error as problem:
        raise ValueError(f"a text in it is damaged: {problem}") from problem


_READERS = {b"tEXt": _plain, b"zTXt": _packed, b"iTXt": _international}
