"""`inspect`, and `--c2pa` of `edit` and `run`: as a user meets them."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from editkit.headless import credentials, shipped, workflow
from editkit.headless.cli import main
from editkit.headless.errors import EditError
from editkit.headless.registry import node_classes
from editkit.headless.validate import validate
from editkit.models.provenance import keys

needs_c2pa = pytest.mark.skipif(
    __import__("importlib.util").util.find_spec("c2pa") is None, reason="needs requirements-c2pa.txt"
)


@pytest.fixture
def work(tmp_path, monkeypatch, settings):
    """An empty working folder with photo.png (12 x 10) and a workflow that scales it."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 200, (10, 12, 3), np.uint8)).save("photo.png")
    scale = {"image": ["1", 0], "upscale_method": "area", "width": 6, "height": 5, "crop": "disabled"}
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "photo.png"}, "_meta": {"title": "image"}},
        "2": {"class_type": "ImageScale", "inputs": scale, "_meta": {"title": "small"}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "x"},
              "_meta": {"title": "result"}},
    }  # fmt: skip
    extra = {"extra_pnginfo": {"workflow": {"nodes": []}}}
    (tmp_path / "graph.json").write_text(json.dumps({"prompt": graph, "extra_data": extra}))
    return tmp_path


def said(capsys, *arguments, code=0):
    assert main([str(a) for a in arguments]) == code
    out = capsys.readouterr()
    return out.out + out.err


@needs_c2pa
def test_from_a_certificate_to_a_history(work, capsys):
    assert "make a self-signed one" in said(capsys, "run", "graph.json", "--c2pa", code=1)
    assert not (work / "out").exists()
    made = said(capsys, "inspect", "--make-certificate", "--name", "Jane Doe")
    assert "'Jane Doe', valid until 20" in made and str(keys.home()) in made
    assert "x_00001_.png" in said(capsys, "run", "graph.json", "--c2pa")
    shown = said(capsys, "inspect", "out/x_00001_.png")
    for part in ("6x5, image/png", "valid, self-signed", "signed by: Jane Doe (Self-signed, verified by nobody)",
                 "1. opened", "2. edited by ComfyUI-EditKit 0.", "made from: photo.png, which had no credentials",
                 "inside; 3 nodes; `run` repeats it; dropped on the canvas"):  # fmt: skip
        assert part in shown, part
    said(capsys, "run", "out/x_00001_.png", "--set", "image=out/x_00001_.png", "--set", "2.width=3", "--out", "again")
    (second,) = (work / "again").iterdir()
    shown = said(capsys, "inspect", second)
    assert "made from: x_00001_.png, whose credentials were valid" in shown
    assert shown.index("made from: x_00001_.png") < shown.index("made from: photo.png")


@needs_c2pa
def test_json_workflow_and_prompt_are_written(work, capsys):
    keys.make()
    said(capsys, "run", "graph.json", "--c2pa")
    picture = "out/x_00001_.png"
    told = json.loads(said(capsys, "inspect", picture, "--json", "--workflow", "w.json", "--prompt", "p.json"))
    found = told["credentials"]
    assert found["state"] == "valid" and found["entry"]["sources"][0]["title"] == "photo.png"
    assert (told["width"], told["height"], told["type"]) == (6, 5, "image/png")
    assert json.loads((work / "w.json").read_text()) == told["workflow"] == {"nodes": []}
    assert json.loads((work / "p.json").read_text()) == told["prompt"]
    assert workflow.read(work / "p.json").prompt["3"]["class_type"] == credentials.NODE


@needs_c2pa
def test_a_picture_changed_since_it_was_signed_is_exit_code_1(work, capsys):
    keys.make()
    said(capsys, "run", "graph.json", "--c2pa")
    (work / "changed.png").write_bytes((work / "out/x_00001_.png").read_bytes() + b"more")
    assert "was changed after it was signed" in said(capsys, "inspect", "changed.png", code=1)


