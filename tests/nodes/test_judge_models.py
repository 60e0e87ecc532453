"""Judges that run here: a tiny vision-language model and a tiny CLIP, against transformers itself; and bad folders."""

import shutil
from types import SimpleNamespace

import pytest
import torch

from editkit import NODE_CLASS_MAPPINGS as NODES
from editkit.models.errors import EditError
from editkit.models.icedit.judging import JudgeFailed
from editkit.nodes.host import folders, vision_models
from editkit.nodes.host.pictures import as_pillow
from editkit.tests.comfyui.inside import tiny_vision
from editkit.tests.loopback_judge import grey


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with models/editkit/{talker, clip}."""
    root = tmp_path_factory.mktemp("judges")
    tiny_vision.write_llava(root / "models/editkit/talker")
    tiny_vision.write_clip(root / "models/editkit/clip")
    return root


@pytest.fixture(autouse=True)
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setattr(vision_models, "_loaded", {})
    return place / "models/editkit"


def pictures(count=3):
    draw = torch.Generator().manual_seed(3)
    return [torch.rand(3, 30, 40 + 4 * i, generator=draw) for i in range(count)]


def local(**changes):
    inputs = {"folder": "talker", "swap_order": False, "image_side": 32, "max_tokens": 12}
    return NODES["EditKitICEditJudgeLocal"]().run(**{**inputs, **changes})[0]


def quiet(done, total):
    pass


def test_the_model_says_what_transformers_says(here):
    import transformers

    shown = pictures()
    said = local().ask("which?", shown)
    processor = transformers.AutoProcessor.from_pretrained(here / "talker")
    model = transformers.LlavaForConditionalGeneration.from_pretrained(here / "talker")
    messages = [{"role": "user", "content": [*[{"type": "image"}] * 3, {"type": "text", "text": "which?"}]}]
    prompt = processor.apply_chat_template(messages, add_generation_prompt=True)
    inputs = processor(text=[prompt], images=[as_pillow(p, 32) for p in shown], return_tensors="pt")
    made = model.generate(**inputs, max_new_tokens=12, do_sample=False)
    assert said == processor.batch_decode(made[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)[0].strip()
    assert said and local().ask("which?", shown[::-1]) != said


def test_words_of_a_random_model_decide_nothing_and_the_first_stays():
    made = local().choose(pictures(), grey(0), "make it red", quiet)
    assert (made.winner, made.calls, len(made.failures)) == (0, 2, 2)


def test_a_cancelled_run_stops_while_the_model_talks(monkeypatch):
    class Cancelled(Exception):
        pass

    told = []

    def report(done, total):
        told.append((done, total))
        if done == 3:
            raise Cancelled

    monkeypatch.setattr(vision_models, "reporter", lambda: report)
    with pytest.raises(Cancelled):
        local().ask("which?", pictures())
    assert told == [(1, 12), (2, 12), (3, 12)]


def test_a_model_is_loaded_once_until_its_files_change(here, monkeypatch):
    loads, load = [], vision_models._load
    monkeypatch.setattr(vision_models, "_load", lambda *a: loads.append(a) or load(*a))
    shown = pictures()
    local().ask("a", shown)
    local(max_tokens=8).ask("b", shown)
    assert len(loads) == 1
    config = here / "talker" / "config.json"
    config.write_text(config.read_text() + "\n")
    local().ask("c", shown)
    assert len(loads) == 2


def test_a_device_that_is_too_small_leaves_the_first(monkeypatch):
    held = vision_models._model(folders.vision_folder("talker", "chat"), "chat")

    def full():
        raise torch.cuda.OutOfMemoryError

    small = SimpleNamespace(processor=held.processor, managed=SimpleNamespace(ready=full))
    monkeypatch.setattr(vision_models, "_model", lambda *_: small)
    made = local().choose(pictures(), grey(0), "x", quiet)
    assert made.winner == 0 and "too little memory for the judge 'talker'" in made.failures[0]
    with pytest.raises(JudgeFailed):
        local().voice.ask("x", pictures())


def clip(caption=""):
    return NODES["EditKitICEditJudgeCLIP"]().run(folder="clip", caption=caption)[0]


def test_clip_takes_the_nearest_to_the_text(here):
    import transformers

    shown = pictures(5)
    made = clip().choose(shown, grey(0), "a red cat", quiet)
    model = transformers.CLIPModel.from_pretrained(here / "clip")
    processor = transformers.AutoProcessor.from_pretrained(here / "clip")
    inputs = processor(text=["a red cat"], images=[as_pillow(p) for p in shown], return_tensors="pt")
    with torch.no_grad():
        scores = model(**inputs).logits_per_image[:, 0] / model.logit_scale.exp()
    assert made.winner == int(scores.argmax())
    said = [float(line.rpartition(" ")[2]) for line in made.lines]
    assert said == pytest.approx(scores.tolist(), abs=1e-4) and max(said) - min(said) > 1e-3


def test_a_caption_goes_before_the_instruction_and_a_long_one_is_cut():
    shown = pictures()
    assert clip("a blue dog").choose(shown, grey(0), "x", quiet) == clip().choose(shown, grey(0), "a blue dog", quiet)
    assert clip("word " * 100).choose(shown, grey(0), "x", quiet).failures == ()


def test_clip_and_a_person_give_no_marks():
    image = torch.zeros(1, 8, 8, 3)
    for judge in (clip(), NODES["EditKitICEditJudgePick"]().run(pick=1)[0]):
        with pytest.raises(EditError, match="gives no marks; wire"):
            NODES["EditKitICEditVIEScore"]().run(judge=judge, image=image, edited=image, instruction="x", threshold=0)


@pytest.mark.parametrize("kind", ["Local", "CLIP"])
def test_a_folder_that_is_not_there_is_refused_before_anything_runs(kind):
    cls = NODES[f"EditKitICEditJudge{kind}"]
    assert "There is no judge 'gone'" in cls.VALIDATE_INPUTS("gone")
    assert cls.VALIDATE_INPUTS("talker" if kind == "Local" else "clip") is True and cls.VALIDATE_INPUTS(None) is True
    assert "There is no judge" in cls.VALIDATE_INPUTS("clip" if kind == "Local" else "talker")  # the other kind
    wanted = {"Local": ["talker"], "CLIP": ["clip"]}[kind]
    assert cls.INPUT_TYPES()["required"]["folder"][0] == wanted


@pytest.mark.parametrize("lost", ["model.safetensors", "tokenizer.json"])
def test_half_a_folder_leaves_the_first_and_is_said(here, lost):
    shutil.copytree(here / "talker", here / "half", dirs_exist_ok=True)
    (here / "half" / lost).unlink()
    made = local(folder="half").choose(pictures(), grey(0), "x", quiet)
    shutil.rmtree(here / "half")
    assert made.winner == 0 and "'half' cannot be loaded" in made.failures[0]


def test_weights_in_another_format_than_safetensors_are_not_read(here):
    shutil.copytree(here / "talker", here / "old", dirs_exist_ok=True)
    (here / "old/model.safetensors").unlink()
    torch.save({}, here / "old/pytorch_model.bin")
    made = local(folder="old").choose(pictures(), grey(0), "x", quiet)
    shutil.rmtree(here / "old")
    assert made.winner == 0 and "cannot be loaded" in made.failures[0]


def test_other_folders_are_no_judges(here):
    (here / "other").mkdir(exist_ok=True)
    (here / "other/config.json").write_text('{"model_type": "gemma2"}')
    (here / "broken").mkdir(exist_ok=True)
    (here / "broken/config.json").write_text("{")
    assert set(folders.vision_folders("chat")) == {"talker"} and set(folders.vision_folders("clip")) == {"clip"}
    assert folders.model_folders() == {"broken": here / "broken"}  # BlazeEdit's list names a damaged one, as before
    shutil.rmtree(here / "other")
    shutil.rmtree(here / "broken")
