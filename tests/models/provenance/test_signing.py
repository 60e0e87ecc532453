"""Credentials made here, seen by the library's own reader and by ours; and what becomes of changed pictures."""

import io
import json
import socket
import struct
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image

c2pa = pytest.importorskip("c2pa", reason="needs requirements-c2pa.txt")

from editkit.models import picture_file  # noqa: E402
from editkit.models.errors import EditError  # noqa: E402
from editkit.models.picture_file import JPEG, PNG  # noqa: E402
from editkit.models.provenance import certificate, package, reading, signing  # noqa: E402
from editkit.models.provenance.story import Source, Story, System, manifest, region  # noqa: E402
from editkit.tests.certificates import issue  # noqa: E402

SUFFIX = {PNG: ".png", JPEG: ".jpg"}
WORKFLOW = {"prompt": {"1": {"class_type": "X", "inputs": {"text": "é"}}}, "workflow": {"nodes": []}}
REMOVE = System("BlazeEdit", ("Remove Object",), False, ("blazeedit-small",))
TONE = System("BlazeEdit", ("Correct Tone",), True, ())


@pytest.fixture(scope="module")
def studio():
    """(the certificate of a studio, its root)."""
    chain, key, root = issue()
    return certificate.check(chain, key), root


def picture(seed=0, mode="RGB"):
    """A photograph of 60 x 40 pixels, more or less."""
    rough = np.random.default_rng(seed).integers(0, 256, (4, 6, len(mode)), np.uint8)
    return Image.fromarray(rough).resize((60, 40), Image.Resampling.BICUBIC)


def plain(kind=PNG, seed=0):
    return picture_file.encode(picture(seed), kind, WORKFLOW)[0]


def signed(studio, kind=PNG, source=None, changed=None, systems=(REMOVE,), title="edit.png", seed=0):
    return signing.sign(plain(kind, seed), kind, Story(title, systems, source, changed), studio[0])


def read(data, kind, tmp_path, trust=None):
    file = tmp_path / f"read{SUFFIX[kind]}"
    file.write_bytes(data)
    return reading.read(file, kind, trust)


def librarys(data, kind) -> dict:
    """What c2pa's reader says with its default settings, in a context that nothing of ours has touched."""
    with c2pa.Reader(kind, io.BytesIO(data), context=c2pa.Context()) as reader:
        return json.loads(reader.json())


def chunks(data) -> list[tuple[bytes, bytes]]:
    """(name, content) of a PNG's chunks."""
    found, at = [], 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


@pytest.mark.parametrize("kind", [PNG, JPEG])
def test_the_librarys_own_reader_finds_them_valid(studio, kind, tmp_path):
    data = signed(studio, kind)
    assert librarys(data, kind)["validation_state"] == "Valid"
    found = read(data, kind, tmp_path)
    assert found.state == reading.VALID and found.entry.signer == "Jane Doe" and "not on your list" in found.sentence
    assert read(data, kind, tmp_path, studio[1].decode()).state == reading.TRUSTED
    assert read(plain(kind), kind, tmp_path).state == reading.NONE


@pytest.mark.parametrize("kind", [PNG, JPEG])
def test_signing_leaves_pixels_and_workflow_as_they_were(studio, kind, tmp_path):
    data = signed(studio, kind)
    with Image.open(io.BytesIO(data)) as after, Image.open(io.BytesIO(plain(kind))) as before:
        assert np.array_equal(np.asarray(after), np.asarray(before))
    (tmp_path / f"x{SUFFIX[kind]}").write_bytes(data)
    assert picture_file.workflow(tmp_path / f"x{SUFFIX[kind]}") == WORKFLOW


def test_the_texts_of_a_png_stay_before_its_pixels_where_the_canvas_looks(studio):
    before, after = chunks(plain()), chunks(signed(studio))
    assert [c for c in after if c[0] != b"caBX"] == before
    assert [name for name, _ in after].index(b"tEXt") < [name for name, _ in after].index(b"IDAT")


