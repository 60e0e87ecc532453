"""An HTTP server on loopback that stands for a judge: it answers as it is told, late, wrong, garbled or not at all."""

import base64
import io
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import torch
from PIL import Image


def says(text) -> bytes:
    """A chat completion."""
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()


class Loopback:
    """`script(request)` gives a reply: words, (status, body, headers), or raises Silent. `requests` is what came."""

    def __init__(self, script):
        self.requests, self.script = [], script
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                outer.handle(self)

            do_GET = do_POST

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    def handle(self, handler):
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        told = Request(handler.command, handler.path, dict(handler.headers), body, len(self.requests))
        self.requests.append(told)
        try:
            reply = self.script(told)
        except Silent:
            handler.close_connection = True
            return
        status, body, headers = reply if isinstance(reply, tuple) else (200, says(reply), {})
        try:
            handler.send_response(status)
            for name, value in headers.items():
                handler.send_header(name, value)
            handler.end_headers()
            for part in [body] if isinstance(body, bytes) else body:
                handler.wfile.write(part)
                handler.wfile.flush()
        except OSError:  # the client has hung up
            pass


class Silent(Exception):
    """Closes the connection without a reply."""


class Request:
    """What a client sent. number: of the request, from 0."""

    def __init__(self, method, path, headers, body, number):
        self.method, self.path, self.headers, self.body, self.number = method, path, headers, body, number

    @property
    def json(self) -> dict:
        return json.loads(self.body)

    @property
    def question(self) -> str:
        return next(p["text"] for p in self.json["messages"][0]["content"] if p["type"] == "text")

    @property
    def files(self) -> list[bytes]:
        """The pictures as files, in their order."""
        parts = [p for p in self.json["messages"][0]["content"] if p["type"] == "image_url"]
        return [base64.b64decode(p["image_url"]["url"].partition(",")[2]) for p in parts]

    @property
    def pictures(self) -> list[Image.Image]:
        return [Image.open(io.BytesIO(file)) for file in self.files]


@contextmanager
def serving(script):
    """A Loopback for as long as the block lasts."""
    made = Loopback(script)
    thread = threading.Thread(target=made.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.server.shutdown()
        made.server.server_close()
        thread.join()


def brighter(request) -> str:
    """A judge that sees: prefers the brighter of two edits."""
    first, second = (np.asarray(p.convert("L")).mean() for p in request.pictures[:2])
    return f"{1 + (second > first)}. It is brighter."


def dripping(seconds: float):
    """A body that comes in small pieces for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield b" "
        time.sleep(0.05)


def grey(value: float, height: int = 8, width: int = 8):
    """A picture [3, h, w] of one grey."""
    return torch.full((3, height, width), float(value))
