"""ICEdit's templates queued on a real server with a tiny FLUX and the recorded LoRA, and a judge on loopback."""

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from editkit.benchmarks.parity_moelora import MOE
from editkit.tests.comfyui.server import free_port, pixels
from editkit.tests.comfyui.test_icedit import recorded
from editkit.tests.house import pack
from editkit.tests.loopback_judge import brighter, serving

TEMPLATES = ("icedit_early_filter", "icedit_instruction", "icedit_masked", "icedit_training_free")
TINY = {"flux1-fill-dev.safetensors": "TinyFill", "flux1-dev.safetensors": "TinyDev", "DualCLIPLoader": "TinyWords",
        "VAELoader": "TinyPixels"}  # fmt: skip
API, MEDIA = pack.ROOT / "workflows/api", pack.ROOT / "workflows/media"
SIZE = (120, 88)
KEY = "sk-server-51b7d0e4a9"


@pytest.fixture(scope="module")
def fill(serve, root):
    """A server with the tests' own loaders, started with a key in its environment."""

    def add(base: Path) -> None:
        shutil.copy(Path(__file__).parent / "inside" / "tiny_fill.py", base / "custom_nodes")
        (base / "models/loras").mkdir()
        shutil.copy(recorded(root) / MOE, base / "models/loras/ICEdit-MoE-LoRA.safetensors")

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDITKIT_JUDGE_KEY", KEY)
        starting = serve(add)
    with starting as server:
        yield server


def tiny(server, template: str, **changes) -> dict:
    """A template's API twin with the tiny loaders, small; inputs changed by name."""
    prompt = json.loads((API / f"{template}.json").read_text(encoding="utf-8"))
    for node in prompt.values():
        inputs = node["inputs"]
        loader = TINY.get(inputs.get("unet_name") or node["class_type"])
        if loader:
            node.update(class_type=loader, inputs={})
        if node["class_type"] in ("LoadImage", "LoadImageMask"):
            inputs["image"] = server.upload(small(server.base / inputs["image"]))
        if node["class_type"] == "EditKitICEditSchedule":
            inputs["steps"] = {10: 2, 28: 4}[inputs["steps"]]
        wanted = {"width": 64, "candidates": 4, "layer": 4} | changes
        inputs.update({key: value for key, value in wanted.items() if key in inputs})
    return prompt


def prepared(server, url: str | None = None, **changes) -> dict:
    """The early filter's template, judged by hand or by an endpoint."""
    prompt = tiny(server, "icedit_early_filter", **changes)
    by_kind = {node["class_type"]: i for i, node in prompt.items()}
    if url is not None:
        prompt[by_kind["EditKitICEditJudgeEndpoint"]]["inputs"]["url"] = url
        prompt[by_kind["EditKitICEditEarlyFilter"]]["inputs"]["judge"] = [by_kind["EditKitICEditJudgeEndpoint"], 0]
    return prompt


def small(file: Path) -> Path:
    """A sample photograph at a size that is quick to edit."""
    with Image.open(MEDIA / file.name) as photo:
        photo.resize(SIZE, Image.Resampling.LANCZOS).save(file, quality=95)
    return file


def outputs(entry: dict, prompt: dict) -> dict[str, dict]:
    """What each output node gave, by its class."""
    assert entry["status"]["status_str"] == "success", entry["status"]
    return {prompt[i]["class_type"]: given for i, given in entry["outputs"].items()}


def calls(server) -> int:
    """How often the network has been asked since the server started."""
    file = server.base / "calls.txt"
    return len(file.read_text().split()) if file.exists() else 0


def pictures_of(server, prompt: dict) -> dict[str, np.ndarray]:
    """The one picture of each output node, by its class."""
    made = outputs(server.run(prompt), prompt)
    return {kind: server.picture(given["images"][0]) for kind, given in made.items()}


@pytest.mark.parametrize("template", ["icedit_instruction", "icedit_masked"])
def test_an_edit_has_the_photographs_size_and_its_experts_matter(fill, template):
    made = pictures_of(fill, tiny(fill, template))
    others = pictures_of(fill, tiny(fill, template, experts_per_token=2))
    assert made["SaveImage"].shape == (SIZE[1], SIZE[0], 3)
    assert np.abs(made["SaveImage"] - others["SaveImage"]).max() > 1 / 255
    if template == "icedit_instruction":
        assert np.abs(made["PreviewImage"] - made["PreviewImage"].mean((0, 1))).max() > 0.1  # the experts' map
        return
    photo = server_pixels(fill, "fig_bowl.jpg")
    outside = server_pixels(fill, "fig_bowl_mask.png")[..., 0] == 0
    kept = (made["SaveImage"] == photo).all(-1)
    assert kept[outside].mean() > 0.5 and not kept.all()


def server_pixels(server, name: str) -> np.ndarray:
    """A sample photograph as the test uploaded it."""
    return pixels(server.base / name)[..., :3]


def test_without_training_the_right_half_is_edited_from_the_inverted_photograph(fill):
    made = pictures_of(fill, tiny(fill, "icedit_training_free"))
    assert made["SaveImage"].shape == (SIZE[1], SIZE[0], 3)
    assert made["PreviewImage"].shape[1] >= 2 * 64 and made["SaveImage"].std() > 0.01


