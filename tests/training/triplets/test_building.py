"""Thirty pictures from the command line to the trainers; models on loopback answer well, late, wrong or not at all."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from editkit.headless import cli
from editkit.models.blazeedit import checkpoint
from editkit.tests.comfyui.inside import tiny_vision
from editkit.tests.loopback_judge import serving
from editkit.tests.tiny import tiny_model
from editkit.tests.training.triplets import scenes
from editkit.training import cli as train
from editkit.training import tables
from editkit.training.blazeedit.folders import FolderTriplets
from editkit.training.editmgt import data as editmgt
from editkit.training.icedit import preparing as icedit
from editkit.training.kontext import preparing as kontext
from editkit.training.triplets.prompts import CATEGORIES

GOOD = sorted({*range(18), scenes.BADLY_AT_FIRST} - {scenes.REFUSED, scenes.NEVER, scenes.BABBLED})
REASONS = {
    scenes.SCORE: ("curation", "its aesthetic score is 4.5, not above 4.5"),
    scenes.SMALL: ("curation", "its short side has 95 px, fewer than 96"),
    scenes.BROKEN: ("curation", "it cannot be read as a picture"),
    scenes.COPY: ("curation", "it is the same picture as 06.png#6"),
    scenes.UNFIT: ("curation", "it is not suitable: one plain wall"),
    scenes.REFUSED: ("instructions", "127.0.0.1 refuses with 400: the content policy"),
    scenes.NO_JSON: ("instructions", "no instruction in 3 tries: it holds no JSON object"),
    scenes.WRONG_KIND: ("instructions", "no instruction in 3 tries: its category is"),
    scenes.EMPTY: ("instructions", "no instruction in 3 tries: its instruction is empty"),
    scenes.WRONG: ("instructions", "the check found it wrong: it names a dog that is not there"),
    scenes.DECLINED: ("instructions", "nothing there is alive"),
    scenes.BABBLED: ("edits", "the judge did not choose: 1 against 2: the judge did not decide"),
    scenes.FLAT: ("checks", "the result is blank"),
}
BARS = ("--clip-text", -1, "--clip-image", -1)  # a random CLIP's cosines say nothing; they are recorded


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(folder, its first run's exit status, what it had then, the writer), after a second run with a healed writer."""
    root = tmp_path_factory.mktemp("triplets")
    tiny_vision.write_clip(root / "clip")
    writer = scenes.Language()
    images = scenes.write(root / "images")
    with serving(writer) as llm, serving(scenes.judge) as seer:
        said = scenes.flags(images, root / "out", llm.url, seer.url, "--clip", root / "clip", *BARS)
        said += ["--timeout", str(scenes.PATIENT)]
        status = cli.main(["data", *said])
        first = rows(root / "out"), rejects(root / "out"), len(writer.asked), ledgers(root / "out")
        writer.healed = True
        assert cli.main(["data", *said]) == 0
    return root / "out", status, first, writer


def rows(out) -> dict[int, dict]:
    """Of the table, by scene."""
    found = tables.read(str(out / "triplets"), "--edits", ("source", "target", "instruction"))
    made = {int(row["picture"][:2]): row for row in found}
    assert len(made) == len(found)
    return made


def rejects(out) -> dict[int, dict]:
    with (out / "rejects.csv").open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    made = {int(row["picture"][:2]): row for row in found}
    assert len(made) == len(found)
    return made


def ledgers(out) -> dict[str, list[str]]:
    return {p.name: p.read_text(encoding="utf-8").splitlines() for p in sorted((out / "state").iterdir())}


def test_what_was_planted_becomes_of_every_picture(built):
    """Good answers, late ones, dropped and busy ones go through; the others are rejected, each for its reason."""
    out, status, (table, refused, _, _), _ = built
    assert status == 1  # one picture's instruction is left: the model never answered
    assert sorted(table) == GOOD
    assert sorted(refused) == sorted(REASONS)
    for number, (stage, reason) in REASONS.items():
        assert refused[number]["stage"] == stage and reason in refused[number]["reason"], number
    assert not {scenes.NEVER} & ({*table} | {*refused})


