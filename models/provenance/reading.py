"""Reading a picture's content credentials: whether they hold, who signed, and the history that they tell."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import EditError
from .certificate import MARK
from .package import context, library
from .signing import said
from .story import region_ingredient

# What is found of a picture. TRUSTED and VALID: nothing changed since it was signed.
NONE, TRUSTED, VALID, CHANGED, EXPIRED, INVALID, ELSEWHERE, UNREAD = (
    "none", "trusted", "valid", "changed", "expired", "invalid", "elsewhere", "unread"
)  # fmt: skip
BROKEN = (CHANGED, INVALID)
MARKS = (b"caBX", b"c2pa")  # the chunk of a PNG; the box inside a JPEG's APP11 segments
HEAD = 1 << 20  # credentials begin before this byte
DEEPEST = 50  # edits of edits that are listed
SENTENCES = {
    NONE: "no content credentials",
    TRUSTED: "valid, and whoever signed is on your list of trusted certificates",
    CHANGED: "NOT valid: the picture was changed after it was signed",
    EXPIRED: "unchanged since signing as far as the signature tells, but its certificate has expired since then and no "
    "time stamp proves that it was signed before",
    ELSEWHERE: "kept at another address, which is not asked: this command never uses the network",
}


@dataclass(frozen=True)
class Entry:
    """One manifest: who signed with what software, the actions in order, and the sources with their own entries."""

    signer: str
    issuer: str
    software: str
    title: str
    actions: tuple[str, ...]
    sources: tuple["Ingredient", ...] = ()


@dataclass(frozen=True)
class Ingredient:
    """A picture that went in: its name, in what state its credentials were then, and what they tell (None: none)."""

    title: str
    state: str
    entry: Entry | None


@dataclass(frozen=True)
class Credentials:
    """What was found. reasons: the library's codes for what does not hold."""

    state: str
    sentence: str
    entry: Entry | None = None
    reasons: tuple[str, ...] = ()
    region: bytes | None = field(default=None, repr=False)


def are_there(path: Path) -> bool:
    """Whether a file seems to hold credentials; needs no library."""
    try:
        with Path(path).open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return False
    return head[:4] == b"\x89PNG" and MARKS[0] in head or head[:2] == b"\xff\xd8" and MARKS[1] in head


def read(path: Path, kind: str, trust: str | None = None) -> Credentials:
    """The credentials of a picture file of that type (image/png, …). trust: root certificates that are believed, PEM.

    Damaged ones are told of, not raised. EditError without the library, or where the file cannot be read.
    """
    c2pa = library()
    try:
        data = Path(path).read_bytes()
    except OSError as problem:
        raise EditError(f"{path} cannot be read ({problem.strerror}).") from problem
    try:
        with context(trust) as settings, c2pa.Reader(kind, io.BytesIO(data), context=settings) as reader:
            return _found(reader)
    except c2pa.C2paError as problem:
        return _not_read(str(problem), problem)


def _not_read(text: str, problem: Exception) -> Credentials:
    if "ManifestNotFound" in text or "no JUMBF" in text:
        return Credentials(NONE, SENTENCES[NONE])
    if text.startswith("Remote"):
        return Credentials(ELSEWHERE, SENTENCES[ELSEWHERE])
    if "NotSupported" in text or "type is unsupported" in text:
        return Credentials(NONE, f"{SENTENCES[NONE]} that can be read in this kind of file")
    return Credentials(INVALID, f"NOT valid: damaged ({said(problem)})", reasons=(text,))


def _found(reader) -> Credentials:
    import json

    store = json.loads(reader.json())
    active = store.get("active_manifest") or store.get("activeManifest")
    entry = _entry(store["manifests"], active)
    results = (store.get("validation_results") or {}).get("activeManifest") or {}
    codes = [problem["code"] for problem in results.get("failure", [])]
    deltas = (store.get("validation_results") or {}).get("ingredientDeltas") or []
    codes += [f["code"] for delta in deltas for f in delta["validationDeltas"].get("failure", [])]
    state = _state(store.get("validation_state"), codes)
    return Credentials(state, _sentence(state, entry, codes), entry, tuple(codes), _region(reader, store, active))


