"""The stages' parts on their own: what is drawn, learnt, read, measured and given."""

import csv
import json
import re
import threading
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from editkit.models.errors import EditError
from editkit.tests.comfyui.inside import tiny_vision
from editkit.tests.training.triplets import scenes
from editkit.tests.training.triplets.stubs import World, writing
from editkit.tests.training.triplets.test_resuming import table
from editkit.training.triplets import (
    answers,
    build,
    checking,
    cli,
    instructions,
    pictures,
    prompts,
    statistics,
    working,
)
from editkit.training.triplets.clip import Aesthetics, Clip
from editkit.training.triplets.language import Language
from editkit.training.triplets.ledger import Ledger, kept


def test_categories_are_drawn_in_the_shares_of_crispedit():
    rows = [{"digest": f"{n:016x}"} for n in range(6000)]
    items = instructions.items(rows, list(prompts.CATEGORIES), 1, 0)
    drawn, total = Counter(item.category for item in items), sum(kind.count for kind in prompts.CATEGORIES.values())
    assert total == 2_034_000 and list(drawn) and len(items) == 6000
    for name, kind in prompts.CATEGORIES.items():
        assert drawn[name] / 6000 == pytest.approx(kind.count / total, abs=0.02), name
    again = instructions.items(rows[3:4], list(prompts.CATEGORIES), 1, 0)
    assert again[0].category == items[3].category  # whatever else is there
    several = instructions.items(rows[:50], ["add", "style"], 2, 0)
    assert Counter(item.category for item in several) == {"add": 50, "style": 50}
    assert len({item.key for item in several}) == 100


def test_accepted_instructions_serve_as_examples_of_later_rounds_only(tmp_path, monkeypatch):
    """A.1's bootstrapping: the same examples whoever of a round is first, so a killed run asks the same again."""
    monkeypatch.setattr(instructions, "ROUND", 2)
    asked, say = {}, writing()

    def write(question, shown):
        if "You write one instruction" in question:
            asked[scenes.number_of(question)] = question
        return say(question, shown)

    images = scenes.write(tmp_path / "images", 6)
    assert World(write=write).run(images, tmp_path / "out", "--categories", "add", "--workers", 3) == 0
    learnt = {n: set(re.findall(r"Do add to scene (\d\d)", question)) for n, question in asked.items()}
    assert learnt[0] == learnt[1] == set()
    assert learnt[2] == learnt[3] == {"00", "01"}
    assert all(len(learnt[n]) == 2 and learnt[n] <= {"00", "01", "02", "03"} for n in (4, 5))
    for example in prompts.CATEGORIES["add"].examples:
        assert all(example.instruction in question for question in asked.values())


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ("I cannot.", "no JSON object"),
        ("[1, 2]", "no JSON object"),
        ('{"instruction": "x"', "no JSON object"),
        ('{"category": "replace", "instruction": "a", "target_caption": "b"}', "category is “replace” and not “add”"),
        ('{"instruction": "a", "target_caption": "b"}', "category is “”"),
        ('{"category": "add", "instruction": "", "target_caption": "b"}', "instruction is empty"),
        ('{"category": "add", "instruction": ["a"], "target_caption": "b"}', "instruction is empty"),
        ('{"category": "add", "instruction": "a", "target_caption": " - "}', "target_caption is empty"),
        ('{"category": "add", "instruction": "a", "target_caption": "a  DOG"}', "caption before the edit"),
        (json.dumps({"category": "add", "instruction": "go " * 61, "target_caption": "b"}), "61 words"),
    ],
)
def test_an_answer_that_cannot_be_used_says_why(answer, fault):
    with pytest.raises(answers.Fault, match=fault):
        answers.written(answer, "add", "A dog")


def test_answers_with_thoughts_fences_and_lines_are_read():
    good = '{"category": "Add", "instruction": "Put a\\n cat there.", "target_caption": "A dog, a cat"}'
    for text in (good, f"```json\n{good}\n```", f'<think>{{"category": "no"}}</think>So: {good} Good luck!'):
        assert answers.written(text, "add", "A dog") == ("Put a cat there.", "A dog, a cat")
    assert answers.written('{"suitable": false, "category": "add", "reason": "no room"}', "add", "A dog") == "no room"
    assert answers.verdict('{"good": false, "reason": "odd"}', "good") == (False, "odd")
    with pytest.raises(answers.Fault, match="not true or false"):
        answers.verdict('{"good": "yes"}', "good")


