"""Pages refer to what exists, packaging files agree with each other, and each check bites on a bad example."""

import os
import re
import stat
import subprocess
import sys

import pytest

from editkit.tests.house import doc_checks, pack

ROOT = pack.ROOT
SKIPPED = {".venv", ".git", "node_modules", "out"}
PAGES = [p for p in sorted(ROOT.rglob("*.md")) if not SKIPPED & set(p.relative_to(ROOT).parts)]
COMMANDS = {
    "demo", "run", "queue", "edit", "batch", "export", "verify", "serve", "inspect", "train", "data", "bench", "eval",
    "doctor",
}  # fmt: skip
TARGETS = doc_checks.make_targets((ROOT / "Makefile").read_text(encoding="utf-8"))


def requirement_names(text: str) -> dict[str, str]:
    """name -> the rest of the line, of a requirements file."""
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    pairs = [re.match(r"([\w.-]+)(.*)", line).groups() for line in lines if line]
    return {re.sub("[-_.]+", "-", name.lower()): rest.strip() for name, rest in pairs}


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_a_page_refers_to_what_exists(page):
    problems = doc_checks.link_problems(page, ROOT)
    problems += doc_checks.command_problems(page, ROOT, COMMANDS, TARGETS)
    assert problems == []


@pytest.mark.skipif(not pack.workflows(), reason="no workflow is shipped yet")
def test_the_readme_holds_nothing_back_once_workflows_are_there():
    held_back = re.findall(r"<!--\s*(uncomment|draft)[^\n]*", read("README.md"))
    assert held_back == []


def test_the_command_line_has_every_command_that_pages_name():
    if not (ROOT / "__main__.py").exists():
        pytest.skip("there is no command line yet")
    done = subprocess.run([sys.executable, str(ROOT), "--help"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not {c for c in COMMANDS if not re.search(rf"\b{c}\b", done.stdout)}


def test_requirements_are_floors_and_pyproject_repeats_them():
    wanted = requirement_names(read("requirements.txt"))
    assert all(rest.startswith(">=") and "," not in rest for rest in wanted.values()), wanted
    block = re.search(r"^dependencies = \[.*?\n(.*?)\]", read("pyproject.toml"), re.M | re.S)[1]
    listed = requirement_names(re.sub(r'[",]', "", block))
    assert listed == wanted


def test_make_pins_every_direct_requirement():
    pinned = requirement_names(read("tests/constraints.txt"))
    assert all(rest.startswith("==") for rest in pinned.values())
    direct = {
        n for p in ROOT.glob("requirements*.txt") for n in requirement_names(p.read_text(encoding="utf-8"))
    }
    assert direct - {"comfyui-frontend-package"} <= set(pinned)


def test_at_most_one_opencv_wheel_is_asked_for():
    wheels = {
        n for p in ROOT.glob("requirements*.txt") for n in requirement_names(p.read_text(encoding="utf-8"))
    }
    assert len({n for n in wheels if n.startswith("opencv")}) <= 1


def test_notice_names_every_shipped_photograph():
    media = [p for p in (ROOT / "workflows/media").glob("*.jpg")]
    notice = read("NOTICE")
    assert [p.name for p in media if p.name not in notice and not is_mask(p)] == []


def is_mask(path) -> bool:
    """Masks are the project's own drawings."""
    return "mask" in path.stem


def test_the_changelog_and_pyproject_name_the_same_version():
    version = re.search(r'^version = "([^"]+)"', read("pyproject.toml"), re.M)[1]
    assert re.search(r"^## (\S+)", read("CHANGELOG.md"), re.M)[1] == version


@pytest.mark.skipif(os.name == "nt", reason="Windows has no executable bit")
def test_the_ci_script_can_be_executed():
    assert (ROOT / ".ci/run").stat().st_mode & stat.S_IXUSR


def test_files_that_ship_are_plain_and_small():
    links = [p for p in ROOT.rglob("*") if p.is_symlink() and not SKIPPED & set(p.relative_to(ROOT).parts)]
    assert links == []  # newer ComfyUI refuses packs with symlinks
    shards = [p for p in (ROOT / "models").rglob("*.safetensors") if p.stat().st_size > 16 * 2**20]
    assert shards == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[a](gone.md)", "gone.md"),
        ('<img src="gone.png">', "gone.png"),
        ("[a](#nowhere)", "#nowhere"),
        ("```\nmake dance\n```", "make dance"),
        ("```sh\npython . juggle\n```", "juggle"),
        ("```\n..\\..\\..\\python_embeded\\python.exe -s . juggle\n```", "juggle"),
        ("```\npython . run workflows/api/gone.json --out out/\n```", "workflows/api/gone.json"),
    ],
)
def test_each_dead_reference_is_found(tmp_path, text, said):
    page = tmp_path / "README.md"
    page.write_text(f"# Title\n\n{text}\n", encoding="utf-8")
    found = doc_checks.link_problems(page, tmp_path)
    found += doc_checks.command_problems(page, tmp_path, COMMANDS, TARGETS)
    assert len(found) == 1 and said in found[0]


def test_live_references_are_let_through(tmp_path):
    page = tmp_path / "README.md"
    (tmp_path / "there.png").touch()
    text = "# The title\n[a](#the-title) ![b](there.png) [c](https://example.org)\n```\nmake demo PYTHON=python3.12\n"
    page.write_text(text + "python . edit photo.jpg --task tone\n```\n", encoding="utf-8")
    assert doc_checks.link_problems(page, tmp_path) == []
    assert doc_checks.command_problems(page, tmp_path, COMMANDS, TARGETS) == []
