"""Certificates of every kind that a user may have, good and bad, for the tests of content credentials."""

import datetime

import pytest

x509 = pytest.importorskip("cryptography.x509", reason="needs requirements-c2pa.txt")

from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa  # noqa: E402
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID  # noqa: E402

KEYS = {
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "weak": lambda: rsa.generate_private_key(65537, 1024),
    "odd": lambda: ec.generate_private_key(ec.SECP256K1()),
}
PEM = serialization.Encoding.PEM


def seconds(count: float) -> datetime.datetime:
    """A time that many seconds from now."""
    return datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=count)


def issue(kind="p256", start=-3600, end=10**6, usage=ExtendedKeyUsageOID.EMAIL_PROTECTION, ocsp=None, password=None):
    """(chain, key, root) as PEM, from a studio's own certificate authority. start, end: seconds from now.

    usage: None leaves the extended key usage out. ocsp: an address to ask whether it was revoked.
    """
    root_key, key = KEYS["p256"](), KEYS[kind]()
    root_name, name = _name("Studio Root"), _name("Jane Doe")
    root = _built(root_name, root_name, root_key.public_key(), start, end, True, root_key)
    own = _built(name, root_name, key.public_key(), start, end, False, root_key)
    if usage:
        own = own.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    if ocsp:
        about = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(ocsp))
        own = own.add_extension(x509.AuthorityInformationAccess([about]), critical=False)
    chain = [built.sign(root_key, hashes.SHA256()).public_bytes(PEM) for built in (own, root)]
    return b"".join(chain), key_pem(key, password), chain[1]


def key_pem(key, password=None) -> bytes:
    """A private key as it may lie on a disk: encrypted where there is a password."""
    locked = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, locked)


def _name(common: str):
    parts = [(NameOID.COMMON_NAME, common), (NameOID.ORGANIZATION_NAME, "Some Studio")]
    return x509.Name([x509.NameAttribute(*part) for part in parts])


def _built(subject, issuer, public, start, end, root, signed_by):
    uses = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign", "encipher_only",
         "decipher_only"), False)  # fmt: skip
    return (
        x509.CertificateBuilder(issuer, subject, public, x509.random_serial_number())
        .not_valid_before(seconds(start))
        .not_valid_after(seconds(end))
        .add_extension(x509.BasicConstraints(ca=root, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signed_by.public_key()), critical=False)
        .add_extension(x509.KeyUsage(digital_signature=not root, key_cert_sign=root, **uses), critical=True)
    )
