"""The archive that the registry gets holds enough to work and nothing that is refused, and pyproject says the rest."""

import re
import shutil
import struct
import subprocess
import sys

import pytest

from editkit.tests.house import archive, pack

NAMES = archive.files(pack.ROOT)
# a signature cannot do without the library `cryptography`, for whose name Manager's script asks a person to look
SIGNING = {"models/provenance/certificate.py", "models/provenance/package.py"}
MOST_MEGABYTES = 40  # BlazeEdit's weights are 26 of them
PYPROJECT = (pack.ROOT / "pyproject.toml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The archive in a folder of another name."""
    folder = tmp_path_factory.mktemp("custom_nodes") / "my.pack"
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(pack.ROOT / name, folder / name)
    return folder


def test_nothing_in_the_archive_is_refused():
    found = archive.problems(pack.ROOT, NAMES)
    assert set(found) == {f"{name} holds what Manager's check.sh looks for" for name in SIGNING}
    megabytes = sum((pack.ROOT / name).stat().st_size for name in NAMES) / 1e6
    assert megabytes < MOST_MEGABYTES


def test_the_archive_holds_what_is_used_and_nothing_else():
    used = {"__init__.py", "__main__.py", "pyproject.toml", "requirements.txt", "README.md", "LICENSE", "NOTICE"}
    used |= {p.relative_to(pack.ROOT).as_posix() for p in pack.shipped_files()}
    for folder in ("models/weights", "models/mobile/page", "web", "workflows"):
        paths = [p for p in (pack.ROOT / folder).rglob("*") if p.is_file() and "__pycache__" not in p.parts]
        used |= {p.relative_to(pack.ROOT).as_posix() for p in paths}
    assert used - set(NAMES) == set()
    stray = [n for n in NAMES if re.match(r"tests/|benchmarks/|\.ci/|Makefile|.*/logs/|requirements-(test|bench)", n)]
    assert stray == []


def test_the_unpacked_archive_edits_a_photo(unpacked, tmp_path):
    photo, result = unpacked / "workflows/media/dandelions.jpg", tmp_path / "better.png"
    run = [sys.executable, "-B", str(unpacked)]
    edit = [*run, "edit", str(photo), "--task", "tone", "-o", str(result)]
    done = subprocess.run(edit, capture_output=True, text=True, encoding="utf-8", timeout=300)
    assert done.returncode == 0 and result.stat().st_size > 1000, done.stderr
    done = subprocess.run([*run, "doctor"], capture_output=True, text=True, encoding="utf-8", timeout=300)
    assert done.returncode == 0 and str(unpacked) in done.stdout, done.stdout + done.stderr


def value(key: str) -> str:
    return re.search(rf'^{key} = (?:\{{ file = )?"([^"]+)"', PYPROJECT, re.M)[1]


def test_pyproject_says_what_the_registry_asks_for():
    assert re.fullmatch(r"[a-z][a-z0-9-]{1,98}", value("name")) and "comfyui" not in value("name")
    assert re.fullmatch(r"\d+\.\d+\.\d+", value("version"))
    assert value("license") in NAMES and value("requires-python") == ">=3.10"
    assert 40 < len(value("description")) < 300
    assert value("Repository").startswith("https://github.com/")
    assert value("PublisherId") and value("DisplayName") and value("requires-comfyui") == ">=0.3.64"


@pytest.mark.parametrize(("key", "shape"), [("Icon", 1.0), ("Banner", 21 / 9)])
def test_icon_and_banner_are_pictures_of_the_repository(key, shape):
    place = value("Repository").replace("github.com", "raw.githubusercontent.com") + "/main/"
    assert value(key).startswith(place)
    path = pack.ROOT / value(key).removeprefix(place)
    with path.open("rb") as file:
        width, height = struct.unpack(">II", file.read(24)[16:])  # of a PNG's header
    assert abs(width / height - shape) < 0.01
    assert path.stat().st_size < 60_000 and (key == "Banner" or width <= 400)


def test_templates_were_saved_by_a_version_that_exists():
    newest = tuple(map(int, value("version").split(".")))
    for path in pack.workflows():
        said = re.findall(r'"cnr_id": "editkit",\s*"ver": "([\d.]+)"', path.read_text(encoding="utf-8"))
        assert said and all(tuple(map(int, ver.split("."))) <= newest for ver in said), path.name


@pytest.mark.parametrize(
    ("line", "ignored", "kept"),
    [
        ("/tests/", ["tests/a.py", "tests/b/c.py"], ["models/tests/a.py", "tests"]),
        ("*.pyc", ["a.pyc", "b/a.pyc"], ["a.py"]),
        ("__pycache__/", ["a/__pycache__/b"], ["a/b"]),
        ("/training/**/logs/", ["training/logs/a", "training/a/b/logs/c"], ["training/a/logs.py", "models/logs/a"]),
        ("/Makefile", ["Makefile"], ["a/Makefile", "Makefile2"]),
    ],
)
def test_ignore_lines_mean_what_git_means(line, ignored, kept):
    match = re.compile(archive.pattern(line)).match
    assert all(match(name) for name in ignored) and not any(match(name) for name in kept)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.py", "import subprocess\n"),
        ("a.py", "import cryptography\n"),
        ("a.py", "_A='x'\n"),
        ("a.py", "page = urllib.request.urlopen(ADDRESS)\n"),
        ("a.pyc", ""),
        ("requirements.txt", "torch @ https://example.org/torch.whl\n"),
        ("requirements.txt", "--index-url https://example.org\n"),
    ],
)
def test_each_thing_that_is_refused_is_found(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert len(archive.problems(tmp_path, [name])) == 1


def test_a_link_is_found_and_what_a_function_asks_for_is_let_through(tmp_path):
    (tmp_path / "a.py").write_text("def ask():\n    return urllib.request.urlopen(ADDRESS)\n", encoding="utf-8")
    assert archive.problems(tmp_path, ["a.py"]) == []
    try:
        (tmp_path / "b.txt").symlink_to(tmp_path / "a.py")
    except OSError:
        pytest.skip("this system lets nobody make links")
    assert len(archive.problems(tmp_path, ["b.txt"])) == 1
