"""Certificates that sign content credentials: the user's own, checked before use, or one made here, marked as such."""

import datetime
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import EditError

if TYPE_CHECKING:
    from cryptography import x509

MARK = "Self-signed, verified by nobody"  # the organisation in every certificate that is made here
NAME = "A user of EditKit"
YEARS = 10  # nothing dates a signature without a time-stamping server, so it holds as long as its certificate
BEGIN = b"-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True)
class Certificate:
    """What signs: `chain` (PEM, the signer's own first), `key` (PEM, PKCS 8), C2PA's name of the algorithm."""

    chain: bytes
    key: bytes
    algorithm: str
    name: str
    self_made: bool
    until: datetime.datetime

    def mark(self) -> str:
        """A short mark of the chain, which no other certificate has."""
        return hashlib.sha256(self.chain).hexdigest()[:16]

    def __repr__(self) -> str:  # the key stays out of logs and tracebacks
        return f"Certificate({self.name!r}, {self.algorithm}, until {self.until:%Y-%m-%d})"


def check(chain: bytes, key: bytes, password: str | None = None) -> Certificate:
    """Reads a chain of certificates and its private key, both PEM.

    EditError in one sentence, without any path, for what is no certificate or key, for a key that is encrypted or
    belongs to another certificate, for a kind of key that C2PA does not know, and for a certificate out of its time.
    """
    from cryptography.hazmat.primitives import serialization as to

    found = _certificates(chain)
    private = _private(key, password)
    public = private.public_key()
    raw = (to.Encoding.DER, to.PublicFormat.SubjectPublicKeyInfo)
    if public.public_bytes(*raw) != found[0].public_key().public_bytes(*raw):
        raise EditError(
            "The private key does not belong to the first certificate of the chain; name the two that do, with the "
            "signer's own certificate first."
        )
    _check_time(found[0])
    pem = private.private_bytes(to.Encoding.PEM, to.PrivateFormat.PKCS8, to.NoEncryption())
    chain = b"".join(one.public_bytes(to.Encoding.PEM) for one in found)
    names = _names(found[0])
    return Certificate(chain, pem, _algorithm(private), names[0], MARK in names, found[0].not_valid_after_utc)


def _certificates(pem: bytes) -> "list[x509.Certificate]":
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(pem[pem.index(BEGIN) :])
    except ValueError as problem:
        raise EditError(
            "The certificate file holds no certificate in PEM format; it begins with -----BEGIN CERTIFICATE-----."
        ) from problem


def _private(pem: bytes, password: str | None):
    from cryptography.hazmat.primitives import serialization as to

    said = password.encode() if password else None
    try:
        return to.load_pem_private_key(pem, said)
    except TypeError as problem:  # encrypted and no password, or the other way round
        if said is not None:
            return _private(pem, None)
        raise EditError("The private key is encrypted; give its password in EDITKIT_C2PA_PASSWORD.") from problem
    except Exception as problem:  # the library's exceptions for a damaged or foreign key have no common class
        wrong = "ENCRYPTED" in pem.decode("ascii", "replace") and said is not None
        raise EditError(
            "The password in EDITKIT_C2PA_PASSWORD does not open the private key."
            if wrong
            else "The key file holds no private key in PEM format; convert it with `openssl pkcs8 -topk8`."
        ) from problem


def _check_time(certificate: "x509.Certificate") -> None:
    now = datetime.datetime.now(datetime.timezone.utc)
    if now > certificate.not_valid_after_utc:
        raise EditError(
            f"The certificate expired on {certificate.not_valid_after_utc:%Y-%m-%d}; renew it, or sign with another."
        )
    if now < certificate.not_valid_before_utc:
        raise EditError(
            f"The certificate is not valid before {certificate.not_valid_before_utc:%Y-%m-%d}; check this machine's "
            "clock, or sign with another."
        )


def _algorithm(private) -> str:
    """C2PA's name for what this key signs with (specification 2.2, section 13.2). EditError for another kind."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(private, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(private, rsa.RSAPrivateKey) and private.key_size >= 2048:
        return "ps256"
    curves = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
    if isinstance(private, ec.EllipticCurvePrivateKey) and private.curve.name in curves:
        return curves[private.curve.name]
    raise EditError(
        "C2PA does not know this kind of key; use P-256, P-384, P-521, Ed25519, or RSA of 2048 bits or more."
    )


def _names(certificate: "x509.Certificate") -> list[str]:
    """The common name, then the organisation, of whom the certificate is for."""
    from cryptography.x509.oid import NameOID

    wanted = NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME
    parts = [certificate.subject.get_attributes_for_oid(oid) for oid in wanted]
    found = [str(part[0].value) for part in parts if part]
    return found or ["(without a name)"]


def make(name: str = NAME) -> bytes:
    """A new key and its certificate, in one PEM text: the key, the signer's certificate, the root's.

    C2PA wants a signer's certificate that is not its own issuer, so a root is made that signs this one and whose key
    is forgotten at once. Both say MARK. name: what pictures then say of who signed.
    """
    from cryptography.hazmat.primitives import serialization as to
    from cryptography.hazmat.primitives.asymmetric import ec

    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root_name, own_name = _subject("EditKit, a root of one certificate"), _subject(name)
    root = _build(root_name, root_name, root_key.public_key(), root_key)
    own = _build(own_name, root_name, key.public_key(), root_key)
    private = key.private_bytes(to.Encoding.PEM, to.PrivateFormat.PKCS8, to.NoEncryption())
    return private + own.public_bytes(to.Encoding.PEM) + root.public_bytes(to.Encoding.PEM)


def _subject(name: str) -> "x509.Name":
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    name = name.strip()
    if not 1 <= len(name) <= 64 or not name.isprintable():
        raise EditError(f"{name!r} cannot be the name in a certificate; use 1 to 64 letters.")
    return x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, name), x509.NameAttribute(NameOID.ORGANIZATION_NAME, MARK)]
    )


def _build(subject: "x509.Name", issuer: "x509.Name", public, signed_by) -> "x509.Certificate":
    """One certificate by C2PA's profile (specification 2.2, section 14.5): a root where subject and issuer are one."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID

    root, now = subject == issuer, datetime.datetime.now(datetime.timezone.utc)
    use = dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
                         "encipher_only", "decipher_only"), False)  # fmt: skip
    builder = (
        x509.CertificateBuilder(issuer, subject, public, x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=365 * YEARS))
        .add_extension(x509.BasicConstraints(ca=root, path_length=0 if root else None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signed_by.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(digital_signature=not root, key_cert_sign=root, crl_sign=root, **use), critical=True
        )
    )
    if not root:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(usage, critical=False)
    return builder.sign(signed_by, hashes.SHA256())