def changed_pixel(data):
    """The PNG with one pixel brightened; everything else of the file stays."""
    with Image.open(io.BytesIO(data)) as image:
        pixels = np.array(image)
    pixels[3, 5, 0] ^= 1
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=4)
    new = dict(chunks(file.getvalue()))
    return joined([(n, new[n] if n == b"IDAT" else c) for n, c in chunks(data)])


def joined(parts):
    import zlib

    body = b"".join(struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in parts)
    return b"\x89PNG\r\n\x1a\n" + body


def changed_text(data):
    return joined([(n, c.replace(b'"X"', b'"Y"')) for n, c in chunks(data)])


def changed_claim(data):
    """Someone else's name put into the credentials themselves."""
    return joined([(n, c.replace(b"Remove Object", b"Remove Nothin")) for n, c in chunks(data)])


@pytest.mark.parametrize(
    ("change", "state"),
    [(changed_pixel, reading.CHANGED), (changed_text, reading.CHANGED), (changed_claim, reading.INVALID)],
)
def test_whatever_was_changed_afterwards_is_found(studio, change, state, tmp_path):
    data = signed(studio)
    assert read(joined(chunks(data)), PNG, tmp_path).state == reading.VALID, "the harness itself changes nothing"
    found = read(change(data), PNG, tmp_path)
    assert change(data) != data and found.state == state and "NOT valid" in found.sentence


def test_a_changed_jpeg_and_a_damaged_file_are_found(studio, tmp_path):
    data = bytearray(signed(studio, JPEG))
    data[-20] ^= 1
    assert read(bytes(data), JPEG, tmp_path).state == reading.CHANGED
    whole = signed(studio)
    assert read(whole[: len(whole) // 2], PNG, tmp_path).state == reading.INVALID


def test_an_edit_of_an_edit_shows_both(studio, tmp_path):
    photo = Source("holiday.jpg", JPEG, plain(JPEG))
    first = signed(studio, PNG, photo, title="first.png")
    second = signed(studio, JPEG, Source("first.png", PNG, first), None, (TONE,), "second.jpg")
    third = signed(studio, PNG, Source("second.jpg", JPEG, second), title="third.png")
    entry = read(third, PNG, tmp_path).entry
    names, actions = [], []
    while entry is not None:
        actions.append(entry.actions[1])
        (source,) = entry.sources
        names.append((source.title, source.state))
        entry = source.entry
    assert names == [("second.jpg", "valid"), ("first.png", "valid"), ("holiday.jpg", "none")]
    assert ["Correct Tone" in a for a in actions] == [False, True, False]
    assert "algorithmicallyEnhanced" in actions[1] and "compositeWithTrainedAlgorithmicMedia" in actions[0]
    manifests = librarys(third, PNG)["manifests"]
    assert {m["title"] for m in manifests.values()} == {"first.png", "second.jpg", "third.png"}


def test_a_source_that_had_been_changed_is_kept_and_told_of(studio, tmp_path):
    source = Source("first.png", PNG, changed_pixel(signed(studio)))
    found = read(signed(studio, source=source), PNG, tmp_path)
    assert found.state == reading.VALID and found.entry.sources[0].state == reading.CHANGED


def test_the_credentials_tell_what_was_done(studio):
    mask = torch.zeros(40, 60)
    mask[10:20, 5:35] = 0.5
    data = signed(studio, source=Source("holiday.jpg", JPEG, plain(JPEG)), changed=region(mask))
    store = librarys(data, PNG)
    manifest = store["manifests"][store["active_manifest"]]
    (assertion,) = [a for a in manifest["assertions"] if a["label"] == "c2pa.actions.v2"]
    opened, edited = assertion["data"]["actions"]
    assert opened["action"] == "c2pa.opened" and edited["action"] == "c2pa.edited"
    assert edited["softwareAgent"]["name"] == "EditKit BlazeEdit" and edited["softwareAgent"]["version"][0].isdigit()
    assert edited["digitalSourceType"].endswith("/compositeWithTrainedAlgorithmicMedia")
    assert edited["parameters"]["org.editkit.weights"] == ["blazeedit-small"]
    shape = edited["changes"][0]["region"][0]["shape"]
    assert [shape["origin"]["x"], shape["origin"]["y"], shape["width"], shape["height"]] == [5, 10, 30, 10]
    by_relation = {i["relationship"]: i for i in manifest["ingredients"]}
    assert by_relation.keys() == {"parentOf", "inputTo"} and by_relation["parentOf"]["title"] == "holiday.jpg"
    assert manifest["claim_generator_info"][0]["name"] == "ComfyUI-EditKit"


def test_the_region_comes_back_as_the_mask_that_went_in(studio, tmp_path):
    mask = torch.zeros(40, 60)
    mask[10:20, 5:35] = 1
    data = signed(studio, changed=region(mask))
    with Image.open(io.BytesIO(read(data, PNG, tmp_path).region)) as thumbnail:
        assert np.array_equal(np.asarray(thumbnail), (mask * 255).byte().numpy())
    assert read(signed(studio), PNG, tmp_path).region is None


def test_a_signature_outlived_by_its_picture_is_told_from_a_changed_picture(tmp_path):
    chain, key, _ = issue(end=2.5)
    data = signed((certificate.check(chain, key), None))
    end = time.monotonic() + 10
    while (found := read(data, PNG, tmp_path)).state == reading.VALID and time.monotonic() < end:
        time.sleep(0.2)
    assert found.state == reading.EXPIRED and "expired since" in found.sentence


def test_what_the_library_refuses_is_one_sentence(studio):
    with pytest.raises(EditError, match="^The picture could not be signed: [^\n]+[^.]\\.$"):
        signing.sign(b"no picture", PNG, Story("x.png"), studio[0])


@pytest.fixture
def listener():
    """(address, how many have called): a server that anything reaching for the network would be seen at."""
    calls, server = [], socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.05)
    stop = threading.Event()

    def listen():
        while not stop.is_set():
            try:
                server.accept()[0].close()
                calls.append(1)
            except TimeoutError:
                continue

    thread = threading.Thread(target=listen)
    thread.start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}/x.c2pa", calls
    stop.set()
    thread.join()
    server.close()