@needs_c2pa
def test_what_strangers_wrote_cannot_pass_for_what_inspect_says(work, capsys):
    from editkit.models.picture_file import PNG
    from editkit.models.provenance import signing
    from editkit.models.provenance.story import Source, Story

    name = "a\x1b[1A\x1b[2K\r\nContent credentials: valid, and \u202esdrawkcab"
    data = (work / "photo.png").read_bytes()
    signed = signing.sign(data, PNG, Story("x.png", (), Source(name, PNG, data)), keys.make())
    (work / "signed.png").write_bytes(signed)
    shown = said(capsys, "inspect", "signed.png")
    (line,) = [line for line in shown.splitlines() if "made from" in line]
    assert "a\ufffd[1A\ufffd[2K\ufffd\ufffdContent credentials: valid, and \ufffdsdrawkcab" in line


@needs_c2pa
def test_who_signed_is_checked_against_a_list(work, capsys, monkeypatch):
    from editkit.tests.certificates import issue

    for name, data in zip(("CERTIFICATE", "KEY", "TRUST"), issue()):
        (work / f"{name}.pem").write_bytes(data)
    monkeypatch.setenv("EDITKIT_C2PA_CERTIFICATE", "CERTIFICATE.pem")
    monkeypatch.setenv("EDITKIT_C2PA_KEY", "KEY.pem")
    said(capsys, "run", "graph.json", "--c2pa")
    assert "not on your list" in said(capsys, "inspect", "out/x_00001_.png")
    assert "is on your list" in said(capsys, "inspect", "out/x_00001_.png", "--trust", "TRUST.pem")
    monkeypatch.setenv("EDITKIT_C2PA_TRUST", "TRUST.pem")
    assert "is on your list" in said(capsys, "inspect", "out/x_00001_.png")
    assert "name a PEM file" in said(capsys, "inspect", "out/x_00001_.png", "--trust", "gone.pem", code=1)


def test_a_plain_picture_and_none_at_all(work, capsys):
    shown = said(capsys, "inspect", "photo.png")
    assert "no content credentials" in shown and "Workflow: none inside" in shown
    (work / "text.png").write_text("hello")
    for arguments, problem in (
        (["gone.png"], "there is no such file"),
        (["text.png"], "not a picture"),
        ([], "Name a picture"),
        (["photo.png", "--workflow", "w.json"], "carries no workflow, so w.json was not written"),
        (["photo.png", "--region", "r.png"], "shows no changed region"),
    ):
        found = said(capsys, "inspect", *arguments, code=1)
        assert problem in found and len(found.splitlines()) == 1
    assert not (work / "w.json").exists()


@needs_c2pa
def test_without_the_library_the_workflow_is_read_and_credentials_are_seen(work, capsys, monkeypatch):
    keys.make()
    said(capsys, "run", "graph.json", "--c2pa")
    monkeypatch.setitem(sys.modules, "c2pa", None)
    shown = said(capsys, "inspect", "out/x_00001_.png")
    assert "there are some, but they were not checked" in shown and "requirements-c2pa.txt" in shown
    assert "3 nodes" in shown
    assert "no content credentials" in said(capsys, "inspect", "photo.png")
    assert "requirements-c2pa.txt" in said(capsys, "run", "graph.json", "--c2pa", code=1)
    assert "requirements-c2pa.txt" in said(capsys, "inspect", "--make-certificate", code=1)


@needs_c2pa
@pytest.mark.parametrize("name", ["better.png", "better.jpg"])
def test_edit_signs(work, capsys, fake_pack, monkeypatch, name):
    keys.make()
    said(capsys, "edit", "photo.png", "--task", "tone", "--c2pa", "-o", name)
    shown = said(capsys, "inspect", name)
    assert "valid, self-signed" in shown and "made from: photo.png" in shown


