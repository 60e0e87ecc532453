"""Where the certificate that signs comes from: the user's environment or settings, or a file made on request.

No path of it is ever written into a picture, a workflow, a log or an error.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from .. import files
from ..errors import EditError
from . import certificate as certificates
from .certificate import Certificate

OFF, OWN, SELF_SIGNED = "off", "certificate", "self-signed"
CHOICES = [OFF, OWN, SELF_SIGNED]
CERTIFICATE, KEY, PASSWORD = "EDITKIT_C2PA_CERTIFICATE", "EDITKIT_C2PA_KEY", "EDITKIT_C2PA_PASSWORD"
TRUST = "EDITKIT_C2PA_TRUST"
SETTINGS, SELF_MADE = "c2pa.json", "self_signed.pem"
NONE = (
    f"There is no certificate to sign with; set {CERTIFICATE} and {KEY} to the paths of yours (PEM), or make a "
    "self-signed one with `python . inspect --make-certificate`."
)


def home() -> Path:
    """The user's folder for EditKit's settings; outside of ComfyUI's, whose files a browser may ask for."""
    return files.of_user(files.SETTINGS)


def own_paths() -> tuple[str, str] | None:
    """The paths of the user's certificate and key: from the environment, else from c2pa.json in home(), else None."""
    named = os.environ.get(CERTIFICATE), os.environ.get(KEY)
    if any(named):
        if not all(named):
            raise EditError(f"Only one of {CERTIFICATE} and {KEY} is set; set both.")
        return named
    said = _settings()
    return (said["certificate"], said["key"]) if said else None


def _settings() -> Mapping | None:
    """c2pa.json of the user's folder: {"certificate": path, "key": path}, and "trust" if wanted."""
    file = home() / SETTINGS
    if not file.is_file():
        return None
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        if all(isinstance(said[name], str) for name in ("certificate", "key")):
            return said
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise EditError(_unfit()) from problem
    raise EditError(_unfit())


def _unfit() -> str:
    return f'EditKit\'s settings file {SETTINGS} is not {{"certificate": "PATH", "key": "PATH"}}; correct or remove it.'


def choose() -> str:
    """What `--c2pa` signs with: the user's own certificate, else the self-signed one. EditError when there is none."""
    if own_paths() is not None:
        return OWN
    if (home() / SELF_MADE).is_file():
        return SELF_SIGNED
    raise EditError(NONE)


def load(choice: str) -> Certificate:
    """The certificate of that choice, checked; a self-signed one is made where there is none that is still valid.

    EditError in one sentence for one that cannot be read or used.
    """
    if choice == SELF_SIGNED:
        return _self_signed()
    paths = own_paths()
    if paths is None:
        raise EditError(NONE)
    chain, key = (_read(path, what) for path, what in zip(paths, ("certificate", "private key"), strict=True))
    return certificates.check(chain, key, os.environ.get(PASSWORD))


def _read(path: str, what: str) -> bytes:
    try:
        return Path(path).expanduser().read_bytes()
    except (OSError, ValueError) as problem:
        variable = CERTIFICATE if what == "certificate" else KEY
        reason = getattr(problem, "strerror", None) or "not a path"
        raise EditError(
            f"The {what} that {variable} or {SETTINGS} names cannot be read ({reason}); correct the path."
        ) from None


def _self_signed() -> Certificate:
    file = home() / SELF_MADE
    if file.is_file():
        pem = _read(str(file), "certificate")
        try:
            return certificates.check(pem, pem)
        except EditError as problem:
            if "expired" not in str(problem):
                reason = str(problem).rstrip(".")
                raise EditError(f"The self-signed certificate is damaged ({reason}); make a new one with "
                                "`python . inspect --make-certificate`.") from problem  # fmt: skip
    return make()


def make(name: str = certificates.NAME) -> Certificate:
    """Makes a self-signed certificate, in the place of an older one, readable by this user alone.

    EditError where the user's folder cannot be written to.
    """
    pem = certificates.make(name)
    try:
        home().mkdir(parents=True, exist_ok=True, mode=0o700)
        files.write(home() / SELF_MADE, pem, private=True)
    except OSError as problem:
        raise EditError(
            f"The self-signed certificate cannot be kept in {home()} ({problem.strerror}); make that writable."
        ) from None
    return certificates.check(pem, pem)


def trusted(named: Path | None = None) -> str | None:
    """Root certificates that the user believes (PEM): a file, else EDITKIT_C2PA_TRUST's; None when there is none."""
    path = named or os.environ.get(TRUST)
    if not path:
        return None
    try:
        text = Path(path).expanduser().read_text(encoding="ascii")
    except (OSError, ValueError) as problem:
        raise EditError(
            f"The list of trusted certificates cannot be read; name a PEM file with --trust or {TRUST}."
        ) from problem
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise EditError("The list of trusted certificates holds none in PEM format.")
    return text
