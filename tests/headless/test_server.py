"""`serve`: one folder, read only, to this machine only, with the headers that a browser's WebAssembly wants."""

import http.client
import socket
import threading

import pytest

from editkit.headless import server
from editkit.headless.cli import main
from editkit.headless.errors import EditError

FILES = {
    "index.html": "text/html; charset=utf-8", "app.js": "text/javascript", "style.css": "text/css",
    "manifest.json": "application/json", "manifest.webmanifest": "application/manifest+json",
    "encoder.tflite": "application/octet-stream", "golden/tone.f32": "application/octet-stream",
    "golden/tone.png": "image/png", "litert/wasm/a.wasm": "application/wasm", "icon.svg": "image/svg+xml",
    "notes.unknown": "application/octet-stream", "with space.js": "text/javascript",
}  # fmt: skip


@pytest.fixture
def page(tmp_path):
    """A bundle's folder with a page, hidden files inside and a secret beside it."""
    folder = tmp_path / "bundle"
    for name in (*FILES, ".hidden", ".git/config", "golden/.env"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(f"content of {name}".encode())
    (tmp_path / "secret.txt").write_text("secret")
    return folder


@pytest.fixture
def running(page):
    made = server.make(page, 0)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def ask(running, path, method="GET"):
    connection = http.client.HTTPConnection(*running.server_address, timeout=10)
    connection.request(method, path)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer, content


def raw(running, request: bytes) -> bytes:
    """What comes back for bytes that no well-behaved client would send."""
    with socket.create_connection(running.server_address, timeout=10) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize("name", FILES)
def test_files_come_with_their_type_and_content(running, name):
    answer, content = ask(running, "/" + name.replace(" ", "%20"))
    assert (answer.status, answer.headers["Content-Type"]) == (200, FILES[name])
    assert content == f"content of {name}".encode()


@pytest.mark.parametrize("path", ["/", "/app.js", "/gone.js", "/.hidden"])
def test_every_answer_has_the_headers_that_isolate_the_page(running, path):
    headers = ask(running, path)[0].headers
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Cache-Control"] == "no-cache"
    assert "Access-Control-Allow-Origin" not in headers


def test_the_folder_itself_is_the_page(running):
    assert ask(running, "/")[1] == b"content of index.html"
    assert ask(running, "/?lang=de#top")[1] == b"content of index.html"


@pytest.mark.parametrize("path", ["/golden/", "/litert/", "/litert/wasm/", "/golden/?x"])
def test_folders_are_not_listed(running, path):
    answer, content = ask(running, path)
    assert answer.status == 404 and b"tone" not in content and b"a.wasm" not in content


HIDDEN = ["/.hidden", "/.git/config", "/golden/.env", "/%2ehidden", "/%2Egit/config", "/golden/%2Eenv", "/./.hidden"]


@pytest.mark.parametrize("path", HIDDEN)
def test_hidden_files_are_not_there(running, path):
    answer, content = ask(running, path)
    assert answer.status == 404 and b"content of" not in content


CLIMBS = [
    b"/../secret.txt", b"/../../../../etc/passwd", b"/golden/../../secret.txt", b"/%2e%2e/secret.txt",
    b"/golden/%2e%2e/%2e%2e/secret.txt", b"/..%2fsecret.txt", b"/..\\secret.txt", b"/%2e%2e%5csecret.txt",
    b"//etc/passwd", b"/%00/../secret.txt", b"../secret.txt", b"/....//secret.txt",
]  # fmt: skip


@pytest.mark.parametrize("path", CLIMBS)
def test_no_path_leads_out_of_the_folder(running, path):
    said = raw(running, b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b"secret" not in said.partition(b"\r\n\r\n")[2] and b"root:" not in said
    assert not said.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_written_or_taken_away(running, page, method):
    answer, _ = ask(running, "/app.js", method)
    assert answer.status == 501 and (page / "app.js").read_bytes() == b"content of app.js"


def test_the_head_of_a_file_can_be_asked_for(running):
    answer, content = ask(running, "/encoder.tflite", "HEAD")
    assert answer.status == 200 and content == b"" and int(answer.headers["Content-Length"]) == 25
    assert ask(running, "/.hidden", "HEAD")[0].status == 404


def test_one_connection_serves_many_files(running):
    connection = http.client.HTTPConnection(*running.server_address, timeout=10)
    for name in ("app.js", "style.css", "gone.js", "app.js"):
        connection.request("GET", f"/{name}")
        answer = connection.getresponse()
        assert answer.version == 11 and len(answer.read()) == int(answer.headers["Content-Length"])
    connection.close()


def test_only_this_machine_can_connect(running):
    host, port = running.server_address
    assert host == "127.0.0.1"
    with pytest.raises(OSError):  # an address of this machine too, on which a server for everybody would answer
        socket.create_connection(("127.0.0.2", port), timeout=2).close()


def test_a_folder_that_is_not_there_or_has_no_page_is_said(tmp_path, page, capsys):
    assert main(["serve", str(tmp_path / "gone")]) == 1
    assert "There is no bundle folder" in capsys.readouterr().err
    (page / "index.html").unlink()
    assert main(["serve", str(page)]) == 1
    said = capsys.readouterr().err.strip()
    assert "has no page; export it again with --web" in said and "\n" not in said


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="Windows lets two servers share a port")
def test_a_port_that_is_taken_is_said_with_the_way_out(running, page, capsys):
    port = running.server_address[1]
    assert main(["serve", str(page), "--port", str(port)]) == 1
    said = capsys.readouterr().err.strip()
    assert f"Port {port} cannot be used" in said and "--port" in said and "\n" not in said


@pytest.mark.parametrize("port", [-1, 65536, 10**9])
def test_a_port_that_no_machine_has_is_said(page, port):
    with pytest.raises(EditError, match=f"no port {port}; choose one from 1 to 65535"):
        server.make(page, port)


def test_ctrl_c_stops_it_and_frees_the_port(page, monkeypatch, capsys):
    ports = []

    def interrupted(self):
        ports.append(self.server_address[1])
        raise KeyboardInterrupt

    monkeypatch.setattr(server.ThreadingHTTPServer, "serve_forever", interrupted)
    assert main(["serve", str(page), "--port", "0"]) == 130
    assert f"http://127.0.0.1:{ports[0]}/" in capsys.readouterr().out
    server.make(page, ports[0]).server_close()
