"""The c2pa library, imported only where a picture is signed or read, and kept off the network."""

from typing import Any

from ..errors import EditError

MISSING = (
    "Content credentials need the c2pa library, which is not installed: pip install -r requirements-c2pa.txt."
)
# No manifest is fetched from elsewhere, no certificate is asked after, no host is allowed at all.
SETTINGS = {
    "version": 1,
    "core": {"allowed_network_hosts": []},
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False, "verify_trust": True},
    "builder": {"thumbnail": {"enabled": True, "long_edge": 512}},
}


def library() -> Any:
    """The module. EditError naming requirements-c2pa.txt where it, or what it needs, is not installed."""
    try:
        import c2pa
        import cryptography  # noqa: F401, certificates are read with it
    except (ImportError, OSError, RuntimeError) as problem:  # the last two: its binary does not load
        raise EditError(MISSING) from problem
    return c2pa


def context(trust: str | None = None) -> Any:
    """The library's settings for one call. trust: root certificates (PEM) that this machine believes."""
    settings = SETTINGS if trust is None else {**SETTINGS, "trust": {"trust_anchors": trust}}
    return library().Context.from_dict(settings)