def test_instructions_and_categories_of_a_column_are_taken_as_they_are(tmp_path):
    """No language model anywhere; another category's name, none, one that there is not, and no instruction."""
    rows = [("color alteration", "Make it red."), ("", "Do something."), ("juggle", "Juggle."), ("add", ""),
            ("remove", "Take it away.")]  # fmt: skip
    folder = scenes.write(tmp_path / "images", 5)
    with (folder / "captions.csv").open("w", newline="") as file:
        made = csv.writer(file)
        made.writerow(("image", "edit_type", "instruction"))
        made.writerows([f"{n:02d}.png", *row] for n, row in enumerate(rows))
        made.writerow(("04.png", "motion", "Let it jump."))  # the same picture with another instruction
    world = World(write=lambda *_: pytest.fail("asked"))
    skips = ("--skip", "suitability", "--skip", "aesthetic")
    assert world.run(folder, tmp_path / "out", "--instructions", "column", *skips) == 0
    assert [(row["category"], row["instruction"]) for row in table(tmp_path / "out")] == [
        ("color", "Make it red."), ("other", "Do something."), ("remove", "Take it away."), ("motion", "Let it jump."),
    ]  # fmt: skip
    refused = (tmp_path / "out/rejects.csv").read_text()
    assert "its category 'juggle' is none of" in refused and "it has no instruction" in refused
    assert "aesthetic" not in table(tmp_path / "out")[0]


def test_a_picture_that_a_table_names_twice_gets_one_new_instruction(tmp_path):
    """Its own instructions, by which the rows differ, are not used."""
    folder = scenes.write(tmp_path / "images", 2)
    with (folder / "captions.csv").open("w", newline="") as file:
        made = csv.writer(file)
        made.writerow(("image", "caption", "aesthetic", "instruction"))
        made.writerows((f"{n:02d}.png", scenes.caption(n), 5, f"Old {k}.") for n in range(2) for k in range(2))
    assert World().run(folder, tmp_path / "out") == 0
    assert [row["picture"] for row in table(tmp_path / "out")] == ["00.png#0", "01.png#2"]
    refused = (tmp_path / "out/rejects.csv").read_text()
    assert "it is the same picture as 00.png#0" in refused and "it is the same picture as 01.png#2" in refused


def test_a_parquet_with_pictures_inside_is_read(tmp_path):
    import pyarrow
    from pyarrow import parquet

    folder = scenes.write(tmp_path / "images", 3)
    rows = [{"image": {"bytes": (folder / f"{n:02d}.png").read_bytes(), "path": None}, "text": scenes.caption(n),
             "aesthetic_score": 5.0} for n in range(3)]  # fmt: skip
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "all.parquet")
    assert World().run(tmp_path / "all.parquet", tmp_path / "out") == 0
    assert [row["caption"] for row in table(tmp_path / "out")] == [scenes.caption(n) for n in range(3)]


def test_the_model_that_sees_captions_what_has_no_caption(tmp_path):
    folder = scenes.write(tmp_path / "images", 2)
    (folder / "captions.csv").unlink()
    (folder / "01.txt").write_text(scenes.caption(1))
    shown = []

    def see(question, given):
        if "Describe this photograph" not in question:
            return "1. It is better."
        shown.append(given)
        return " Scene 07: seen\nby a model. "

    assert World(see=see).run(folder, tmp_path / "out", "--caption", "--skip", "aesthetic") == 0
    assert [row["caption"] for row in table(tmp_path / "out")] == ["Scene 07: seen by a model.", scenes.caption(1)]
    ((picture,),) = shown
    assert picture.shape[0] == 3 and 0 <= float(picture.min()) < float(picture.max()) <= 1


def test_every_edit_has_a_seed_of_its_own_and_the_same_in_every_run(tmp_path):
    images, drawn = scenes.write(tmp_path / "images", 4), []
    for out in ("one", "two"):
        world = World()
        assert world.run(images, tmp_path / out, "--workers", 2) == 0
        drawn.append([seed for editor in world.editors.values() for seed in editor.drawn])
    assert drawn[0] == drawn[1] and len(set(drawn[0])) == 8 and all(0 <= int(seed) < 2**32 for seed in drawn[0])


def test_a_judge_asked_in_both_orders_must_not_change_its_mind(tmp_path):
    images = scenes.write(tmp_path / "images", 2)
    assert World(see=lambda *_: "1, it is better.").run(images, tmp_path / "out", "--both-orders") == 0
    assert (tmp_path / "out/rejects.csv").read_text().count("the judge did not choose: 1 against 2") == 2


