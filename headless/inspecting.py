"""`inspect`: what a picture says of itself: its content credentials, checked, and the workflow inside."""

import argparse
import base64
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from ..models.picture_file import workflow
from ..models.provenance import keys, reading
from ..models.provenance.certificate import NAME
from .errors import EditError
from .files import write

HELP = "Read a picture's content credentials (C2PA) and its workflow."
EXAMPLES = """\
It says whether the picture was changed since it was signed, who signed it with what certificate, which systems edited
which picture, and the same of that picture, as far back as it is known. Nothing is fetched from anywhere. Exit code 1
when the credentials do not hold.

examples:
  {me} inspect photo.png
  {me} inspect photo.jpg --json
  {me} inspect photo.png --workflow graph.json --region changed.png
  {me} inspect photo.png --trust roots.pem             who signed is checked against these root certificates
  {me} inspect --make-certificate --name "Jane Doe"    a self-signed certificate, kept in your settings folder
Signing (`edit --c2pa`, `run --c2pa`, Save Edited Image) takes your own certificate where EDITKIT_C2PA_CERTIFICATE and
EDITKIT_C2PA_KEY name its chain and its private key (PEM; EDITKIT_C2PA_PASSWORD opens an encrypted one), else the
self-signed one. It needs more packages: pip install -r requirements-c2pa.txt."""

KINDS = {"PNG": "image/png", "JPEG": "image/jpeg", "MPO": "image/jpeg", "WEBP": "image/webp", "TIFF": "image/tiff",
         "GIF": "image/gif", "AVIF": "image/avif"}  # fmt: skip
PROMPT, WORKFLOW = "prompt", "workflow"


def arguments(made: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    made.add_argument("picture", type=Path, nargs="?", metavar="PICTURE", help="PNG, JPEG or WEBP")
    made.add_argument("--json", action="store_true", help="everything as one JSON object")
    made.add_argument(
        "--workflow", type=Path, metavar="FILE.json", help="write the canvas's workflow, or else the API format's"
    )
    made.add_argument("--prompt", type=Path, metavar="FILE.json", help="write the API format, which `run` takes")
    made.add_argument("--region", type=Path, metavar="FILE.png", help="write the mask of the changed region")
    made.add_argument("--trust", type=Path, metavar="FILE.pem", help="root certificates that you trust")
    made.add_argument("--make-certificate", action="store_true", help="make a self-signed certificate to sign with")
    made.add_argument("--name", default=NAME, help=f"the name in that certificate ({NAME})")


def inspect(options: argparse.Namespace) -> int:
    """Prints what the picture says. Returns 1 when its credentials do not hold, else 0."""
    if options.make_certificate:
        return _make(options.name)
    if options.picture is None:
        raise EditError("Name a picture to inspect, or give --make-certificate.")
    size, kind = _opened(options.picture)
    carried, found = workflow(options.picture), _credentials(options, kind)
    _write_parts(options, carried, found)
    if options.json:
        print(json.dumps(_as_json(options.picture, size, kind, carried, found), indent=2))
    else:
        for line in _lines(options.picture, size, kind, carried, found):
            print(_harmless(line))
    return 1 if found.state in reading.BROKEN else 0


def _make(name: str) -> int:
    from ..models.provenance import package, signing

    package.library()
    made = keys.make(name)
    signing.check(made)
    print(f"Made a self-signed certificate for {made.name!r}, valid until {made.until:%Y-%m-%d}, in {keys.home()}.")
    print("It shows that a picture was not changed since; who you are it does not prove. Keep that folder to yourself.")
    return 0


def _opened(path: Path) -> tuple[tuple[int, int], str]:
    """Size and type of a picture. EditError when it is missing or none."""
    from . import pictures

    size = pictures.size(path)
    from PIL import Image

    with Image.open(path) as picture:
        return size, KINDS.get(picture.format, f"image/{str(picture.format).lower()}")


def _credentials(options: argparse.Namespace, kind: str) -> reading.Credentials:
    """The credentials; without the library only whether there are any."""
    trust = keys.trusted(options.trust)
    try:
        return reading.read(options.picture, kind, trust)
    except EditError as problem:
        if "requirements-c2pa" not in str(problem):
            raise
        there = reading.are_there(options.picture)
        said = f"there are some, but they were not checked: {problem}" if there else reading.SENTENCES[reading.NONE]
        return reading.Credentials(reading.UNREAD if there else reading.NONE, said)


def _write_parts(options: argparse.Namespace, carried: dict, found: reading.Credentials) -> None:
    """Writes the files that were asked for; EditError for what the picture does not carry."""
    for path, names in ((options.workflow, (WORKFLOW, PROMPT)), (options.prompt, (PROMPT,))):
        content = next((carried[name] for name in names if name in carried), None)
        if path is not None and content is None:
            raise EditError(f"{options.picture} carries no workflow, so {path} was not written.")
        if path is not None:
            data = (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
            write(path, lambda file, data=data: file.write(data))
    if options.region is not None:
        if found.region is None:
            raise EditError(f"{options.picture} shows no changed region, so {options.region} was not written.")
        write(options.region, lambda file: file.write(found.region))


def _lines(path: Path, size: tuple, kind: str, carried: dict, found: reading.Credentials) -> Iterator[str]:
    yield f"{path}: {size[0]}x{size[1]}, {kind}"
    yield f"Content credentials: {found.sentence}"
    if found.entry is not None:
        yield from _history(found.entry, "  ")
    if found.region is not None:
        yield "  region: the mask of what was changed is inside; --region FILE.png writes it"
    yield f"Workflow: {_carried(carried)}"


def _harmless(line: str) -> str:
    """A line of what strangers wrote, without characters by which it could pass for other lines on a terminal."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in line)


def _history(entry: reading.Entry, indent: str) -> Iterator[str]:
    """An entry and, indented under each source, the entry of that picture."""
    yield f"{indent}signed by: {entry.signer} ({entry.issuer}), with {entry.software}"
    for number, action in enumerate(entry.actions, 1):
        yield f"{indent}{number}. {action}"
    for source in entry.sources:
        if source.state == reading.NONE:
            yield f"{indent}made from: {source.title}, which had no credentials"
        else:
            yield f"{indent}made from: {source.title}, whose credentials were {_then(source.state)}"
        if source.entry is not None:
            yield from _history(source.entry, indent + "    ")


def _then(state: str) -> str:
    return {
        reading.TRUSTED: "valid", reading.VALID: "valid", reading.EXPIRED: "signed with a certificate that had expired",
        reading.CHANGED: "NOT valid: it had been changed after it was signed",
    }.get(state, "NOT valid")  # fmt: skip


def _carried(carried: dict) -> str:
    if not carried:
        return "none inside"
    nodes = carried.get(PROMPT) or carried[WORKFLOW].get("nodes", [])
    said = [f"{len(nodes)} nodes"]
    said += ["`run` repeats it"] if PROMPT in carried else []
    said += ["dropped on the canvas it comes back as it was drawn"] if WORKFLOW in carried else []
    return "inside; " + "; ".join(said)


def _as_json(path: Path, size: tuple, kind: str, carried: dict, found: reading.Credentials) -> dict:
    credentials = asdict(found)
    credentials["region"] = None if found.region is None else base64.b64encode(found.region).decode()
    about = {"picture": str(path), "width": size[0], "height": size[1], "type": kind}
    return {**about, "credentials": credentials, **carried}