def test_what_was_left_is_done_by_the_next_run_and_nothing_else_is(built):
    out, _, (table, refused, asked, before), writer = built
    after = ledgers(out)
    assert sorted(rows(out)) == sorted([*GOOD, scenes.NEVER]) and rejects(out) == refused
    assert {number for number, _ in writer.asked[asked:]} == {scenes.NEVER}
    for name, lines in before.items():
        assert after[name][: len(lines)] == lines and len(after[name]) - len(lines) <= 1, name


def test_a_late_or_dropped_answer_is_asked_for_again_and_a_bad_one_with_its_fault(built):
    writer = built[3]
    asked = {n: writer.asked.count((n, "write")) for n in range(scenes.COUNT)}
    once_more = {scenes.SLOW, scenes.DROPPED, scenes.BUSY}
    thrice = {scenes.BADLY_AT_FIRST, scenes.NO_JSON, scenes.WRONG_KIND, scenes.EMPTY}
    never = {scenes.SCORE, scenes.SMALL, scenes.BROKEN, scenes.UNFIT, scenes.COPY}
    for number, count in asked.items():
        usual = 2 if number in once_more else 3 if number in thrice | {scenes.NEVER} else 1
        assert count == (0 if number in never else usual), number


def test_every_row_says_what_happened(built):
    """The instruction of its picture and category, the judge's choice, what changed; both pictures of one size."""
    out = built[0]
    for number, row in rows(out).items():
        assert row["category"] in CATEGORIES
        assert row["instruction"] == f"Do {row['category']} to scene {number:02d}."
        assert row["caption"] == scenes.caption(number) and row["aesthetic"] == 4.6
        source, target = (Image.open(row[side]) for side in ("source", "target"))
        assert source.size == target.size == (row["width"], row["height"]) and min(source.size) == scenes.SIDE
        edits = [np.asarray(Image.open(out / f"edits/{n}/{row['key']}.png").convert("RGB")) for n in (1, 2)]
        bright = [np.asarray(Image.fromarray(edit).convert("L")).mean() for edit in edits]
        wanted = int(np.argmax(bright) if number % 3 else np.argmin(bright))
        assert row["editor"] == wanted + 1 and (np.asarray(target) == edits[wanted]).all(), number
        pixels = np.abs(np.asarray(source, dtype=int) - np.asarray(target)).max(-1)
        assert row["changed"] == pytest.approx((pixels > 8).mean(), abs=1e-6) and row["changed"] > 0.001
    assert {row["editor"] for row in rows(out).values()} == {1, 2}


def test_the_sources_are_the_pictures_themselves(built):
    row = rows(built[0])[7]
    assert (np.asarray(Image.open(row["source"])) == np.asarray(scenes.pictures()[7])).all()


def test_the_cosines_are_those_of_transformers_own_clip(built):
    import transformers

    out = built[0]
    folder = out.parent / "clip"
    model = transformers.CLIPModel.from_pretrained(folder)
    processor = transformers.AutoProcessor.from_pretrained(folder)
    for number in (0, 9):
        row = rows(out)[number]
        pictures = [Image.open(row[side]) for side in ("source", "target")]
        text = {"text": [row["target_caption"]], "padding": True, "truncation": True}
        with torch.no_grad():
            made = model(**processor(images=pictures, return_tensors="pt", **text))
        text = (made.logits_per_image / model.logit_scale.exp()).detach()[1, 0]
        image = torch.nn.functional.cosine_similarity(made.image_embeds[0], made.image_embeds[1], dim=0)
        assert [row["clip_text"], row["clip_image"]] == pytest.approx([float(text), float(image)], abs=2e-4)


def test_editmgt_reads_the_triplets(built):
    """Its own reader, with an encoder that shows what it was given."""

    class Mean:
        scale = 16

        def ids(self, image):
            assert image.shape == (3, 64, 64)
            return torch.nn.functional.avg_pool2d(image.mean(0)[None], 16)[0].mul(255).long()

    found = editmgt.read(str(built[0] / "triplets"), edits=True, share=0.5)
    assert len(found.held) == 3 and len(found.trained) == 7  # of 17 three are held out, of the rest half is kept
    files = editmgt.Files(found, Mean())
    held = files.held(4)
    wanted = {row["instruction"] for row in rows(built[0]).values()}
    assert {example.text for example in held} <= wanted and len(held) == 3
    drawn = files.draw(np.random.default_rng(0), 4)
    assert drawn.text in wanted and drawn.source.shape == drawn.target.shape == (4, 4)
    assert any(bool(example.changed().any()) for example in held)