def test_pictures_may_be_written_as_jpeg(tmp_path):
    images = scenes.write(tmp_path / "images", 2)
    assert World().run(images, tmp_path / "out", "--format", "jpg") == 0
    for row in table(tmp_path / "out"):
        for side in ("source", "target"):
            with Image.open(tmp_path / "out/triplets" / row[side]) as picture:
                assert picture.format == "JPEG" and picture.size == (row["width"], row["height"])


@pytest.mark.parametrize(
    ("editors", "reason"),
    [
        (("blank",), "the result is blank"),
        (("same",), "the result is unchanged: 0.0000% of its pixels differ"),
        (("tall",), "another shape"),
    ],
)
def test_blank_unchanged_and_misshapen_results_are_rejected(tmp_path, editors, reason):
    assert World().run(scenes.write(tmp_path / "images", 2), tmp_path / "out", editors=editors) == 0
    assert (tmp_path / "out/rejects.csv").read_text().count(reason) == 2
    assert not (tmp_path / "out/triplets/triplets.parquet").exists()
    assert len(list((tmp_path / "out/edits/1").iterdir())) == 2  # kept, to look at


def test_one_editor_needs_no_judge_and_a_smaller_result_comes_to_its_sources_size(tmp_path):
    world = World(see=lambda *_: pytest.fail("asked"))
    assert world.run(scenes.write(tmp_path / "images", 2), tmp_path / "out", editors=("half",)) == 0
    for row in table(tmp_path / "out"):
        target = Image.open(tmp_path / "out/triplets" / row["target"])
        assert target.size == (row["width"], row["height"]) and row["verdict"] == "the only result"


