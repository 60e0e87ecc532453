"""Signing a finished PNG or JPEG with its story, by the c2pa library."""

import io

from ..errors import EditError
from ..picture_file import PNG, encode
from .certificate import Certificate
from .package import context, library
from .story import Region, Source, Story, manifest, region_ingredient


def sign(data: bytes, kind: str, story: Story, certificate: Certificate) -> bytes:
    """The picture's bytes with credentials embedded; its pixels and text chunks stay as they are.

    kind: image/png or image/jpeg. The source's own credentials are carried along, valid or not, with what the library
    found when it opened them. EditError for what the library refuses.
    """
    c2pa = library()
    signed = io.BytesIO()
    info = c2pa.C2paSignerInfo(certificate.algorithm.encode(), certificate.chain, certificate.key, None)
    try:
        with (
            context() as settings,
            c2pa.Signer.from_info(info) as signer,
            c2pa.Builder(manifest(story, kind), context=settings) as builder,
        ):
            _add(builder, story.source, story.region)
            builder.sign(signer, kind, io.BytesIO(data), signed)
    except c2pa.C2paError as problem:
        raise EditError(f"The picture could not be signed: {said(problem)}.") from problem
    return signed.getvalue()


def _add(builder, source: Source | None, region: Region | None) -> None:
    if source is not None:
        about = {"title": source.title, "relationship": "parentOf", "label": "source"}
        builder.add_ingredient(about, source.kind, io.BytesIO(source.data))
    if region is not None:
        builder.add_resource("region.png", io.BytesIO(region.mask))
        builder.add_ingredient(region_ingredient(), PNG, io.BytesIO(region.mask))


def said(problem: Exception) -> str:
    """The library's message as the end of a sentence: without its class before the colon, and without a full stop."""
    text = " ".join(str(problem).split())  # some of its messages are lists
    head, colon, rest = text.partition(": ")
    return (rest if colon and head.isalpha() and rest else text).rstrip(".") or type(problem).__name__


def check(certificate: Certificate) -> None:
    """Signs one pixel, so that whatever the library has against a certificate is known before the edit, not after.

    EditError with the library's reason.
    """
    from PIL import Image

    pixel, _ = encode(Image.new("RGB", (1, 1)), PNG, {})
    try:
        sign(pixel, PNG, Story("pixel.png"), certificate)
    except EditError as problem:
        reason = str(problem).partition(": ")[2]
        raise EditError(f"The certificate cannot sign content credentials: {reason or problem}") from problem


def readable(kind: str) -> bool:
    """Whether a picture of that type can be a source with its credentials."""
    return kind in library().Builder.get_supported_mime_types()