def _state(validation: str | None, codes: list[str]) -> str:
    """One word from the library's state (Trusted, Valid, Invalid) and its codes (C2PA 2.2, section 15.2)."""
    if validation == "Trusted":
        return TRUSTED
    if validation == "Valid":
        return VALID
    if any(code.endswith(("dataHash.mismatch", "boxesHash.mismatch", "bmffHash.mismatch")) for code in codes):
        return CHANGED
    others = {code for code in codes if code != "signingCredential.untrusted"}
    return EXPIRED if others == {"signingCredential.expired"} else INVALID


def _sentence(state: str, entry: Entry, codes: list[str]) -> str:
    if state == VALID and MARK in (entry.issuer, entry.signer):
        return "valid, self-signed: nothing changed since it was signed, and nobody vouches for who signed"
    if state == VALID:
        return "valid: nothing changed since it was signed; whoever signed is not on your list of trusted certificates"
    if state == INVALID:
        found = ", ".join(code for code in codes if code != "signingCredential.untrusted") or "no reason given"
        return f"NOT valid: the credentials themselves do not hold ({found})"
    return SENTENCES[state]


def _entry(manifests: Mapping, label: str | None, depth: int = 0) -> Entry | None:
    manifest = manifests.get(label)
    if manifest is None or depth > DEEPEST:
        return None
    signature, generator = manifest.get("signature_info") or {}, (manifest.get("claim_generator_info") or [{}])[0]
    software = f"{generator.get('name', '?')} {generator.get('version', '')}".strip()
    sources = [i for i in manifest.get("ingredients", []) if i.get("relationship") != "inputTo"]
    return Entry(
        signature.get("common_name") or "?",
        signature.get("issuer") or "?",
        software if generator else str(manifest.get("claim_generator", "?")),
        manifest.get("title") or "",
        tuple(_actions(manifest)),
        tuple(_ingredient(one, manifests, depth) for one in sources),
    )


def _ingredient(one: Mapping, manifests: Mapping, depth: int) -> Ingredient:
    label = one.get("active_manifest")
    results = (one.get("validation_results") or {}).get("activeManifest") or {}
    codes = [problem["code"] for problem in results.get("failure", [])]
    holds = not [code for code in codes if code != "signingCredential.untrusted"]
    state = NONE if label is None else _state("Valid" if holds else "Invalid", codes)
    return Ingredient(one.get("title") or "a picture", state, _entry(manifests, label, depth + 1))


def _actions(manifest: Mapping) -> Iterator[str]:
    """Each action in words: what, by which software, how, with which weights, where."""
    lists = [a["data"].get("actions", []) for a in manifest.get("assertions", []) if "actions" in a.get("label", "")]
    for action in (action for found in lists for action in found):
        agent = action.get("softwareAgent") or {}
        agent = {"name": agent} if isinstance(agent, str) else agent
        parts = [str(action.get("action", "?")).removeprefix("c2pa.")]
        parts += [f"by {agent['name']} {agent.get('version', '')}".rstrip()] if agent.get("name") else []
        parts += [f"({action['description']})"] if action.get("description") else []
        weights = (action.get("parameters") or {}).get("org.editkit.weights")
        parts += [f"with {', '.join(map(str, weights))}"] if weights else []
        kind = str(action.get("digitalSourceType") or "").rpartition("/")[2]
        parts += [f"[{kind}]"] if kind else []
        parts += [f"in {box}" for box in _boxes(action)]
        yield " ".join(parts)


def _boxes(action: Mapping) -> Iterator[str]:
    for region in (r for change in action.get("changes") or [] for r in change.get("region") or []):
        shape = region.get("shape") or {}
        if shape.get("type") == "rectangle":
            corner = shape.get("origin", {})
            size = f"{shape.get('width', 0):g}x{shape.get('height', 0):g}"
            yield f"{size}+{corner.get('x', 0):g}+{corner.get('y', 0):g}"


def _region(reader, store: Mapping, active: str | None) -> bytes | None:
    """The mask of the changed region, as the PNG that was put in; None without one."""
    wanted = region_ingredient()
    for one in store["manifests"].get(active, {}).get("ingredients", []):
        if one.get("relationship") == "inputTo" and one.get("title") == wanted["title"] and one.get("thumbnail"):
            file = io.BytesIO()
            reader.resource_to_stream(one["thumbnail"]["identifier"], file)
            return file.getvalue()
    return None