def test_icedit_and_kontext_read_the_triplets(built):
    folder = str(built[0] / "triplets")
    found = icedit.rows_of(folder)
    assert len(found) == len(rows(built[0]))
    left, right = icedit.Panel(64).pair(tables.opened(found[0]["source"]), tables.opened(found[0]["target"]))
    assert left.shape == right.shape == (3, 64, 64) and (left - right).abs().max() > 0.03
    assert icedit.said(found[0], 0).startswith("Do ")
    edits = tables.read(folder, "--edits", kontext.EDIT, tables.SOURCES[1:])
    assert len(edits) == len(found) and "source_2" not in edits[0]


def test_blazeedit_reads_the_triplets(built):
    found = FolderTriplets(built[0] / "triplets")
    table = rows(built[0]).values()
    assert {name: len(files) for name, files in found.tasks.items()} == {
        name: sum(row["category"] == name for row in table) for name in {row["category"] for row in table}
    }
    name = max(found.tasks, key=lambda task: len(found.tasks[task]))
    x, mask, y = found.batch(name, 3, np.random.default_rng(0), 64)
    assert x.shape == y.shape == (3, 3, 64, 64) and bool((mask == 1).all()) and float((x - y).abs().max()) > 0.03


def test_blazeedit_learns_one_category_as_a_task_of_its_own(built, tmp_path, capsys):
    """From the folder as it is, which also holds categories that BlazeEdit has no word for."""
    checkpoint.save(tiny_model(), tmp_path / "base")
    said = ["finetune", "--triplets", built[0] / "triplets", "--base", tmp_path / "base", "--state", tmp_path / "state",
            "--out", tmp_path / "mine", "--steps", "1", "--size", "64", "--precision", "fp32",
            "--register", "style=0.3"]  # fmt: skip
    assert train.main([*map(str, said), "--only", "style"]) == 0
    assert checkpoint.load(tmp_path / "mine").config.extra_tasks == {"style": 0.3}
    assert train.main([str(word) for word in said]) == 1 and "There is no task" in capsys.readouterr().out
    assert train.main([*map(str, said), "--only", "juggle"]) == 1
    assert "There is no task juggle" in capsys.readouterr().out


def test_the_statistics_count_the_triplets(built):
    out = built[0]
    told, table = json.loads((out / "statistics/statistics.json").read_text(encoding="utf-8")), rows(out).values()
    assert told["triplets"] == len(table) == sum(told["categories"].values()) == sum(told["longer_side"].values())
    wide = sum(row["width"] >= 120 for row in table)  # [120, 156): the paper's [1280, 1665) for a short side of 96
    assert told["longer_side"]["[120, 156)"] == wide and told["longer_side"]["[96, 120)"] == len(table) - wide
    assert told["rejected"] == {"curation": 5, "instructions": 6, "edits": 1, "checks": 1} and told["pictures"] == 30
    for name in ("categories", "resolutions", "rejects"):
        assert len(Image.open(out / f"statistics/{name}.png").convert("RGB").getcolors(1 << 16)) > 10


def test_look_draws_triplets_and_rejects(built, tmp_path, capsys):
    out, row = built[0], rows(built[0])[7]
    assert cli.main(["data", "look", str(out), "-o", str(tmp_path / "sheet.png"), "--count", "99"]) == 0
    assert f"shown {len(rows(out))}" in capsys.readouterr().out
    sheet, seen = np.asarray(Image.open(tmp_path / "sheet.png")), 0
    for side in ("source", "target"):  # pixel for pixel, because these are smaller than a cell
        picture = np.asarray(Image.open(row[side]))
        corners = np.argwhere((sheet[: -picture.shape[0], : -picture.shape[1]] == picture[0, 0]).all(-1))
        seen += any((sheet[y : y + picture.shape[0], x : x + picture.shape[1]] == picture).all() for y, x in corners)
    assert seen == 2
    assert cli.main(["data", "look", str(out), "-o", str(tmp_path / "rejects.png"), "--rejects"]) == 0
    assert "shown 13" in capsys.readouterr().out
    assert cli.main(["data", "look", str(out), "--category", "motion", "-o", str(tmp_path / "no.png")]) == 1
    assert "no triplets of that category" in capsys.readouterr().err and not (tmp_path / "no.png").exists()
