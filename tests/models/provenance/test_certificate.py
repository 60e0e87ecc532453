"""Certificates: every good kind signs, every bad one is refused in one sentence that tells no path."""

import json
import os
import stat

import pytest

pytest.importorskip("c2pa", reason="needs requirements-c2pa.txt")

from cryptography import x509  # noqa: E402

from editkit.models.errors import EditError  # noqa: E402
from editkit.models.provenance import certificate, keys, signing  # noqa: E402
from editkit.tests.certificates import issue  # noqa: E402


@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [("p256", "es256"), ("p384", "es384"), ("p521", "es512"), ("ed25519", "ed25519"), ("rsa", "ps256")],
)
def test_every_kind_of_key_that_c2pa_knows_signs(kind, algorithm):
    found = certificate.check(*issue(kind)[:2])
    assert (found.algorithm, found.name, found.self_made) == (algorithm, "Jane Doe", False)
    signing.check(found)


def swapped():
    return issue()[0], issue()[1]


def reversed_chain():
    chain, key, root = issue()
    return root + chain.removesuffix(root), key


BAD = {
    "expired": (lambda: issue(start=-100, end=-50)[:2], "expired on 20"),
    "not yet": (lambda: issue(start=3600)[:2], "not valid before 20"),
    "another key": (swapped, "does not belong to the first certificate"),
    "the root first": (reversed_chain, "does not belong to the first certificate"),
    "a weak key": (lambda: issue("weak")[:2], "2048 bits"),
    "an odd curve": (lambda: issue("odd")[:2], "P-256"),
    "locked": (lambda: issue(password=b"x")[:2], "encrypted; give its password"),
    "no certificate": (lambda: (b"hello", issue()[1]), "holds no certificate in PEM"),
    "half a certificate": (lambda: (issue()[0][:300], issue()[1]), "holds no certificate in PEM"),
    "no key": (lambda: (issue()[0], b"hello"), "holds no private key in PEM"),
    "empty": (lambda: (b"", b""), "holds no certificate"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_sign_is_refused_with_its_reason(kind):
    pair, said = BAD[kind]
    with pytest.raises(EditError, match=said) as refusal:
        certificate.check(*pair())
    assert len(str(refusal.value).splitlines()) == 1


def test_what_only_the_library_refuses_is_refused_before_an_edit():
    found = certificate.check(*issue(usage=None)[:2])
    with pytest.raises(EditError, match="cannot sign content credentials: .*certificate"):
        signing.check(found)


def test_an_encrypted_key_opens_with_its_password_and_with_no_other():
    chain, key, _ = issue(password=b"sesame")
    signing.check(certificate.check(chain, key, "sesame"))
    with pytest.raises(EditError, match="does not open the private key"):
        certificate.check(chain, key, "wrong")
    assert certificate.check(*issue()[:2], "needless").algorithm == "es256"


def test_a_self_signed_certificate_says_so_and_its_root_issued_it():
    pem = certificate.make("Jane Doe")
    found = certificate.check(pem, pem)
    assert found.self_made and found.name == "Jane Doe"
    signing.check(found)
    own, root = x509.load_pem_x509_certificates(found.chain)
    own.verify_directly_issued_by(root)
    assert own.issuer != own.subject, "C2PA takes no signer that is its own issuer"
    assert certificate.MARK in own.subject.rfc4514_string().replace("\\", "")
    assert pem.count(b"PRIVATE KEY") == 2, "the root's key is not kept"


@pytest.mark.parametrize("name", ["", " ", "x" * 65, "a\nb"])
def test_a_name_that_no_certificate_can_hold_is_refused(name):
    with pytest.raises(EditError, match="1 to 64 letters"):
        certificate.make(name)


def test_the_key_is_in_no_text_of_the_certificate():
    found = certificate.check(*issue()[:2])
    assert "PRIVATE" not in repr(found) and "PRIVATE" not in str(found)


def test_a_self_signed_certificate_is_made_once_for_this_user_alone(settings):
    first = keys.load(keys.SELF_SIGNED)
    assert keys.load(keys.SELF_SIGNED) == first and keys.choose() == keys.SELF_SIGNED
    assert [p.name for p in settings.iterdir()] == ["self_signed.pem"]
    if os.name == "posix":
        assert stat.S_IMODE((settings / "self_signed.pem").stat().st_mode) == 0o600
        assert stat.S_IMODE(settings.stat().st_mode) == 0o700


def test_one_that_has_expired_is_made_anew_and_a_damaged_one_is_named(settings, monkeypatch):
    monkeypatch.setattr(certificate, "YEARS", -0.001)
    with pytest.raises(EditError, match="expired"):
        keys.make()
    monkeypatch.undo()
    monkeypatch.setattr(keys, "home", lambda: settings)
    assert keys.load(keys.SELF_SIGNED).self_made
    (settings / "self_signed.pem").write_text("hello")
    with pytest.raises(EditError, match="self-signed certificate is damaged.*--make-certificate"):
        keys.load(keys.SELF_SIGNED)


def test_the_users_own_certificate_comes_from_the_environment_or_the_settings(settings, tmp_path, monkeypatch):
    with pytest.raises(EditError, match="no certificate to sign with"):
        keys.load(keys.OWN)
    chain, key, _ = issue()
    (tmp_path / "c.pem").write_bytes(chain)
    (tmp_path / "k.pem").write_bytes(key)
    settings.mkdir()
    (settings / "c2pa.json").write_text(json.dumps({"certificate": f"{tmp_path}/c.pem", "key": f"{tmp_path}/k.pem"}))
    assert keys.choose() == keys.OWN and keys.load(keys.OWN).chain == chain
    other = issue()
    for name, data in (("CERTIFICATE", other[0]), ("KEY", other[1])):
        (tmp_path / f"{name}.pem").write_bytes(data)
        monkeypatch.setenv(f"EDITKIT_C2PA_{name}", str(tmp_path / f"{name}.pem"))
    assert keys.load(keys.OWN).chain == other[0], "the environment comes first"


@pytest.mark.parametrize("text", ["{", "[]", '{"certificate": 3, "key": "k"}', '{"key": "k"}'])
def test_settings_that_are_none_are_refused(settings, text):
    settings.mkdir()
    (settings / "c2pa.json").write_text(text)
    with pytest.raises(EditError, match="c2pa.json is not .*correct or remove it"):
        keys.load(keys.OWN)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"CERTIFICATE": "secret/c.pem"}, "set both"),
        ({"CERTIFICATE": "secret/c.pem", "KEY": "secret/k.pem"}, "The certificate that EDITKIT_C2PA_CERTIFICATE"),
        ({"CERTIFICATE": "secret\0", "KEY": "secret/k.pem"}, "cannot be read"),
    ],
)
def test_files_that_cannot_be_read_are_named_by_their_variable_not_their_path(settings, monkeypatch, given, said):
    monkeypatch.setattr(os, "environ", {**os.environ, **{f"EDITKIT_C2PA_{k}": v for k, v in given.items()}})
    with pytest.raises(EditError, match=said) as refusal:
        keys.load(keys.OWN)
    assert "secret" not in str(refusal.value) and refusal.value.__cause__ is None


def test_a_settings_folder_that_is_a_file_is_named(settings):
    settings.write_text("in the way")
    with pytest.raises(EditError, match="cannot be kept in"):
        keys.make()
