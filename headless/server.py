"""`serve`: a bundle's page on this machine's own address, with the headers that a browser wants."""

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from .errors import EditError

TYPES = {
    ".wasm": "application/wasm", ".js": "text/javascript", ".mjs": "text/javascript", ".json": "application/json",
    ".tflite": "application/octet-stream", ".f32": "application/octet-stream", ".css": "text/css",
    ".html": "text/html; charset=utf-8", ".png": "image/png", ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}  # fmt: skip
# the first two let WebAssembly use threads; the page sends nothing anywhere, and the browser holds it to that
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class _Handler(SimpleHTTPRequestHandler):
    """Files of one folder, read only; no listings, nothing hidden."""

    protocol_version = "HTTP/1.1"

    def guess_type(self, path):
        return TYPES.get(Path(path).suffix.lower(), "application/octet-stream")

    def end_headers(self):
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def send_head(self):
        parts = unquote(urlsplit(self.path).path).split("/")
        if any(part.startswith(".") for part in parts if part):
            self.send_error(404)
            return None
        return super().send_head()

    def list_directory(self, path):
        self.send_error(404)

    def log_message(self, format, *args):  # noqa: A002, the name is the library's
        pass


def make(folder: Path, port: int) -> ThreadingHTTPServer:
    """A server of a bundle on 127.0.0.1; port 0 takes a free one. EditError without a page or a free port."""
    folder = Path(folder)
    if not folder.is_dir():
        raise EditError(f"There is no bundle folder {folder}; make one with `python . export --web`.")
    if not (folder / "index.html").is_file():
        raise EditError(f"{folder} has no page; export it again with --web.")
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), partial(_Handler, directory=str(folder)))
    except OSError as problem:
        raise EditError(
            f"Port {port} cannot be used ({problem.strerror}); choose another with --port."
        ) from None
    except OverflowError:
        raise EditError(f"There is no port {port}; choose one from 1 to 65535.") from None


def serve(folder: Path, port: int) -> int:
    """Serves until Ctrl-C. Returns 0."""
    server = make(folder, port)
    print(f"http://127.0.0.1:{server.server_address[1]}/  (this machine only; Ctrl-C stops)", flush=True)
    try:
        server.serve_forever()
    finally:
        server.server_close()
    return 0
