"""The command line as a user meets it: help, doctor, other folders, Ctrl-C."""

import json
import math
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from editkit.headless import cli, doctor, progress
from editkit.headless.errors import EditError

ROOT = Path(__file__).resolve().parents[2]

SLOW_NODE = """
import time
class Slow:
    RETURN_TYPES, FUNCTION = ("IMAGE",), "run"
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",), "seconds": ("INT",)}}
    def run(self, image, seconds):
        print("running", flush=True)
        time.sleep(seconds)
        return (image,)
NODE_CLASS_MAPPINGS = {"Slow": Slow}
NODE_DISPLAY_NAME_MAPPINGS = {}
"""


@pytest.fixture
def copied_pack(tmp_path):
    """The command line's part of the pack in a folder of an awkward name, with one slow node."""
    pack = tmp_path / "my.pack v1.2"
    for folder in ("headless", "models"):
        ignored = shutil.ignore_patterns("__pycache__", "*.safetensors")
        shutil.copytree(ROOT / folder, pack / folder, ignore=ignored)
    for name in ("__init__.py", "__main__.py"):
        shutil.copy(ROOT / name, pack / name)
    shutil.copytree(ROOT / "nodes" / "host", pack / "nodes" / "host", ignore=ignored)
    (pack / "nodes" / "__init__.py").write_text(SLOW_NODE)
    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "photo.png"}},
        "2": {"class_type": "Slow", "inputs": {"image": ["1", 0], "seconds": 0}, "_meta": {"title": "slow"}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "done"}},
    }
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "w.json").write_text(json.dumps(prompt))
    Image.new("RGB", (4, 4)).save(tmp_path / "work" / "photo.png")
    return pack


