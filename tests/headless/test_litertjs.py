"""LiteRT.js for the page: found in a folder, or fetched from a registry that the user named, if it is the right one."""

import base64
import hashlib
import io
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from editkit.headless import litertjs
from editkit.headless.errors import EditError
from editkit.models.mobile import web

VERSION = web.LITERTJS


def package(files: dict[str, bytes]) -> bytes:
    """An npm package of these files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def integrity(content: bytes) -> str:
    return "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()


def parts(name: str) -> dict[str, bytes]:
    """The files that the page needs of a package, and some that must not leave it."""
    needed = [f.partition("/")[2] for f in web.FILES.values() if f.startswith(f"{name}/")]
    return {f"package/{f}": f"// {name}/{f}".encode() for f in needed} | {
        "package/package.json": b"{}", "package/../../escaped.js": b"escaped", "/escaped.js": b"escaped",
        "other/stray.js": b"stray", "../escaped.js": b"escaped",
    }  # fmt: skip


@pytest.fixture
def registry(monkeypatch):
    """A registry on this machine; `registry.packages` is what it has, `registry.asked` what it was asked for."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802, the name is the library's
            made.asked.append(self.path)
            content = made.packages.get(self.path.split("/")[-1])
            self.send_response(200 if content else 404)
            self.send_header("Content-Length", str(len(content or b"") + made.missing))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_):
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.asked, made.missing = [], 0
    made.packages = {f"{n}-{VERSION}.tgz": package(parts(n)) for n in ("core", "wasm-utils")}
    made.address = f"http://127.0.0.1:{made.server_address[1]}/npm/"
    right = {n: integrity(made.packages[f"{n}-{VERSION}.tgz"]) for n in ("core", "wasm-utils")}
    monkeypatch.setattr(litertjs, "PACKAGES", right)
    threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def places(tmp_path, monkeypatch):
    """An empty working folder, an empty pack and an empty cache."""
    for name in ("work", "pack", "cache"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def installed(folder):
    """LiteRT.js as npm leaves it below a folder."""
    for file in web.FILES.values():
        path = folder / "node_modules" / "@litertjs" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("//")
    return folder / "node_modules" / "@litertjs"


def test_the_right_packages_are_fetched_and_unpacked(registry, tmp_path, capsys):
    folder = litertjs.fetch(registry.address, tmp_path / "kept", VERSION)
    assert registry.asked == [
        f"/npm/@litertjs/core/-/core-{VERSION}.tgz", f"/npm/@litertjs/wasm-utils/-/wasm-utils-{VERSION}.tgz",
    ]  # fmt: skip
    assert folder == tmp_path / "kept" and web.find_litertjs(folder) == folder
    for file in web.FILES.values():
        assert (folder / file).read_bytes() == f"// {file}".encode()
    assert registry.address in capsys.readouterr().out, "what is fetched is said"


def test_nothing_leaves_its_package(registry, tmp_path):
    litertjs.fetch(registry.address, tmp_path / "kept" / "deep", VERSION)
    names = {p.name for p in tmp_path.rglob("*") if p.is_file()}
    assert names == {f.rpartition("/")[2] for f in web.FILES.values()} | {"package.json"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["kept"]


@pytest.mark.parametrize("wrong", ["core", "wasm-utils"])
def test_a_package_of_another_hash_is_refused_and_nothing_is_kept(registry, tmp_path, wrong):
    registry.packages[f"{wrong}-{VERSION}.tgz"] = package({"package/dist/index.js": b"// another"})
    with pytest.raises(EditError, match=f"{wrong}-{VERSION}.tgz is not the file that it should be"):
        litertjs.fetch(registry.address, tmp_path / "kept", VERSION)
    assert list(tmp_path.iterdir()) == []


def test_a_package_that_is_not_there_is_said(registry, tmp_path):
    registry.packages.clear()
    with pytest.raises(EditError, match="could not be fetched .*404.*--litertjs"):
        litertjs.fetch(registry.address, tmp_path / "kept", VERSION)
    assert list(tmp_path.iterdir()) == []


def test_a_package_that_breaks_off_is_said(registry, tmp_path):
    registry.missing = 1000
    with pytest.raises(EditError, match="could not be fetched .*IncompleteRead"):
        litertjs.fetch(registry.address, tmp_path / "kept", VERSION)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/", "https://", "http://[x/", "http://a b/", "http://x:y/"])
def test_an_address_that_leads_nowhere_is_said(tmp_path, address):
    with pytest.raises(EditError, match="could not be fetched"):
        litertjs.fetch(address, tmp_path / "kept", VERSION)


def test_a_registry_is_asked_only_when_it_was_named(registry, places, monkeypatch):
    monkeypatch.setattr(litertjs, "fetch", lambda *_: pytest.fail("fetched"))
    with pytest.raises(EditError, match=f"LiteRT.js is not in .*npm install @litertjs/core@{VERSION}.*--litertjs"):
        litertjs.locate(None, places / "pack", places / "cache")


def test_what_was_fetched_is_found_the_next_time(registry, places):
    made = litertjs.locate(registry.address, places / "pack", places / "cache")
    assert made == places / "cache" / f"litertjs-{VERSION}"
    assert litertjs.locate(None, places / "pack", places / "cache") == made and len(registry.asked) == 2


def test_the_working_folder_comes_before_the_pack_and_the_cache(places):
    pack, work = installed(places / "pack"), places / "work"
    assert litertjs.locate(None, places / "pack", places / "cache") == pack
    installed(work)
    assert litertjs.locate(None, places / "pack", places / "cache") == work / "node_modules" / "@litertjs"


@pytest.mark.parametrize("below", ["", "node_modules", "node_modules/@litertjs"])
def test_a_named_folder_may_be_any_of_those_that_hold_it(places, below):
    wanted = installed(places / "mine")
    assert litertjs.locate(str(places / "mine" / below), places / "pack", places / "cache") == wanted


def test_a_named_folder_without_it_is_refused_whatever_lies_elsewhere(places):
    installed(places / "pack")
    with pytest.raises(EditError, match="LiteRT.js is not in"):
        litertjs.locate(str(places / "cache"), places / "pack", places / "cache")


def test_a_half_installed_package_names_the_missing_file(places):
    wasm = installed(places / "mine") / web.FILES["wasm/litert_wasm_internal.wasm"]
    wasm.unlink()
    with pytest.raises(EditError, match=f"{wasm.name} is missing; install @litertjs/core {VERSION} again"):
        litertjs.locate(str(places / "mine"), places / "pack", places / "cache")
