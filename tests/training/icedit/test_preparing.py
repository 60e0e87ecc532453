"""Tables and folders of edits become diptychs as latents, by tiny encoders in diffusers' layout."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from editkit.models.errors import EditError
from editkit.models.icedit import prompts
from editkit.training.icedit import cli, data, fill, preparing
from editkit.training.kontext import encoders
from editkit.training.prepared import EMPTY, INDEX


def run(published, out, *flags):
    return cli.main(["prepare", "--model", str(published), "--out", str(out), "--width", "32", "--text-tokens", "7",
                     "--dtype", "fp32", *map(str, flags)])  # fmt: skip


def test_a_prepared_folder_holds_what_the_encoders_make(published, edits, prepared):
    """Both diptychs encoded whole, the right panel grey in one of them; the training string, verbatim; " " as empty."""
    rows = [json.loads(line) for line in (prepared / INDEX).read_text().splitlines()]
    made = encoders.Encoders(encoders.find(str(published), {"vae": None, "text": None}), "cpu", torch.float32, 7)
    found = load_file(prepared / rows[3]["file"])

    def panel(name):
        picture = Image.open(edits / name).convert("RGB").resize((32, 32), Image.Resampling.LANCZOS)
        return torch.from_numpy(np.asarray(picture, dtype=np.float32) / 127.5 - 1).movedim(-1, 0)

    with torch.no_grad():
        left, right = panel("3_source.png"), panel("3_target.png")
        for name, diptych in (("target", [left, right]), ("masked", [left, 0 * right])):
            mode = made.vae.encode(torch.cat(diptych, -1)[None]).latent_dist.mode()[0]
            wanted = (mode - made.vae.config.shift_factor) * made.vae.config.scaling_factor
            assert found[name].shape == (4, 8, 16) and torch.allclose(found[name], wanted, atol=1e-5), name
    string = (
        "A diptych with two side-by-side images of the same scene. On the right, the scene is exactly the same as on "
        "the left but make it red"
    )
    assert prompts.prompt(prompts.ICEDIT, rows[3]["text"]) == string
    for words, tensors in ((string, found), (" ", load_file(prepared / EMPTY))):
        assert all(torch.allclose(a, tensors[k], atol=1e-5) for k, a in zip(("states", "pooled"), made.text(words)))
    assert len(rows) == 10 and rows[3]["shapes"] == {"masked": [4, 8, 16], "target": [4, 8, 16]}


def test_examples_and_their_tokens(prepared):
    examples, rng = data.Prepared(str(prepared)), np.random.default_rng(0)
    key = lambda e: float(e.target.sum())  # noqa: E731
    held = {key(e) for e in examples.held()}
    drawn = {key(e) for _ in range(60) for e in examples.draw(rng, 2)}
    assert examples.scale == 4 and len(held) == 2 and not held & drawn and len(drawn) == 8
    one = examples.held()[0]
    known = fill.condition(one.masked[None], examples.scale)
    assert known.shape == (1, 4 * 8, 16 + 64)  # four rows of eight tokens
    assert known[0, :, 16:].reshape(4, 2, 4, 64).mean((0, 2, 3)).tolist() == [0, 1]


def test_the_shape_is_the_sources_or_a_square_and_the_border_goes():
    wide = Image.fromarray(np.repeat(np.arange(64, dtype=np.uint8)[:, None], 128, 1)).convert("RGB")
    wide.paste((255, 0, 0), (0, 62, 128, 64))
    left, right = preparing.Panel(64).pair(wide, wide.resize((40, 40)))
    assert left.shape == right.shape == (3, 64, 64)
    left, right = preparing.Panel(64, keep_shape=True).pair(wide, wide.resize((40, 40)))
    assert left.shape == right.shape == (3, 32, 64)
    whole, cut = (preparing.Panel(64, crop_bottom=crop).pair(wide, wide)[0] for crop in (False, True))
    assert whole[0, -1].mean() > 0.9 and cut[0].max() < 0.3  # the red rows, 1/32 of the height, are gone
    with pytest.raises(EditError, match="--width 40"):
        preparing.Panel(40)


def test_folders_of_the_same_names_are_rows(edits, tmp_path):
    for name in preparing.FOLDERS:
        (tmp_path / name).mkdir()
    for i in (1, 0):
        shutil.copy(edits / f"{i}_source.png", tmp_path / f"image/{i}.png")
        Image.open(edits / f"{i}_target.png").save(tmp_path / f"edited/{i}.jpg")
        (tmp_path / f"instruction/{i}.txt").write_text(f"make it {i}\n")
    rows = preparing.rows_of(str(tmp_path))
    assert [row["instruction"] for row in rows] == ["make it 0", "make it 1"]
    assert rows[1]["source"] == tmp_path / "image/1.png" and rows[1]["target"] == tmp_path / "edited/1.jpg"
    (tmp_path / "instruction/1.txt").unlink()
    with pytest.raises(EditError, match="1.png has no"):
        preparing.rows_of(str(tmp_path))


def test_published_column_names_and_parquet(edits, tmp_path):
    """OmniEdit's columns, with the pictures stored in the file; of several prompts each has its turn."""
    pa = pytest.importorskip("pyarrow", reason="pyarrow reads parquet")
    from pyarrow import parquet

    stored = [{"bytes": (edits / f"{i}_source.png").read_bytes(), "path": None} for i in range(2)]
    parquet.write_table(
        pa.table({"src_img": stored, "edited_img": stored[::-1], "edited_prompt_list": [["a", "b"], ["c", "d"]]}),
        tmp_path / "part.parquet",
    )
    rows = preparing.rows_of(str(tmp_path))
    assert [preparing.said(row, i) for i, row in enumerate(rows)] == ["a", "d"]
    left, right = preparing.Panel(32).pair(*(preparing.tables.opened(rows[0][k]) for k in ("source", "target")))
    assert left.shape == right.shape and not torch.equal(left, right)


def test_columns_of_magicbrush(tmp_path):
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["source_img", "target_img", "instruction"], ["a.png", "b.png", "x"]])
    row = preparing.rows_of(str(tmp_path))[0]
    assert row["source"] == tmp_path / "a.png" and row["target"] == tmp_path / "b.png"


def test_a_prepared_folder_is_not_mixed_with_another(published, edits, prepared, capsys):
    assert run(published, prepared, "--edits", edits, "--crop-bottom") == 1
    assert "name another --out" in capsys.readouterr().out


@pytest.mark.parametrize(("flags", "said"), [
    ([], "Name what to prepare"), (["--edits", "nowhere"], "no nowhere, which --edits"),
    (["--edits", "EDITS", "--width", "100"], "--width 100"), (["--edits", "EDITS", "--vae", "nowhere"], "no vae in"),
])  # fmt: skip
def test_what_is_missing_is_said(published, edits, tmp_path, capsys, flags, said):
    assert run(published, tmp_path, *(edits if f == "EDITS" else f for f in flags)) == 1
    assert said in capsys.readouterr().out


def test_a_folder_of_kontext_is_refused(published, edits, tmp_path, capsys):
    from editkit.training.kontext import cli as kontext

    flags = ["--area", "32", "--text-tokens", "7", "--edits", str(edits), "--out", str(tmp_path)]
    assert kontext.main(["prepare", "--model", str(published), *flags]) == 0
    with pytest.raises(EditError, match="holds no diptychs"):
        data.Prepared(str(tmp_path))