def command(pack, *arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return {"args": [sys.executable, str(pack), *arguments], "cwd": pack.parent / "work", "env": environment}


def test_from_another_folder_with_dots_and_spaces_in_its_name(copied_pack):
    done = subprocess.run(**command(copied_pack, "run", "w.json"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (copied_pack.parent / "work" / "out" / "done_00001_.png").is_file()
    assert done.stderr == ""


@pytest.mark.skipif(os.name != "posix", reason="sends a POSIX signal")
def test_ctrl_c_stops_with_130_and_leaves_nothing_half_written(copied_pack):
    arguments = ("run", "w.json", "--set", "slow=60")
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits deafness
    try:
        process = subprocess.Popen(
            **command(copied_pack, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    finally:
        signal.signal(signal.SIGINT, heard)
    assert process.stdout.readline() == "running\n"
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and time.monotonic() - start < 10
    assert "Stopped." in errors and "Traceback" not in errors
    assert list((copied_pack.parent / "work" / "out").iterdir()) == []


def test_spawned_workers_find_the_pack(copied_pack):
    (copied_pack / "training").mkdir()
    (copied_pack / "training" / "__init__.py").write_text("")
    (copied_pack / "training" / "cli.py").write_text(
        "import multiprocessing\n"
        "def work(x):\n    return x + 1\n"
        "def main(argv):\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        print(pool.map(work, [int(a) for a in argv]))\n"
        "    return 0\n"
    )
    done = subprocess.run(
        **command(copied_pack, "train", "4", "5"), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and done.stdout == "[5, 6]\n", done.stderr


def test_help_needs_no_torch_and_teaches_by_example(copied_pack):
    script = (
        "import sys, runpy; sys.modules['torch'] = None; sys.argv = ['x', '--help'];"
        f"runpy.run_path({str(copied_pack)!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    for name in ("demo", "run", "queue", "edit", "train", "bench", "doctor", "examples:", "--mask m.png"):
        assert name in done.stdout


@pytest.mark.parametrize("name", ["demo", "run", "queue", "edit", "doctor"])
def test_every_command_explains_itself(name, capsys):
    assert cli.main([name, "--help"]) == 0
    said = capsys.readouterr().out
    assert "usage:" in said and ("examples:" in said or name == "doctor")


@pytest.mark.parametrize(
    "arguments", [[], ["fly"], ["edit", "a.png"], ["edit", "a.png", "--task", "fly"], ["run"]]
)
def test_wrong_usage_ends_with_two(arguments, capsys):
    assert cli.main(arguments) == 2
    assert "usage:" in capsys.readouterr().err


def test_train_and_bench_are_handed_on_with_their_own_arguments(monkeypatch, tmp_path):
    import types

    monkeypatch.setattr(cli, "PACK", tmp_path)
    for folder, name in (("training", "train"), ("benchmarks", "bench")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "cli.py").write_text("")
        got = []
        module = types.SimpleNamespace(main=lambda argv, got=got: got.append(argv) or 5)
        monkeypatch.setitem(sys.modules, f"editkit.{folder}.cli", module)
        assert cli.main([name, "quality", "--help"]) == 5 and got == [["quality", "--help"]]


def test_a_part_that_the_archive_leaves_out_is_one_sentence(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(cli, "PACK", tmp_path)
    assert cli.main(["bench", "speed"]) == 1
    assert "`bench` is not part of this copy of EditKit" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("problem", "code", "said"),
    [
        (EditError("No good."), 1, "error: No good."),
        (KeyboardInterrupt(), 130, "Stopped."),
        (ModuleNotFoundError("x", name="torch"), 1, "torch is not installed; `"),
        (ModuleNotFoundError("x", name="torch._C"), 1, "doctor` says what is missing"),
    ],
)
def test_how_a_command_may_end(monkeypatch, capsys, problem, code, said):
    def fail(arguments):
        raise problem

    monkeypatch.setattr(cli, "_dispatch", fail)
    assert cli.main(["demo"]) == code
    assert said in capsys.readouterr().err


def test_a_missing_part_of_our_own_is_no_users_problem(monkeypatch):
    def fail(arguments):
        raise ModuleNotFoundError("x", name="editkit.models.gone")

    monkeypatch.setattr(cli, "_dispatch", fail)
    with pytest.raises(ModuleNotFoundError):
        cli.main(["demo"])


def weights(path, count, cut=0):
    header = json.dumps({"w": {"dtype": "F16", "shape": [count], "data_offsets": [0, 2 * count]}}).encode()
    content = struct.pack("<Q", len(header)) + header + bytes(2 * count)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content[: len(content) - cut])


def test_the_doctor_counts_parameters_over_shards(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "weight_folders", lambda: [tmp_path])
    for shard in (1, 2):
        weights(tmp_path / "blazeedit-small" / f"model-{shard}.safetensors", 1_500_000)
    assert cli.main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "blazeedit-small: 3.00 M parameters, 6.0 MB in 2 file(s)" in said
    assert (
        "torch " in said and "Python" in said and "ComfyUI" in said and "Nothing that an edit needs" in said
    )


@pytest.mark.parametrize("cut", [1, 2_999_990, 3_000_020])
def test_the_doctor_finds_a_truncated_weight_file(tmp_path, monkeypatch, capsys, cut):
    monkeypatch.setattr(doctor, "weight_folders", lambda: [tmp_path])
    weights(tmp_path / "small" / "a.safetensors", 1_500_000, cut)
    assert cli.main(["doctor"]) == 1
    assert "cannot be read" in capsys.readouterr().out


def test_the_doctor_says_what_is_missing_and_how_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "weight_folders", lambda: [tmp_path / "none"])
    monkeypatch.setattr(doctor, "installed", lambda package: None if package == "torch" else "99.0")
    assert cli.main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert (
        "pip install" in said
        and "torch" in said.split("Missing")[1]
        and "weights" in said.split("Missing")[1]
    )


def test_the_doctor_overlooks_what_macos_leaves_in_archives(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "weight_folders", lambda: [tmp_path])
    weights(tmp_path / "small" / "a.safetensors", 1_500_000)
    (tmp_path / "small" / "._a.safetensors").write_bytes(b"Mac OS X")
    assert cli.main(["doctor"]) == 0
    assert "in 1 file(s)" in capsys.readouterr().out


def released(folder, *files):
    """Files of a SwiftEdit release: the configs of its UNets, and anything else empty."""
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        config = {"block_out_channels": [320], "cross_attention_dim": 1024}
        (folder / name).write_text(json.dumps(config) if name.endswith("config.json") else "")


INVERSION, GENERATOR = "inverse_ckpt-120k/unet_ema/config.json", "sbv2_0.5/config.json"
BRANCH = "ip_adapter_ckpt-90k/ip_adapter.bin"


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ((INVERSION, GENERATOR, BRANCH), "generator: sbv2_0.5; image branch: ip_adapter_ckpt-90k/ip_adapter.bin"),
        ((INVERSION, BRANCH), "inversion net: inverse_ckpt-120k/unet_ema; generator: the one in ip_adapter.bin"),
        ((INVERSION,), "missing (sbv2_0.5), or wire a MODEL; image branch: missing (ip_adapter…/ip_adapter.bin)"),
        ((BRANCH,), "inversion net: missing (inverse…/unet_ema)"),
        ((), "no release found"),
    ],
)
def test_the_doctor_says_which_parts_of_swiftedit_are_there(tmp_path, monkeypatch, capsys, files, said):
    monkeypatch.setattr(doctor, "comfyui", lambda: None)
    monkeypatch.setattr(doctor, "weight_folders", lambda: [tmp_path])
    weights(tmp_path / "small" / "a.safetensors", 1_500_000)
    released(tmp_path / "swiftedit", *files)
    assert cli.main(["doctor"]) == 0  # no edit of the pack's own needs it
    assert said in capsys.readouterr().out.split("\nSwiftEdit\n")[1]


def test_the_doctor_passes_a_bad_card_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "weight_folders", lambda: [tmp_path])
    released(tmp_path / "mine", INVERSION)
    (tmp_path / "mine" / "swiftedit.json").write_text("{}")
    cli.main(["doctor"])
    assert "is not a SwiftEdit card" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["swiftedit_one_step", "swiftedit_graph", "swiftedit_scale_sweep"])
def test_a_workflow_that_needs_comfyui_says_so_in_one_sentence(name, tmp_path, capsys):
    file = ROOT / "workflows" / "api" / f"{name}.json"
    assert cli.main(["run", str(file), "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().err.strip()
    assert said.startswith("error: ") and "needs a ComfyUI server" in said and "\n" not in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("version", "floor", "older"),
    [("2.4.0+cpu", "2.4", False), ("2.3.9", "2.4", True), ("10.0", "9.9", False), ("2.10", "2.9.1", False)],
)
def test_versions(version, floor, older):
    assert doctor.is_older(version, floor) is older


def test_floors_are_read_from_a_requirements_file(tmp_path):
    path = tmp_path / "r.txt"
    path.write_text(
        "# what it runs on\ntorch>=2.4  # any build\nPillow >= 10\neinops\n\nx[y]>=1.2.3\n-r other.txt\n"
    )
    assert doctor.floors(path) == {"torch": "2.4", "pillow": "10", "einops": "", "x": "1.2.3"}


def test_comfyui_is_found_by_its_variable_or_above_the_pack(tmp_path, monkeypatch):
    for name in ("main.py", "nodes.py"):
        (tmp_path / name).write_text("")
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    assert doctor.comfyui() == tmp_path
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path / "elsewhere"))
    monkeypatch.setattr(doctor, "PACK", tmp_path / "custom_nodes" / "any.name")
    assert doctor.comfyui() == tmp_path


