"""What the registry's archive holds works in ComfyUI under any folder name: Manager's, git's, and an awkward one."""

import json
import re
import shutil
import urllib.parse
import urllib.request

import pytest

import editkit
from editkit.tests.house import archive, pack

NAMES = ("editkit", "ComfyUI-EditKit", "my.pack")


@pytest.fixture(scope="module")
def named(serve, root, tmp_path_factory):
    """A server with the archive unpacked three times."""
    packed = tmp_path_factory.mktemp("archive") / NAMES[0]
    for name in archive.files(root):
        (packed / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, packed / name)

    def add(base):
        for other in NAMES[1:]:
            shutil.copytree(packed, base / "custom_nodes" / other)

    with serve(add, packed, NAMES[0]) as server:
        yield server


def fetched(server, path: str) -> bytes:
    with urllib.request.urlopen(server.url + urllib.parse.quote(path), timeout=60) as reply:
        return reply.read()


def test_the_archive_loads_under_each_name(named):
    log = named.log()
    assert "IMPORT FAILED" not in log and "Traceback" not in log
    timed = re.findall(r"([\d.]+) seconds: .*custom_nodes.(\S+)", log)
    assert {name for _, name in timed} >= set(NAMES)
    assert set(editkit.NODE_CLASS_MAPPINGS) <= set(named.get("/object_info"))


@pytest.mark.parametrize("name", NAMES)
def test_templates_help_pages_and_modules_are_served_under_each_name(named, name):
    assert sorted(named.get("/workflow_templates")[name]) == sorted(p.stem for p in pack.workflows())
    for path in pack.workflows():
        assert json.loads(fetched(named, f"/api/workflow_templates/{name}/{path.name}"))["nodes"]
        assert fetched(named, f"/api/workflow_templates/{name}/{path.stem}.jpg")[:2] == b"\xff\xd8"
    for photo in (pack.ROOT / "workflows/media").iterdir():
        assert fetched(named, f"/api/workflow_templates/{name}/media/{photo.name}") == photo.read_bytes()
    for node in editkit.NODE_CLASS_MAPPINGS:
        assert fetched(named, f"/extensions/{name}/docs/{node}.md")
    modules = {p.relative_to(pack.ROOT / "web").as_posix() for p in (pack.ROOT / "web").rglob("*.js")}
    listed = [urllib.parse.unquote(m).partition(f"/extensions/{name}/") for m in named.get("/extensions")]
    assert modules == {below for _, folder, below in listed if folder}


def test_modules_import_each_other_and_comfyui_without_naming_a_folder():
    """`../../scripts/app.js` is ComfyUI's; all else lies below web/, so that the folder's name does not matter."""
    web = pack.ROOT / "web"
    for path in web.rglob("*.js"):
        text = path.read_text(encoding="utf-8")
        assert "extensions/" not in text, path
        for target in re.findall(r'(?:from|import)\s*\(?"([^"]+)"', text):
            depth = len(path.relative_to(web).parents)
            own = (path.parent / target).resolve()
            assert own.is_file() or target.startswith("../" * (depth + 1) + "scripts/"), (path, target)