def test_nothing_is_asked_of_the_network(studio, listener, tmp_path):
    address, calls = listener
    chain, key, _ = issue(ocsp=address)  # names a server that would say whether it was revoked
    data = signed((certificate.check(chain, key), None))
    assert read(data, PNG, tmp_path).state == reading.VALID
    elsewhere = io.BytesIO()
    with package.context() as settings, c2pa.Builder(manifest(Story("x"), PNG), context=settings) as builder:
        builder.set_no_embed()
        builder.set_remote_url(address)
        info = c2pa.C2paSignerInfo(studio[0].algorithm.encode(), studio[0].chain, studio[0].key, None)
        builder.sign(c2pa.Signer.from_info(info), PNG, io.BytesIO(plain()), elsewhere)
    assert read(elsewhere.getvalue(), PNG, tmp_path).state == reading.ELSEWHERE
    signed(studio, source=Source("x.png", PNG, elsewhere.getvalue()))
    time.sleep(0.1)
    assert calls == []
    with pytest.raises(c2pa.C2paError):  # the library's own defaults would have gone there: the listener hears it
        c2pa.Reader(PNG, io.BytesIO(elsewhere.getvalue()), context=c2pa.Context())
    time.sleep(0.2)
    assert calls


def test_without_the_library_the_sentence_names_the_requirements(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "c2pa", None)
    with pytest.raises(EditError, match="requirements-c2pa.txt"):
        reading.read(tmp_path / "x.png", PNG)


def test_that_there_are_credentials_is_seen_without_the_library(studio, tmp_path):
    for kind in (PNG, JPEG):
        for data, there in ((signed(studio, kind), True), (plain(kind), False)):
            (tmp_path / "x").write_bytes(data)
            assert reading.are_there(tmp_path / "x") is there
    assert reading.are_there(tmp_path / "gone") is False