def test_progress_goes_to_a_terminal_only(monkeypatch):
    assert isinstance(progress.bar(3, "x"), progress.NoBar)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    made = progress.bar(3, "x")
    made.update(1)
    made.close()
    assert not isinstance(made, progress.NoBar)


def test_without_tqdm_there_is_a_plain_bar(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    made = progress.bar(3, "steps")
    made.update(2)
    made.close()
    assert "steps: 2/3" in capsys.readouterr().err


def test_nodes_report_their_steps_through_the_host(monkeypatch):
    import types

    listeners, made = [], []

    class Bar:
        def __init__(self, total, label):
            self.total, self.n = total, 0
            made.append(self)

        def update(self, n):
            self.n += n

        def close(self): ...

    host = types.SimpleNamespace(set_listener=listeners.append)
    monkeypatch.setitem(sys.modules, "editkit.nodes.host.progress", host)
    monkeypatch.setattr(progress, "bar", Bar)
    with progress.shown("edit"):
        for done, total in ((1, 2), (2, 2), (1, 3), (3, 3)):
            listeners[0](done, total)
    assert [(b.total, b.n) for b in made] == [(2, 2), (3, 3)] and listeners[-1] is None


def lora(path, shapes, cut=0):
    """A safetensors file of that name -> shape, without values that mean anything."""
    entries, end = {}, 0
    for name, shape in shapes.items():
        size = 2 * math.prod(shape)
        entries[name], end = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}, end + size
    head = json.dumps(entries).encode()
    content = struct.pack("<Q", len(head)) + head + bytes(end)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content[: len(content) - cut])


def test_the_doctor_tells_icedits_loras_from_others(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "comfyui", lambda: tmp_path)
    cli.main(["doctor"])
    assert "no LoRA found in models/loras" in capsys.readouterr().out
    folder, layer = tmp_path / "models" / "loras", "transformer.transformer_blocks.0.ff.net.2"
    lora(folder / "moe.safetensors", {f"{layer}.lora_route.weight": [4, 8], f"{layer}.lora_A.expert_0.weight": [2, 8]})
    lora(folder / "a" / "plain.safetensors", {"transformer.x_embedder.lora_A.weight": [32, 384]})
    lora(folder / "other.safetensors", {"transformer.x_embedder.lora_A.weight": [32, 64]})
    lora(folder / "ICEdit-cut.safetensors", {"x": [100]}, cut=10)
    (folder / "broken.safetensors").write_bytes(b"?")
    cli.main(["doctor"])
    said = capsys.readouterr().out.split("\nICEdit")[1]
    assert "moe.safetensors\n    a mixture of experts in 1 layers" in said
    assert "plain.safetensors\n    a plain LoRA for FLUX.1 Fill" in said
    assert "ICEdit-cut.safetensors\n    cannot be read; fetch it again" in said
    assert "other.safetensors" not in said and "broken.safetensors" not in said
