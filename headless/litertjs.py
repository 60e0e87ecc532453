"""LiteRT.js for the browser page: from a folder, or fetched from an npm registry that the user named."""

import base64
import hashlib
import http.client
import io
import os
import tarfile
import urllib.request
from pathlib import Path

from .errors import EditError
from .files import write

# of version 2.5.3, as the registry publishes them (Apache-2.0)
PACKAGES = {
    "core": "sha512-PlGmbMOq9WitX7FO0jhbdJw9GthatsyuCQXjTt/wJZo0FLaw48q4tz8IwqgqCIkviYGr9OFDL1kCnN4nzWoyJQ==",
    "wasm-utils": "sha512-4fJiw6tBQnIs+0jH/OQ16nYOiSl8/+zZnn5h2ul8aTKHi05sVqZW580Tmk78pC2kT39A9OYBVdFawteZ/sI1kQ==",
}
TIMEOUT = 60  # seconds without a byte


def locate(named: str | None, pack: Path, cache: Path) -> Path:
    """The folder that holds @litertjs: the named one, or node_modules of the working folder or the pack, or the cache.

    named: a folder, or the address of an npm registry (https://…) to fetch it from. EditError when it is nowhere.
    """
    from ..models.mobile import web

    kept = cache / f"litertjs-{web.LITERTJS}"
    if named and named.startswith(("https://", "http://")):
        return fetch(named, kept, web.LITERTJS)
    if named:
        return web.find_litertjs(Path(os.path.expanduser(named)))
    for place in (Path.cwd(), pack, kept):
        try:
            return web.find_litertjs(place)
        except EditError:
            continue
    return web.find_litertjs(pack)


def fetch(registry: str, target: Path, version: str) -> Path:
    """Downloads the two packages into `target`, their hashes checked. EditError naming what failed."""
    from ..models.mobile import web

    packages = {}
    for name, integrity in PACKAGES.items():
        address = f"{registry.rstrip('/')}/@litertjs/{name}/-/{name}-{version}.tgz"
        print(f"fetching {address}", flush=True)
        try:
            with urllib.request.urlopen(address, timeout=TIMEOUT) as answer:  # noqa: S310, the user named it
                data = answer.read()
        except (OSError, ValueError, http.client.HTTPException) as problem:
            raise EditError(
                f"{address} could not be fetched ({problem}); name a folder with --litertjs."
            ) from None
        digest = "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()
        if digest != integrity:
            raise EditError(
                f"{address} is not the file that it should be (its SHA-512 differs); name another registry."
            )
        packages[name] = data
    for name, data in packages.items():  # only when all are right
        _unpack(data, target / name)
    return web.find_litertjs(target)


def _unpack(data: bytes, folder: Path) -> None:
    """Writes the files of an npm package (all below package/) into a folder."""
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        for member in archive:
            path = Path(member.name)
            if member.isfile() and path.parts[:1] == ("package",) and ".." not in path.parts:
                content = archive.extractfile(member).read()
                write(folder.joinpath(*path.parts[1:]), lambda file, content=content: file.write(content))
