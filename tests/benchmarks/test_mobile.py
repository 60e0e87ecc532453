"""The mobile table: its arithmetic, its verdicts, and the whole of it on a tiny model at 64 px."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from editkit.benchmarks import children, cli, mobile, mobile_jobs, mobile_report, speed
from editkit.models.errors import EditError
from editkit.models.mobile import accuracy, exporting, samples
from editkit.tests.bundles import reusing

KINDS = ("int8", "fp32")


class Idleness:
    """A watch that says what a test wants."""

    def __init__(self, shares):
        self.known, self.ticks = shares, []

    def start(self): ...

    def tick(self, phase, least=1.0):
        self.ticks.append(phase)

    rest = tick

    def shares(self):
        return self.known

    def idle(self):
        return None if self.known is None else max(self.known.values()) <= 0.1


@pytest.fixture(scope="module")
def exported(tiny, converted, tmp_path_factory):
    """(model, {quantisation: bundle folder}) of the tiny model, from its files that were converted once."""
    folders = {kind: tmp_path_factory.mktemp("bundles") / kind for kind in KINDS}
    with reusing(tiny, converted):
        for kind, folder in folders.items():
            exporting.export(tiny, exporting.Request(folder, kind, [64]))
    return tiny, folders


@pytest.fixture(scope="module")
def measured(exported):
    """The rows of one run of everything on the tiny bundles, and the watch of that run."""
    model, folders = exported
    watch = Idleness({"before": 0.01, "timing": 0.04, "after": 0.0})
    kit = mobile.Kit(model, source="tiny", bundles=list(folders.values()))
    return mobile.run(kit, threads=(1, 2), quick=True, watch=watch), watch


def value(rows, part, what):
    return next(r["value"] for r in rows if (r["part"], r["what"]) == (part, what))


def test_every_part_and_every_bundle_is_measured(measured):
    rows, watch = measured
    for variant in ("torch", *KINDS):
        for part in ("encoder", "denoiser", "decoder", "shadow", "relight", "edit"):
            for on in ("1 thread", "2 threads"):
                low = value(rows, "speed", f"{variant} {part}, {on}, minimum")
                assert 0 < low <= value(rows, "speed", f"{variant} {part}, {on}, median")
                assert value(rows, "peak", f"{variant} {part}, {on}, of its peak") > 0
    parts = [value(rows, "peak", f"{part}, work") for part in ("encoder", "denoiser", "decoder")]
    assert min(parts) > 0 and value(rows, "peak", "edit, work") == pytest.approx(sum(parts))
    assert {"before", "timing", "after"} <= set(watch.ticks)
    assert watch.ticks.index("before") < watch.ticks.index("timing") < watch.ticks.index("after")
    assert all(set(r) == {"part", "what", "value", "unit", "kind", "limit", "at_most", "ok"} for r in rows)
    json.loads(json.dumps(rows, allow_nan=False))


def test_speed_is_judged_at_one_thread_for_int8_as_a_whole_and_per_part(measured):
    rows, _ = measured
    musts = [r for r in rows if r["part"] == "speed" and r["kind"] == "must"]
    parts = ("encoder", "denoiser", "decoder", "shadow", "relight", "edit")
    assert {r["what"] for r in musts} == {f"int8 {p}, 1 thread, faster than torch" for p in parts}
    assert {(r["limit"], r["at_most"]) for r in musts} == {(2.5, False)}
    assert all(r["ok"] is (r["value"] >= 2.5) for r in musts)
    aims = [r["limit"] for r in rows if r["part"] == "speed" and r["kind"] == "aim"]
    assert aims == [3.5] * len(parts)


def test_sizes_and_memory_are_those_of_the_files(measured, exported):
    rows, _ = measured
    for kind, folder in exported[1].items():
        files = list(folder.glob("*.tflite"))
        total = sum(f.stat().st_size for f in files) / 1e6
        assert value(rows, "size", f"{kind} all files") == pytest.approx(total)
        assert all(0.1 < value(rows, "memory", f"{kind} {f.stem}") < 500 for f in files)


def test_accuracy_is_what_the_export_found_and_judged_by_what_a_file_is_made_of(exported):
    model, folders = exported
    bundles = mobile.opened([folders["int8"]], mobile.Kit(model))
    data, cases = bundles[0].manifest.data, samples.cases(model, 64, per_task=1)
    rows = mobile.accuracies(bundles, cases, trained=True)
    found = {r["what"]: r for r in rows}
    for file in data["files"]:
        made = file["quantisation"]
        row = found[f"int8 {file['name']}" + (f" in {made}" if made != "int8" else "")]
        assert row["value"] == pytest.approx(data["accuracy"]["components"][file["name"]], abs=0.02)
        assert row["limit"] == accuracy.COMPONENT[made] and row["kind"] == "must"
    for task, stored in data["accuracy"]["edits"].items():
        assert found[f"int8 edit {task}, whole"]["value"] == pytest.approx(stored["whole"], abs=0.02)
        hole = found.get(f"int8 edit {task}, in the hole")
        assert (hole is None) == (stored["hole"] is None)  # at 64 px the canvas may hold no hole
        assert hole is None or (hole["limit"], hole["kind"]) == (35.0, "must")
        assert (f"int8 edit {task}, outside the hole" in found) == (stored["outside"] is not None)
    assert found["int8 residual of the denoiser"]["kind"] == "info"
    assert {r["kind"] for r in mobile.accuracies(bundles, cases[::3], trained=False)} == {"info"}


def test_both_sides_compute_the_same_from_the_same_arrays(exported):
    model, folders = exported
    cases = samples.cases(model, 64, per_task=1)
    (bundle,) = mobile.opened([folders["fp32"]], mobile.Kit(model))
    eager, files = mobile_jobs.torch_jobs(model, cases), mobile_jobs.litert_jobs(bundle, cases, 1)
    assert [part for _, part in eager] == [part for _, part in files]
    with torch.inference_mode():
        for (_, part), job in eager.items():
            theirs = job()
            theirs = theirs if isinstance(theirs, list) else [theirs]
            ours = files["fp32", part]()
            names = ("features", "guess_latent") if part == "encoder" else list(ours)
            for name, wanted in zip(names, theirs, strict=True):
                made = torch.from_numpy(ours[name]).permute(0, 3, 1, 2)
                # the file's second step starts from torch's first, the eager one from its own: equal but for rounding
                assert accuracy.psnr(torch.from_numpy(np.array(wanted)), made) > 80, (part, name)


def test_a_bundle_of_other_weights_or_another_canvas_is_refused(exported):
    model, folders = exported
    with pytest.raises(
        EditError, match="was not made of the weights of 'small'; name its model with --model"
    ):
        mobile.opened([folders["int8"]], mobile.Kit(model, weights_sha256="1" * 64))
    with pytest.raises(EditError, match="different quantisations"):
        mobile.opened([folders["int8"]] * 2, mobile.Kit(model))


def test_a_damaged_bundle_is_refused(exported, tmp_path):
    model, folders = exported
    copy = shutil.copytree(folders["int8"], tmp_path / "copy")
    data = bytearray((copy / "decoder.tflite").read_bytes())
    data[len(data) // 2] ^= 1
    (copy / "decoder.tflite").write_bytes(data)
    with pytest.raises(EditError, match="decoder.tflite was altered"):
        mobile.opened([copy], mobile.Kit(model))


def test_memory_is_measured_without_torch(exported):
    found = children.alone("memory", [exported[1]["int8"] / "decoder.tflite", 1], "Running it")
    assert found["torch"] is False and found["bytes"] > 0
    with pytest.raises(EditError, match="^Running it failed: "):
        children.alone("memory", [exported[1]["int8"] / "manifest.json", 1], "Running it")


def test_the_report_has_the_papers_tables_and_every_bar(measured):
    rows, _ = measured
    text = mobile_report.lines(rows)
    page = "\n".join(text)
    head = next(line for line in text if line.startswith("Device"))
    assert head.split("  ")[0] == "Device" and head.index("Encoder") < head.index("Decoder") < head.index(
        "Overall"
    )
    assert "Denoiser (2 steps)" in head
    paper = next(line for line in text if line.startswith("Pixel 10 (Edge TPU) *"))
    assert paper.split()[-4:] == ["45", "55", "190", "290"] and "not comparable" in page
    assert next(line for line in text if line.startswith("tiny  ")).split() == ["tiny", "None", "0.0M"]
    assert [line.split()[-1] for line in text if line.startswith("blazeedit-195m")] == ["189.9M"]
    bars = [line for line in text if " must " in line or " aim " in line]
    assert len(bars) == sum(r["kind"] != "info" for r in rows)
    assert "The machine was idle: others used at most 4 % of a core" in page
    low = value(rows, "speed", "int8 edit, 1 thread, minimum")
    line = next(line for line in text if line.startswith("this CPU, LiteRT int8, 1 thread"))
    assert f"{mobile_report._number(low, '')} (" in line


def test_a_busy_machine_is_named_and_its_speed_not_judged():
    rows = mobile.speed_rows(times(1.0, 10.0), 1) + speed.row("size", "int8 all files", 20.0, "MB", 14.0)
    rows += speed.row("export", "int8, seconds", 500.0, "s", 120.0)
    rows += speed.row("export", "int8, peak memory", 1.0, "GB", 6.0)
    verdicts = {r["what"]: r["ok"] for r in mobile.unjudged(rows) if r["kind"] == "must"}
    assert verdicts.pop("int8 all files") is False and verdicts.pop("int8, peak memory") is True
    assert len(verdicts) == 5 and set(verdicts.values()) == {None}
    assert mobile.failed(mobile.unjudged(rows)) is True  # by its size
    assert mobile.failed([r for r in mobile.unjudged(rows) if r["part"] != "size"]) is False
    assert mobile.failed([r for r in rows if r["part"] == "speed"]) is True  # on an idle machine
    assert "1 of 7 musts met, 1 short, 5 not judged" in mobile_report.summary(mobile.unjudged(rows))


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ({"before": 0.0, "timing": 0.02}, "The machine was idle: others used at most 2 % of a core"),
        ({"before": 0.01, "timing": 0.85}, "BUSY: 85 % of a core was used by others (before 1 %, timing 85 %); "
                                           "these ratios are not to be quoted."),
        (None, "Whether the machine was idle is not known here"),
    ],
)  # fmt: skip
def test_whether_the_machine_was_idle_is_said(shares, said):
    rows = mobile.machine(Idleness(shares), (1,), quick=False)
    found = {(r["part"], r["what"]): r["value"] for r in rows}
    assert mobile_report._idle(found)[0].startswith(said)


def times(torch_seconds, int8_seconds):
    """Two rounds of every part: torch slows down in the second, int8 does not."""
    parts = ("encoder", "denoiser", "decoder", "gemm")
    seconds = {("torch", p): [torch_seconds, 2 * torch_seconds] for p in parts}
    seconds |= {("int8", p): [int8_seconds, int8_seconds] for p in parts}
    return seconds | mobile_jobs.edits(seconds)


def test_ratios_are_of_minima():
    rows = mobile.speed_rows(times(1.0, 0.3), 1)
    assert value(rows, "speed", "int8 encoder, 1 thread, faster than torch") == pytest.approx(1 / 0.3)
    assert value(rows, "speed", "torch edit, 1 thread, minimum") == pytest.approx(3000)
    assert value(rows, "speed", "torch edit, 1 thread, median") == pytest.approx(4500)
    assert {r["ok"] for r in rows if r["kind"] == "must"} == {True}
    assert {r["ok"] for r in rows if r["kind"] == "aim"} == {False}
    assert not [r for r in mobile.speed_rows(times(1.0, 0.3), 2) if r["kind"] != "info"]


def test_a_whole_edit_is_the_sum_within_a_round():
    seconds = {
        ("torch", "encoder"): [1.0, 5.0],
        ("torch", "denoiser"): [7.0, 2.0],
        ("torch", "decoder"): [1.0, 1.0],
    }
    seconds["torch", "shadow"] = [9.0, 9.0]  # beside the edit
    assert mobile_jobs.edits(seconds) == {("torch", "edit"): [9.0, 8.0]}  # not the sum of minima, 4


def test_the_fraction_is_of_the_variants_own_peak():
    side, flops = 100, {"encoder": 1e6, "denoiser": 4e6, "decoder": 1e6, "edit": 6e6}
    rows = mobile.peak_rows(times(1.0, 0.5), flops, 1, side)
    assert value(rows, "peak", "torch gemm, 1 thread") == pytest.approx(2 * side**3 / 1e9)
    assert value(rows, "peak", "xnnpack int8 gemm, 1 thread") == pytest.approx(4 * side**3 / 1e9)
    assert value(rows, "peak", "torch denoiser, 1 thread, of its peak") == pytest.approx(
        4e6 / 1 / (2 * side**3)
    )
    assert value(rows, "peak", "int8 edit, 1 thread, of its peak") == pytest.approx(6e6 / 1.5 / (4 * side**3))
    assert [mobile.peak_of(v) for v in ("torch", "fp16", "int8-weights", "int8")] == [
        "torch",
        "fp32",
        "fp32",
        "int8",
    ]


def test_a_round_runs_every_job_once_and_the_order_turns():
    calls, rounds = [], []
    jobs = {("v", name): lambda name=name: calls.append(name) for name in ("encoder", "denoiser", "decoder")}
    seconds = mobile_jobs.interleaved(jobs, 3, lambda: rounds.append(len(calls)))
    assert rounds == [3, 6, 9, 12]
    turns = [tuple(calls[i : i + 3]) for i in range(0, 12, 3)]
    assert all(sorted(turn) == sorted(calls[:3]) for turn in turns)
    assert turns[1:] == [("encoder", "denoiser", "decoder"), ("encoder", "decoder", "denoiser"),
                         ("decoder", "encoder", "denoiser")]  # fmt: skip
    assert {len(taken) for taken in seconds.values()} == {3} and ("v", "edit") in seconds


def test_exports_are_timed_in_processes_of_their_own(monkeypatch, tmp_path):
    calls = []

    def of_pack(module, arguments, what):
        calls.append((module, *arguments[:2]))
        (tmp_path / f"{arguments[1]}.zip").touch()
        return {"bytes": 7e9 if arguments[1] == "fp32" else 1e9}

    monkeypatch.setattr(children, "of_pack", of_pack)
    watch = Idleness({})
    rows, folders = mobile.exports("small", KINDS, tmp_path, watch, quick=False)
    assert calls == [("mobile", "small", kind) for kind in KINDS]
    assert folders == [tmp_path / kind for kind in KINDS] and not list(tmp_path.glob("*.zip"))
    assert {r["what"]: r["ok"] for r in rows} == {
        "int8, seconds": True, "int8, peak memory": True, "fp32, seconds": True, "fp32, peak memory": False,
    }  # fmt: skip
    assert {r["limit"] for r in rows} == {120.0, 6.0} and watch.ticks == ["export", "export"]


def test_the_child_of_an_export_is_the_command_line(monkeypatch, capsys):
    from editkit.headless import cli as commands

    calls = []
    monkeypatch.setattr(commands, "main", lambda arguments: calls.append(arguments) or 0)
    mobile.child("small", "int8", "there", "64")
    assert calls == [["export", "--model", "small", "--quant", "int8", "-o", "there", "--sizes", "64"]]
    assert json.loads(capsys.readouterr().out)["bytes"] > 1e6
    monkeypatch.setattr(commands, "main", lambda arguments: 1)
    with pytest.raises(SystemExit):
        mobile.child("small", "int8", "there", "")


def test_only_the_int8_bundle_of_a_known_model_has_a_size_to_keep():
    def bundle(kind):
        files = [{"name": "encoder", "bytes": 15_000_000}]
        return SimpleNamespace(quantisation=kind, manifest=SimpleNamespace(data={"files": files}))

    rows = mobile.sizes([bundle("int8"), bundle("fp32")], "blazeedit-small")
    assert [(r["what"], r["limit"], r["ok"]) for r in rows if r["kind"] == "must"] == [
        ("int8 all files", 14.0, False)
    ]
    assert [r["ok"] for r in mobile.sizes([bundle("int8")], "blazeedit-195m") if r["kind"] == "must"] == [
        True
    ]


@pytest.mark.parametrize(
    ("times_faster", "quick", "status"), [(2.4, False, 1), (2.6, False, 0), (2.4, True, 0)]
)
def test_the_exit_status_follows_the_musts(monkeypatch, tmp_path, capsys, times_faster, quick, status):
    rows = mobile.machine(Idleness({"before": 0.0}), (1,), quick)
    rows += speed.row(
        "speed", "int8 edit, 1 thread, faster than torch", times_faster, "x", 2.5, at_most=False
    )
    rows += speed.row("speed", "canvas", 64, "px") + speed.row("speed", "rounds", 1, "")
    rows += speed.row("parameters", "tiny denoiser", 1, "M")
    monkeypatch.setattr(mobile, "kit", lambda source, bundles: None)
    monkeypatch.setattr(mobile, "run", lambda kit, **options: rows)
    assert cli.main(["mobile", "--json", str(tmp_path / "rows.json")]) == status
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"{int(times_faster > 2.5)} of 1 musts met, {int(times_faster < 2.5)} short;")
    assert json.loads((tmp_path / "rows.json").read_text()) == rows


def test_options_reach_the_table_and_wrong_ones_are_refused(monkeypatch, capsys):
    seen = {}
    monkeypatch.setattr(mobile, "kit", lambda source, bundles: seen.update(source=source, bundles=bundles))
    monkeypatch.setattr(mobile, "run", lambda kit, **options: seen.update(options) or stop())
    with pytest.raises(LookupError):
        cli.main(
            ["mobile", "--model", "195m", "--quants", "fp16,int8", "--threads", "2,1,2", "--rounds", "4"]
        )
    assert seen == {"source": "195m", "bundles": [], "quants": ["int8", "fp16"], "threads": (2, 1), "rounds": 4,
                    "quick": False}  # fmt: skip
    assert cli.main(["mobile", "--quants", "int3"]) == 1
    assert "choose from int8, fp16, fp32" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["mobile", "--threads", "0"])


def stop():
    raise LookupError