def test_a_few_changed_pixels_are_enough_and_noise_is_not():
    source = np.tile(np.arange(100, dtype=np.uint8)[:, None, None], (1, 100, 3))
    spot, noisy = source.copy(), source + np.random.default_rng(0).integers(0, 8, source.shape, dtype=np.uint8)
    spot[:4, :5] += 60
    made = [pictures.changed(Image.fromarray(source), Image.fromarray(p)) for p in (source, spot, noisy)]
    assert made == [0, 20 / 10_000, 0] and made[1] > checking.Bars().change
    assert not pictures.blank(Image.fromarray(source)) and pictures.blank(Image.fromarray(source // 50))


class Cosines:
    """CLIP that says what it is told to."""

    def __init__(self, text, image):
        self.made = text, image

    def compare(self, source, target, caption):
        return (None if caption is None else self.made[0]), self.made[1]


@pytest.mark.parametrize(
    ("cosines", "bars", "said"),
    [
        ((0.2, 0.7), {}, None),  # the bars themselves pass
        ((0.19, 0.9), {}, "its target caption is 0.190, below 0.2"),
        ((0.3, 0.69), {}, "its source is 0.690, below 0.7"),
        ((0.1, 0.1), {}, "below 0.2; CLIP's cosine of the result and its source is 0.100, below 0.7"),
        ((0.1, 0.8), {"text": None}, None),
        ((0.1, 0.8), {"text": None, "image": 0.9}, "its source is 0.800, below 0.9"),
    ],
)
def test_clips_two_bars(cosines, bars, said):
    source, result, known = Image.new("RGB", (9, 9)), Image.effect_noise((9, 9), 90).convert("RGB"), {}
    found = checking._fault(source, result, "a cat", checking.Bars(**bars), Cosines(*cosines), known)
    assert found is None if said is None else said in found
    assert known.get("clip_text") == (None if "text" in bars else cosines[0]) and known["clip_image"] == cosines[1]


def test_the_clip_check_rejects_in_a_build(tmp_path, monkeypatch):
    """Cosines by the picture: those that fall below a bar are rejects, and the rest has them in the table."""
    class Seeing(Cosines):
        def compare(self, source, target, caption):
            number = int(re.search(r"Scene (\d\d) after", caption)[1])
            return 0.1 * number, 0.7 + 0.1 * number

    monkeypatch.setattr(build, "Clip", lambda folder: Seeing(0, 0))
    images, world = scenes.write(tmp_path / "images", 4), World()
    said = ["build", "--images", images, "--out", tmp_path / "out", "--short-side", 32, "--llm", "w", "--judge", "s",
            "--editor", "invert.json", "--clip", "clip"]  # fmt: skip
    assert cli.main([str(word) for word in said], world.tools()) == 0
    passed = [(row["picture"], row["clip_text"]) for row in table(tmp_path / "out")]
    assert passed == [("02.png#2", 0.2), ("03.png#3", 0.3)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "clip"
    tiny_vision.write_clip(folder)
    return Clip(folder)


def test_an_aesthetic_head_is_linear_layers_on_clips_unit_vector(clip, tmp_path):
    picture = scenes.pictures()[0]
    vector = clip.vectors([picture])[0]
    assert float(vector.norm()) == pytest.approx(1, abs=1e-5)
    draw, size = torch.Generator().manual_seed(0), vector.shape[0]
    shapes = {"layers.0": (6, size), "layers.2": (4, 6), "layers.10": (1, 4)}
    layers = {f"{name}.weight": torch.randn(shape, generator=draw) for name, shape in shapes.items()}
    layers |= {f"{name}.bias": torch.randn(shape[0], generator=draw) for name, shape in shapes.items()}
    save_file(layers, tmp_path / "head.safetensors")
    wanted = vector
    for name in shapes:
        wanted = torch.nn.functional.linear(wanted, layers[f"{name}.weight"], layers[f"{name}.bias"])
    assert Aesthetics(clip, tmp_path / "head.safetensors").score(picture) == pytest.approx(float(wanted), abs=1e-5)
    save_file({"weight": torch.randn(1, size + 1), "bias": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(EditError, match=f"takes vectors of {size + 1} numbers and .* gives {size}"):
        Aesthetics(clip, tmp_path / "other.safetensors").score(picture)
    save_file({"weight": torch.randn(3, size), "bias": torch.zeros(3)}, tmp_path / "none.safetensors")
    with pytest.raises(EditError, match="no linear layers that end in one score"):
        Aesthetics(clip, tmp_path / "none.safetensors")


def test_a_local_language_model_says_what_transformers_says(tmp_path):
    import transformers

    words = tiny_vision.words()
    words.chat_template = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}<|im_start|>"
    config = transformers.LlamaConfig(**tiny_vision.TEXT, vocab_size=len(words))
    model = tiny_vision.randomised(transformers.LlamaForCausalLM(config))
    model.save_pretrained(tmp_path / "llm")
    words.save_pretrained(tmp_path / "llm")
    said = Language(tmp_path / "llm", tokens=9).ask("What now?")
    ids = words("<|im_start|>What now?<|im_end|><|im_start|>", return_tensors="pt").input_ids
    made = model.generate(ids, max_new_tokens=9, do_sample=False)[0, ids.shape[1] :]
    assert said == words.decode(made, skip_special_tokens=True).strip() and said
    assert Language(tmp_path / "llm", tokens=9).ask("What then, who?") != said


def test_longer_sides_fall_into_the_papers_interval():
    sides = [1024, 1279, 1280, 1664, 1665, 2047, 2048, 2560, 9999]
    rows = [{"width": 1024, "height": side, "category": "add"} for side in sides]
    told = statistics.counts(rows, [], 9, 1024)
    assert told["longer_side"] == {"[1024, 1280)": 2, "[1280, 1665)": 2, "[1665, 2048)": 2, "[2048, 2560)": 1,
                                   "2560 and more": 2}  # fmt: skip


def test_items_are_worked_on_together_and_written_in_their_order(tmp_path):
    at_once, most = [], []

    def work(item):
        at_once.append(item)
        most.append(len(at_once))
        threading.Event().wait(0.01 * (5 - item % 5))
        at_once.remove(item)
        return kept(str(item))

    with Ledger(tmp_path / "a.jsonl") as ledger:
        working.work_off(ledger, range(40), work, working.Pace(4))
        assert list(ledger.rows) == [str(n) for n in range(40)]
    assert 2 <= max(most) <= 4


def test_silence_counts_only_in_succession(tmp_path):
    def work(item):
        if item % 3:
            raise working.Down("nobody answers")
        return kept(str(item))

    pace = working.Pace(1, patience=3)
    with Ledger(tmp_path / "a.jsonl") as ledger:
        working.work_off(ledger, range(10), work, pace)
        assert pace.left == 6 and list(ledger.rows) == ["0", "3", "6", "9"]
        with pytest.raises(EditError, match="nobody answers, 3 times in succession"):
            working.work_off(ledger, [11, 14, 17, 20], work, pace)
