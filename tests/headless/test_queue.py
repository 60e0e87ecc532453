"""`queue`: what is sent, what comes back, what it is called. The real server is in tests/comfyui."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from editkit.headless import cli
from editkit.tests.headless.fake_comfyui import RESULT
from editkit.tests.headless.queued import GRAPH, ROOT, change, client, picture, queue, results, wanted


def test_a_picture_goes_up_and_its_result_comes_back_under_the_prefix(fake, place, capsys):
    assert queue(fake, "--set", "image=photos/p1.png") == 0
    assert results() == {"better.png": RESULT + Path("photos/p1.png").read_bytes()}
    assert capsys.readouterr().out.splitlines() == [str(Path("out/better.png"))]
    (body,) = fake.bodies
    assert set(body) == {"prompt", "prompt_id", "client_id", "extra_data"}
    name = body["prompt"]["1"]["inputs"]["image"]
    assert name.startswith("editkit/") and (fake.folder / "input" / name).is_file()


def test_the_client_needs_the_standard_library_alone(fake, place):
    done = client(fake, "--batch", "photos", flags=["-I", "-S"])
    assert done.wait(60) == 0, done.stderr.read()
    assert results() == wanted()


def test_every_file_that_a_node_shows_is_fetched_and_named_after_its_node(fake, place):
    change(**{"4": {"class_type": "Compare", "inputs": {"images": ["2", 0]}, "_meta": {"title": "before / after"}}})
    assert queue(fake, "--batch", "photos") == 0
    names = {f"p{n}{end}.png" for n in range(5) for end in ("", "_before_after_a", "_before_after_b")}
    assert set(results()) == names
    assert results()["p3_before_after_b.png"] == wanted()["p3.png"]


def test_painted_masks_are_uploaded_and_masks_are_paired(fake, place):
    Path("masks").mkdir()
    for number in range(5):
        picture(Path("masks") / f"p{number}_mask.png", 100 + number)
    change(edit={"mask_paint": "a.png", "mask": ["5", 0]},
           **{"5": {"class_type": "LoadImageMask", "inputs": {"image": "a.png", "channel": "red"},
                    "_meta": {"title": "mask"}}})  # fmt: skip
    assert queue(fake, "--batch", "photos", "--masks", "masks") == 0
    sent = [b["prompt"] for b in fake.bodies]
    painted = {s["2"]["inputs"]["mask_paint"] for s in sent}
    assert len(painted) == 1 and (fake.folder / "input" / painted.pop()).read_bytes() == Path("a.png").read_bytes()
    masks = [(fake.folder / "input" / s["5"]["inputs"]["image"]).read_bytes() for s in sent]
    assert masks == [(Path("masks") / f"p{n}_mask.png").read_bytes() for n in range(5)]
    assert len(list((fake.folder / "input/editkit").iterdir())) == 11  # each content once


def test_what_is_done_is_not_done_again(fake, place, capsys):
    assert queue(fake, "--batch", "photos") == 0
    assert queue(fake, "--batch", "photos") == 0
    assert len(fake.executed()) == 5 and "5 of 5 were done before" in capsys.readouterr().out
    picture(Path("photos/p6.png"), 66)
    picture(Path("photos/p2.png"), 67)  # another picture of the same name: neither result may go
    old = results()
    assert queue(fake, "--batch", "photos") == 0
    assert len(fake.executed()) == 7
    assert results() == old | {"p6.png": wanted()["p6.png"], "p2_2.png": wanted()["p2.png"]}
    Path("out/p1.png").unlink()
    assert queue(fake, "--batch", "photos") == 0
    assert len(fake.executed()) == 8 and results()["p1.png"] == wanted()["p1.png"]
    assert queue(fake, "--batch", "photos", "--again") == 0
    assert len(fake.executed()) == 14 and len(results()) == 7
    Path("out/p3.png").unlink()  # its name stays its own
    picture(Path("photos/p3.png"), 68)
    assert queue(fake, "--batch", "photos") == 0 and results()["p3_2.png"] == wanted()["p3.png"]


def test_another_setting_is_another_job_and_no_file_of_others_is_overwritten(fake, place):
    Path("out").mkdir()
    Path("out/p0.png").write_text("mine")
    assert queue(fake, "--batch", "photos") == queue(fake, "--batch", "photos", "--set", "edit.steps=5") == 0
    found = results()
    assert found.pop("p0.png") == b"mine" and len(found) == 10 and len(fake.executed()) == 10


def test_equal_photos_of_two_folders_are_two_items(fake, place):
    Path("more").mkdir()
    Path("more/p1.png").write_bytes(Path("photos/p1.png").read_bytes())
    Path("more/copy.png").write_bytes(Path("photos/p1.png").read_bytes())
    for _ in range(2):
        assert queue(fake, "--batch", "photos", "--batch", "more") == 0
        assert sorted(results()) == ["copy.png", *(f"p{n}.png" for n in range(2)), "p1_2.png",
                                     *(f"p{n}.png" for n in range(2, 5))]  # fmt: skip


def test_a_failed_photo_is_reported_the_others_are_done_and_it_can_be_retried(fake, place, capsys):
    (Path("photos") / "p2.png").write_bytes(b"no picture")
    assert queue(fake, "--batch", "photos") == 1
    said = capsys.readouterr().err
    assert "[3/5] p2.png: 'image' (LoadImage): Cannot read" in said and "1 of 5 failed." in said
    assert sorted(results()) == ["p0.png", "p1.png", "p3.png", "p4.png"]
    assert queue(fake, "--batch", "photos") == 1
    assert "--retry-failed tries it again" in capsys.readouterr().err
    assert queue(fake, "--batch", "photos", "--retry-failed") == 1 and len(fake.executed()) == 4
    assert "tries it again" not in capsys.readouterr().err


def test_a_node_that_fails_is_said_as_the_runner_says_it(fake, place, capsys):
    change(result={"filename_prefix": "fail"})
    assert queue(fake) == 1
    assert capsys.readouterr().err == "error: 'result' (SaveImage): It is broken.\n"
    assert queue(fake, "--batch", "photos") == 1
    assert capsys.readouterr().err.count("'result' (SaveImage): It is broken.") == 5
    assert results() == {}


def test_what_is_wrong_with_the_workflow_is_said_once_and_stops_the_batch(fake, place, capsys):
    change(edit={"steps": 0})
    assert queue(fake, "--batch", "photos") == 1
    assert capsys.readouterr().err == "error: Node 2 (Painted): Value 0 smaller than min of 1: steps\n"
    assert len(fake.bodies) == 1
    change()  # once it is corrected, nothing has to be retried by name
    assert queue(fake, "--batch", "photos") == 0 and results() == wanted()


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ({"class_type": "KSampler", "inputs": {}}, "KSampler is not a node of this server"),
        ({"class_type": "EditKitNo", "inputs": {}}, "EditKitNo is not a node of this EditKit: update"),
        ({"inputs": {}}, "missing the class_type"),
    ],
)
def test_unknown_nodes_are_refused_before_anything_is_sent(fake, place, capsys, node, said):
    change(**{"9": node})
    assert queue(fake) == 1
    assert said in capsys.readouterr().err and not fake.bodies and not Path("out").exists()


def test_a_picture_that_is_nowhere_is_said_with_the_places(fake, place, capsys):
    assert queue(fake, "--set", "image=no.png") == 1
    said = capsys.readouterr().err
    assert said.startswith("error: Node 1 (LoadImage): image - Invalid image file: no.png (looked in ")
    assert said.endswith(f", {fake.url})\n") and str(place) in said
    picture(fake.folder / "input" / "no.png", 5)
    assert queue(fake, "--set", "image=no.png") == 0  # the server has one of its own


@pytest.mark.parametrize("name", ["../secret.png", "/etc/secret.png", "..\\secret.png", "C:\\secret.png", "~/x.png",
                                  "sub/../../secret.png", "../secret.png [input]"])  # fmt: skip
def test_a_workflow_does_not_choose_which_files_leave_the_machine(fake, place, capsys, name):
    picture(place.parent / "secret.png", 9)
    change(image={"image": name})
    assert queue(fake) == 1
    assert f"the workflow itself names the picture {name}" in capsys.readouterr().err
    assert not any(method == "POST" for method, _ in fake.requests)


def test_a_path_that_the_user_names_is_sent(fake, place):
    picture(place.parent / "mine.png", 9)
    assert queue(fake, "--set", "image=../mine.png") == 0
    assert results()["better.png"] == RESULT + (place.parent / "mine.png").read_bytes()
    assert queue(fake, "--set", "image=../nothing.png") == 1


def test_a_name_from_the_server_cannot_lead_out_of_the_folder(fake, place, monkeypatch):
    def save(*_):
        return {"images": [{"filename": "../../evil.sh/../x.p/g", "subfolder": "..", "type": "output"}]}

    monkeypatch.setattr(fake, "save", save)
    (fake.folder / "g").write_bytes(b"content")
    assert queue(fake) == 0
    assert results() == {"better.bin": b"content"} and not list(place.parent.glob("evil*"))


def test_a_saved_png_is_queued_with_its_canvas(fake, place):
    from PIL.PngImagePlugin import PngInfo

    texts = PngInfo()
    texts.add_text("prompt", json.dumps(GRAPH))
    texts.add_itxt("workflow", json.dumps({"nodes": ["Straße"]}), zip=True)
    Image.new("RGB", (2, 2)).save("saved.png", pnginfo=texts)
    assert cli.main(["queue", "saved.png", "--server", fake.url]) == 0
    assert fake.bodies[0]["extra_data"] == {"extra_pnginfo": {"workflow": {"nodes": ["Straße"]}}}


def test_comfyui_loads_nothing_of_the_command_line_with_the_pack():
    code = (
        "import importlib.util as u, sys; s = u.spec_from_file_location('a_pack', sys.argv[1] + '/__init__.py', "
        "submodule_search_locations=[sys.argv[1]]); m = u.module_from_spec(s); sys.modules['a_pack'] = m; "
        "s.loader.exec_module(m); print([n for n in sys.modules if n.startswith('a_pack.headless')], len(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(ROOT)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[] ") and int(done.stdout.split()[1]) > 100
