"""Tables of pictures become latents and encoded texts, by tiny encoders in diffusers' layout, and are trained on."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from editkit.models.errors import EditError
from editkit.tests.training.kontext import tiny
from editkit.training.kontext import cli, data, encoders, flux, preparing
from editkit.training.prepared import EMPTY, INDEX


def run(published, out, *flags):
    return cli.main(["prepare", "--model", str(published), "--out", str(out), "--area", "64", "--text-tokens", "7",
                     "--dtype", "fp32", *map(str, flags)])  # fmt: skip


def test_a_prepared_folder_holds_what_the_encoders_make(published, tables, prepared):
    """That is, shifted and scaled latents of the fitted pictures, T5's states with pads, CLIP's pooled vector."""
    edits, _ = tables
    rows = [json.loads(line) for line in (prepared / INDEX).read_text().splitlines()]
    assert [row["kind"] for row in rows] == ["edit"] * 10 + ["pair"] * 6
    made = encoders.Encoders(encoders.find(str(published), {"vae": None, "text": None}), "cpu", torch.float32, 7)
    found = load_file(prepared / rows[0]["file"])
    with torch.no_grad():
        picture = preparing.fitted(Image.open(edits / "0_target.png").convert("RGB"), 64, 8)
        mode = made.vae.encode(2 * picture[None] - 1).latent_dist.mode()[0]
        ids = made.tokenizers[1](rows[0]["text"], padding="max_length", max_length=7, return_tensors="pt").input_ids
        assert torch.allclose(found["states"], made.t5(ids)[0][0], atol=1e-5)
    config = made.vae.config
    assert torch.allclose(found["target"], (mode - config.shift_factor) * config.scaling_factor)
    assert config.shift_factor != 0 and found["states"].shape == (7, tiny.JOINT)
    assert found["pooled"].shape == (tiny.POOLED,)
    assert torch.allclose(load_file(prepared / EMPTY)["states"], made.text("")[0], atol=1e-5)
    assert rows[0]["shapes"] == {k: list(v.shape) for k, v in found.items() if k not in ("states", "pooled")}


def test_several_references_keep_their_shapes(prepared):
    rows = [json.loads(line) for line in (prepared / INDEX).read_text().splitlines()]
    two = [row for row in rows if "reference_2" in row["shapes"]]
    assert len(two) == 2 and all(row["shapes"]["reference_2"] != row["shapes"]["target"] for row in two)
    examples = data.Prepared(str(prepared))
    assert examples.kinds == ("edit", "pair")
    rng, seen = np.random.default_rng(0), set()
    for _ in range(40):
        chosen = examples.draw(rng, "edit", 3)
        assert len({e.shapes for e in chosen}) == 1
        seen.add(len(chosen[0].references))
    assert seen == {1, 2}
    assert all(not e.references for e in examples.draw(rng, "pair", 3))


def test_what_is_held_out_is_never_drawn(prepared):
    examples, rng = data.Prepared(str(prepared)), np.random.default_rng(0)
    key = lambda e: float(e.target.sum())  # noqa: E731
    held = {key(e) for e in examples.held()}
    drawn = {key(e) for _ in range(60) for kind in examples.kinds for e in examples.draw(rng, kind, 2)}
    assert len(held) == 3 and not held & drawn and len(drawn) == 13


def test_a_stopped_preparation_goes_on(published, tables, tmp_path, monkeypatch):
    edits, _ = tables
    text, calls = encoders.Encoders.text, []

    def stopping(self, words):
        calls.append(words)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return text(self, words)

    monkeypatch.setattr(encoders.Encoders, "text", stopping)
    with pytest.raises(KeyboardInterrupt):
        run(published, tmp_path, "--edits", edits)
    assert not (tmp_path / INDEX).exists() and not list(tmp_path.glob("*.part"))
    assert run(published, tmp_path, "--edits", edits) == 0
    assert len(calls) == 5 + 10 - 3  # the empty prompt and three examples are not made again


def test_a_prepared_folder_is_not_mixed_with_another(published, tables, prepared, capsys):
    edits, pairs = tables
    assert run(published, prepared, "--edits", edits) == 1
    assert "name another --out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "--edits, --pairs or both"),
        (["--edits", "nowhere"], "no nowhere, which --edits"),
        (["--pairs", "PAIRS", "--vae", "nowhere"], "no vae in nowhere"),
        (["--pairs", "PAIRS", "--text", "nowhere"], "no text_encoder in nowhere"),
    ],
)
def test_what_is_missing_is_said(published, tables, tmp_path, capsys, flags, said):
    given = [str(tables[1]) if flag == "PAIRS" else flag for flag in flags]
    assert run(published, tmp_path, *given) == 1
    assert said in capsys.readouterr().out


def test_encoders_may_lie_elsewhere(published, tmp_path):
    named = {"vae": str(published / "vae"), "text": str(published)}
    assert encoders.find(None, named) == encoders.find(str(published), {"vae": None, "text": None})
    with pytest.raises(EditError, match="--model, or --vae and --text"):
        encoders.find(None, {"vae": None, "text": None})


def test_pictures_are_scaled_to_few_sizes_of_one_area():
    sizes = preparing.sizes(1024, 16)
    assert (1024, 1024) in sizes and len(sizes) == 17
    assert all(w % 16 == h % 16 == 0 and abs(w * h / 1024**2 - 1) < 0.04 for w, h in sizes)
    wide = Image.fromarray(np.tile(np.arange(200, dtype=np.uint8), (100, 1))).convert("RGB")
    fitted = preparing.fitted(wide, 64, 8)
    assert fitted.shape == (3, 48, 88) and 0 <= fitted.min() and fitted.max() <= 1
    assert torch.allclose(fitted.mean(1)[0].diff().sign().min(), torch.tensor(1.0))  # cut, not squashed or turned


def test_all_stages_train_on_a_prepared_folder(published, prepared, network, log, tmp_path):
    network().save_pretrained(tmp_path / "transformer")
    common = ["--model", tmp_path, "--data", prepared, "--state", tmp_path / "state", "--steps", 2, "--batch", 2,
              "--accumulate", 1, "--precision", "fp32", "--threads", 1]  # fmt: skip
    more = {"ladd": ["--critic-every", 1, "--sample", 2], "flow": ["--text-to-image", 0.5, "--gradient-checkpointing"]}
    for stage in ("flow", "guidance", "ladd"):
        assert cli.main([stage, *map(str, [*common, *more.get(stage, [])])]) == 0
    assert {"validation_loss_pair", "validation_loss_edit"} <= set(log(tmp_path / "state", "flow")[0])
    assert {"validation_error", "validation_followed"} <= set(log(tmp_path / "state", "ladd")[0])


def test_a_table_of_pairs_alone_trains_the_flow_and_no_distillation(published, tables, network, log, tmp_path, capsys):
    assert run(published, tmp_path / "pairs", "--pairs", tables[1]) == 0
    net = network()
    net.save_pretrained(tmp_path / "m")
    common = ["--model", tmp_path / "m", "--data", tmp_path / "pairs", "--state", tmp_path, "--steps", 1,
              "--precision", "fp32"]  # fmt: skip
    assert cli.main(["flow", *map(str, common)]) == 0
    assert "validation_loss_edit" not in log(tmp_path, "flow")[0]
    assert cli.main(["guidance", *map(str, common)]) == 1
    assert "holds no edits" in capsys.readouterr().out and not flux.embeds(net)


def test_a_damaged_file_is_named(prepared, tmp_path):
    import shutil

    folder = shutil.copytree(prepared, tmp_path / "copy")
    (folder / "0000000.safetensors").write_bytes(b"no tensors")
    with pytest.raises(EditError, match="0000000.safetensors is not readable"):
        data.Prepared(str(folder)).held()


def test_a_table_may_name_several_sources(tmp_path):
    from editkit.training import tables

    with (tmp_path / "t.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["input_image", "input_image_2", "target", "instruction"], ["a.png", "b.png", "c.png", "x"],
                          ["a.png", "", "c.png", "x"]])  # fmt: skip
    rows = tables.read(str(tmp_path), "--edits", preparing.EDIT, tables.SOURCES[1:])
    assert rows[0]["source_2"] == tmp_path / "b.png" and "source_2" not in rows[1]