def test_by_hand_the_candidates_are_shown_first_and_then_only_the_chosen_one_is_run(fill):
    before, prompt = calls(fill), prepared(fill)
    shown = outputs(fill.run(prompt), prompt)
    assert "SaveImage" not in shown and calls(fill) - before == 2  # one batch, two steps
    sheet = fill.picture(shown["PreviewImage"]["images"][0])
    assert sheet.shape[1] > 4 * SIZE[0] and "none picked yet" in shown["PreviewAny"]["text"][0]
    saved = {}
    for pick in (1, 3):
        before, prompt = calls(fill), prepared(fill, pick=pick)
        made = outputs(fill.run(prompt), prompt)
        assert calls(fill) - before == 4  # the full run alone
        assert f"Candidate {pick} of 4 wins, seed {pick - 1}" in made["PreviewAny"]["text"][0]
        saved[pick] = fill.picture(made["SaveImage"]["images"][0])
    assert saved[1].shape == (SIZE[1], SIZE[0], 3)
    assert np.abs(saved[1] - saved[3]).max() > 0.02


def test_a_model_on_loopback_judges_and_its_winner_is_the_result(fill):
    with serving(brighter) as judge:
        prompt = prepared(fill, judge.url, key_variable="EDITKIT_JUDGE_KEY", image_side=64)
        entry = fill.run(prompt)
    made = outputs(entry, prompt)
    assert [len(r.pictures) for r in judge.requests] == [3, 3, 3]
    assert all(r.headers["Authorization"] == f"Bearer {KEY}" for r in judge.requests)
    assert all("'turn the fig into a lemon'" in r.question for r in judge.requests)
    report = made["PreviewAny"]["text"][0]
    winner = int(report.split("Candidate ")[1].split()[0])
    by_hand = prepared(fill, pick=winner)
    chosen = outputs(fill.run(by_hand), by_hand)
    results = [fill.picture(given["SaveImage"]["images"][0]) for given in (made, chosen)]
    assert np.array_equal(*results)
    assert "NFE = n + M · m = 4 + 4 · 2 = 12" in report
    kept_apart(fill, entry, judge)


def kept_apart(server, entry: dict, judge) -> None:
    """Neither the key nor what was sent is in the history, the log or any file that the server wrote."""
    first = judge.requests[0].files[0]
    sent = json.loads(judge.requests[0].body)["messages"][0]["content"][0]["image_url"]["url"][100:160].encode()
    written = [json.dumps(entry).encode(), server.log().encode()]
    files = [p for name in ("output", "temp", "user") for p in (server.base / name).rglob("*") if p.is_file()]
    assert any(p.suffix == ".png" for p in files)
    for data in [*written, *(p.read_bytes() for p in files)]:
        assert KEY.encode() not in data and sent not in data and first not in data


@pytest.mark.parametrize("how", ["refuses", "late", "garbled", "gone"])
def test_when_the_judge_fails_the_first_candidate_is_run_and_it_is_said(fill, how):
    def script(request):
        if how == "late":
            time.sleep(2)
        return {"refuses": (401, f"no {KEY}".encode(), {}), "garbled": (200, b"<html>", {})}.get(how, "2")

    with serving(script) as judge:
        url = f"http://127.0.0.1:{free_port()}/v1" if how == "gone" else judge.url
        prompt = prepared(fill, url, timeout=0.5, retries=0, key_variable="EDITKIT_JUDGE_KEY")
        made = outputs(fill.run(prompt), prompt)
    by_hand = prepared(fill, pick=1)
    chosen = outputs(fill.run(by_hand), by_hand)
    report = made["PreviewAny"]["text"][0]
    assert "Candidate 1 of 4 wins" in report and "left it open in 1 comparison" in report
    assert np.array_equal(*(fill.picture(given["SaveImage"]["images"][0]) for given in (made, chosen)))
    assert "ICEdit Early Filter: The judge left it open" in fill.log() and KEY not in fill.log() + report


def test_cancelling_ends_the_waiting_for_a_judge_and_keeps_the_candidates(fill):
    with serving(lambda r: time.sleep(20) or "1") as judge:
        prompt = prepared(fill, judge.url, seed=77)
        status, reply = fill.queue(prompt)
        assert status == 200
        until(lambda: judge.requests)
        began, before = time.monotonic(), calls(fill)
        fill.post("/interrupt", {})
        entry = until(lambda: fill.get(f"/history/{reply['prompt_id']}"))[reply["prompt_id"]]
    kinds = [kind for kind, _ in entry["status"]["messages"]]
    assert "execution_interrupted" in kinds and time.monotonic() - began < 10
    by_hand = prepared(fill, seed=77)
    outputs(fill.run(by_hand), by_hand)
    assert calls(fill) == before


def until(told, seconds: float = 60):
    """What `told()` gives once it gives something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := told():
            return found
        time.sleep(0.05)
    raise AssertionError(f"nothing came within {seconds} s")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"url": "file:///etc/passwd"}, "no address of http or https"),
        ({"url": "http://127.0.0.1:1/v1", "key_variable": KEY}, "never the key itself"),
        ({"url": "http://127.0.0.1:1/v1", "key_variable": "HOME"}, "must begin with EDITKIT_"),
    ],
)
def test_a_judge_that_cannot_be_asked_is_refused_before_anything_runs(fill, changes, said):
    before, log = calls(fill), len(fill.log())
    status, reply = fill.queue(prepared(fill, **changes))
    assert status == 400 and said in json.dumps(reply) and calls(fill) == before
    assert KEY not in json.dumps(reply) and KEY not in fill.log()[log:]