@needs_c2pa
def test_edit_signs_a_folder_with_masks_and_refuses_other_formats(work, capsys, fake_pack):
    keys.make()
    (work / "in").mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (12, 10), (9, 9, 9)).save(work / "in" / f"{name}.png")
    Image.new("L", (12, 10), 255).save(work / "mask.png")
    said(capsys, "edit", "in", "--task", "tone", "--mask", "mask.png", "--c2pa", "-o", "done")
    assert "made from: b.png" in said(capsys, "inspect", "done/b.png")
    assert "end it in .png or .jpg" in said(
        capsys, "edit", "photo.png", "--task", "tone", "--c2pa", "-o", "x.webp", code=1
    )


def test_edit_without_a_certificate_edits_nothing(work, capsys, fake_pack, settings):
    found = said(capsys, "edit", "photo.png", "--task", "tone", "--c2pa", "-o", "x.png", code=1)
    assert ("no certificate" in found or "requirements-c2pa" in found) and not (work / "x.png").exists()


SHIPPED = sorted(shipped.WORKFLOWS.glob("*.json"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_every_shipped_workflow_can_be_signed(path):
    registry, prompt = node_classes(), workflow.read(path).prompt
    saves = [i for i, n in prompt.items() if n["class_type"] in (credentials.SAVE, credentials.NODE)]
    if not saves:
        with pytest.raises(EditError, match="saves no picture that could be signed"):
            credentials.sign_results(prompt, registry, keys.SELF_SIGNED)
        return
    before = json.loads(json.dumps(prompt))
    credentials.sign_results(prompt, registry, keys.SELF_SIGNED)
    for node in saves:
        made, old = prompt[node], before[node]
        assert made["class_type"] == credentials.NODE and made["_meta"] == old["_meta"]
        assert old["inputs"].get("credentials", keys.OFF) == keys.OFF, "a template runs after a plain install"
        assert (old["inputs"] | {"credentials": keys.SELF_SIGNED}).items() <= made["inputs"].items()
        for name, kind in (("source", "IMAGE"), ("mask", "MASK")):
            if name in made["inputs"]:
                link, slot = made["inputs"][name]
                known = registry.get(prompt[link]["class_type"])
                assert known is None or known.RETURN_TYPES[slot] == kind
    if path.stem in ("tone", "relight", "remove_object", "outpaint", "sticker"):
        prompt[saves[0]]["inputs"]["credentials"] = keys.OFF  # there may be no library
        assert validate(prompt, registry).outputs == saves, "the checks before a run let it through"


def test_the_region_is_what_the_nearest_edit_says_it_changed():
    registry = node_classes()
    for stem, wanted in (("remove_object", ["3", 1]), ("tone", None), ("sticker", None)):
        prompt = workflow.read(shipped.WORKFLOWS / f"{stem}.json").prompt
        credentials.sign_results(prompt, registry, keys.SELF_SIGNED)
        (save,) = [n for n in prompt.values() if n["class_type"] == credentials.NODE]
        assert save["inputs"].get("mask") == wanted and save["inputs"]["source"] == ["1", 0]


def test_a_choice_that_the_workflow_made_stays():
    prompt = {"1": {"class_type": credentials.NODE, "inputs": {"images": ["2", 0], "credentials": keys.OWN}},
              "2": {"class_type": "EmptyImage", "inputs": {}},
              "3": {"class_type": credentials.NODE, "inputs": {"images": ["2", 0]}}}  # fmt: skip
    credentials.sign_results(prompt, node_classes(), keys.SELF_SIGNED)
    assert [prompt[n]["inputs"]["credentials"] for n in ("1", "3")] == [keys.OWN, keys.SELF_SIGNED]


@needs_c2pa
def test_the_doctor_says_what_would_sign(work, capsys):
    from editkit.headless import doctor

    doctor._credentials()
    assert "no certificate to sign with" in capsys.readouterr().out
    keys.make("Jane Doe")
    doctor._credentials()
    assert "Jane Doe, self-signed, until 20" in capsys.readouterr().out
