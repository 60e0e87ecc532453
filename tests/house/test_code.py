"""The source that users load keeps the house rules, and each check bites on a bad example."""

import json
import os
import subprocess
import sys

import pytest

import editkit
from editkit.tests.house import code_checks, pack

SOURCES = {p.relative_to(pack.ROOT).as_posix(): p.read_text(encoding="utf-8") for p in pack.shipped_files()}
MOST_IMPORT_SECONDS = 0.2
HEAVY = {
    "diffusers",
    "peft",
    "transformers",
    "cv2",
    "skimage",
    "sklearn",
    "scipy",
    "accelerate",
    "matplotlib",
}
# Imports the pack from a folder with torch loaded already, and prints the processor time and what came along.
# A pass of the garbage collector over all of torch's objects falls into that time, and is nearly half of it.
MEASURE = """
import importlib.util, json, sys, time, torch
before, root = set(sys.modules), sys.argv[1]
start = time.process_time()
spec = importlib.util.spec_from_file_location("measured", root + "/__init__.py", submodule_search_locations=[root])
sys.modules["measured"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
seconds = time.process_time() - start
print(json.dumps([seconds, sorted({m.split(".")[0] for m in set(sys.modules) - before})]))
"""


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("check", [code_checks.forbidden_strings, code_checks.lengths, code_checks.imports])
def test_shipped_source_keeps_the_rules(name, check):
    assert check(name, SOURCES[name]) == []


def test_managers_scanner_sees_every_node():
    assert set(editkit.NODE_CLASS_MAPPINGS) <= code_checks.literal_mappings(SOURCES)


def measure_import(root, cache) -> tuple[float, set[str]]:
    """Processor seconds of importing a pack above torch, the best of four, and the modules that it brought.

    cache: a folder for .pyc files, which every start of ComfyUI but the first finds.
    """
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(cache)
    runs = []
    for _ in range(4):
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, str(root)], capture_output=True, text=True, check=True, env=environment
        )
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    seconds, modules = min(runs)
    return seconds, set(modules)


def test_importing_the_pack_is_quick_and_brings_nothing_heavy(tmp_path):
    seconds, modules = measure_import(pack.ROOT, tmp_path)
    assert seconds < MOST_IMPORT_SECONDS
    assert not modules & HEAVY


def test_a_slow_import_is_noticed(tmp_path):
    (tmp_path / "__init__.py").write_text("for _ in range(3): sum(range(10**7))\nimport wave\n")
    seconds, modules = measure_import(tmp_path, tmp_path / "cache")
    assert seconds > MOST_IMPORT_SECONDS and "wave" in modules


@pytest.mark.parametrize(
    "line",
    [
        "import subprocess",
        "os.system('ls')",
        "x = eval('1')",
        "exec(code)",
        "import pickle",
        "from cPickle import x",
    ],
)
def test_each_forbidden_string_is_found(line):
    assert code_checks.forbidden_strings("x.py", f"def f():\n    {line}\n")


def test_what_only_looks_forbidden_is_let_through():
    assert (
        code_checks.forbidden_strings("x.py", "model.eval()\nresult = evaluate(x)\nself.executor(1)\n") == []
    )


def test_long_files_and_functions_are_found():
    assert code_checks.lengths("x.py", "a = 1\n" * 401)
    assert code_checks.lengths("x.py", "def f():\n" + "    a = 1\n" * 45)
    assert code_checks.lengths("x.py", "def f():\n" + "    a = 1\n" * 44) == []


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("nodes/region.py", "from models import masks"),
        ("nodes/region.py", "import editkit.models"),
        ("nodes/region.py", "import folder_paths"),
        ("models/masks.py", "from comfy import model_management"),
        ("models/blazeedit/model.py", "from ...nodes import host"),
        ("models/masks.py", "from ..headless.cli import main"),
        ("nodes/region.py", "from .. import training"),
    ],
)
def test_each_wrong_import_is_found(name, line):
    assert code_checks.imports(name, f"def f():\n    {line}\n")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("nodes/region.py", "from ..models import masks"),
        ("nodes/host/memory.py", "import comfy.model_management, nodes"),
        ("models/blazeedit/tasks.py", "from ..errors import EditError"),
        ("headless/cli.py", "from ..training.cli import main"),
        ("__init__.py", "from .nodes import NODE_CLASS_MAPPINGS"),
        ("__main__.py", "from editkit.headless.cli import main"),
    ],
)
def test_right_imports_are_let_through(name, line):
    assert code_checks.imports(name, line + "\n") == []


def test_a_mapping_built_at_run_time_is_not_seen():
    literal = 'NODE_CLASS_MAPPINGS = {"EditKitA": A}\n'
    assert code_checks.literal_mappings({"x.py": literal}) == {"EditKitA"}
    assert (
        code_checks.literal_mappings({"x.py": "NODE_CLASS_MAPPINGS = {c.__name__: c for c in CLASSES}\n"})
        == set()
    )
