"""A server that speaks what `queue` needs of ComfyUI's routes, and fails as a real one may: at any instant.

Its queue and history live in memory and go when it restarts; its input and output folders stay. A prompt's result is
`RESULT` and the bytes of the picture that it loads, so that a test can tell whose result a file holds.
"""

import base64
import contextlib
import email.parser
import email.policy
import hashlib
import json
import shutil
import socket
import struct
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

RESULT = b"result of "
PICTURE = [["there.png"], {"image_upload": True}]
TEXT = ["STRING", {"default": "ComfyUI"}]
INFO = {
    "LoadImage": {"input": {"required": {"image": PICTURE}}, "output": ["IMAGE", "MASK"], "output_node": False},
    "LoadImageMask": {"input": {"required": {"image": PICTURE, "channel": [["red", "alpha"]]}}, "output": ["MASK"]},
    "Painted": {
        "input": {
            "required": {"image": ["IMAGE", {}], "steps": ["INT", {"min": 1}]},
            "optional": {"mask": ["MASK", {}], "mask_paint": ["STRING", {"widgetType": "EDITKIT_MASK"}]},
        },
        "output": ["IMAGE"], "output_node": False,
    },
    "SaveImage": {"input": {"required": {"images": ["IMAGE", {}], "filename_prefix": TEXT}}, "output": [],
                  "output_node": True},
    "Compare": {"input": {"required": {"images": ["IMAGE", {}]}}, "output": [], "output_node": True},
}  # fmt: skip
UUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Fake:
    """A running server below `folder`; `url`. fault(method, path) says before each answer what goes wrong with it:
    None, a status, "drop" (nothing is done), "after" (it is done, and not answered), "half" (half an answer), "silent"
    (an answer that never ends)."""

    def __init__(self, folder: Path, seconds: float = 0.01, port: int = 0):
        self.folder, self.seconds, self.port = folder, seconds, port
        self.fault = lambda method, path: None
        self.requests: list[tuple[str, str]] = []
        self.bodies: list[dict] = []
        self.headers: list[dict] = []
        self.steps = 0  # told per prompt, over the WebSocket
        self.prefix = ""
        for name in ("input", "output"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.prefix}"

    def start(self) -> None:
        self.lock, self.history, self.pending, self.running = threading.RLock(), {}, [], None
        self.number = 0
        self.stopped, self.interrupted, self.sockets = threading.Event(), set(), []
        self.server = _Server(("127.0.0.1", self.port), _Handler)
        self.server.fake, self.port = self, self.server.server_address[1]
        life = (self.stopped, self.history, self.pending)
        self.threads = [
            threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True),
            threading.Thread(target=self.work, args=life, daemon=True),
        ]
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        """As a crash: connections break, memory is lost, previews go."""
        self.stopped.set()
        self.server.shutdown()
        self.server.server_close()
        for one in [*self.server.open, *self.sockets]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self.threads[1].join()
        shutil.rmtree(self.folder / "temp", ignore_errors=True)

    def executed(self) -> list[str]:
        """The ids of all prompts that began to run, in any life."""
        file = self.folder / "executed.txt"
        return file.read_text().split() if file.exists() else []

    def work(self, stopped, history, pending) -> None:
        while not stopped.is_set():
            with self.lock:
                self.running = pending.pop(0) if pending else None
            if self.running is None:
                time.sleep(0.002)
                continue
            prompt_id, prompt, client = self.running
            with (self.folder / "executed.txt").open("a") as file:
                file.write(f"{prompt_id}\n")
            entry = self.execute(prompt_id, prompt, client, stopped)
            if stopped.is_set():
                return
            with self.lock:
                history[prompt_id], self.running = entry, None
            self.tell(client, "executing", {"node": None, "prompt_id": prompt_id})

    def execute(self, prompt_id: str, prompt: dict, client: str, stopped) -> dict:
        for step in range(max(self.steps, 1)):
            end = time.monotonic() + self.seconds / max(self.steps, 1)
            while time.monotonic() < end:
                if stopped.is_set() or prompt_id in self.interrupted:
                    return ended("error", [["execution_interrupted", {"prompt_id": prompt_id}]])
                time.sleep(0.001)
            self.tell(client, "progress", {"value": step + 1, "max": self.steps, "prompt_id": prompt_id, "node": "1"})
        outputs = {}
        for node_id, node in prompt.items():
            prefix = str(node["inputs"].get("filename_prefix", "x")).rsplit("/")[-1]
            if prefix == "fail":
                said = {"node_id": node_id, "node_type": "SaveImage", "exception_message": "It is broken.\n",
                        "exception_type": "pack.models.errors.EditError"}  # fmt: skip
                return ended("error", [["execution_error", said]])
            if INFO[node["class_type"]].get("output_node"):
                outputs[node_id] = self.save(node["class_type"], prefix, prompt, stopped)
        return ended("success", [], outputs)

    def save(self, kind: str, prefix: str, prompt: dict, stopped) -> dict:
        """Not atomic, as core's."""
        loaded = [n["inputs"]["image"] for n in prompt.values() if n["class_type"] == "LoadImage"]
        content = RESULT + b"".join((self.folder / "input" / name).read_bytes() for name in loaded)
        place, keys = ("output", ["images"]) if kind == "SaveImage" else ("temp", ["a_images", "b_images"])
        shown = {}
        for key in keys:
            folder = self.folder / place / "sub"
            folder.mkdir(parents=True, exist_ok=True)
            name = f"{prefix}_{len(list(folder.iterdir())) + 1:05}_.png"
            with (folder / name).open("wb") as file:
                file.write(content[: len(content) // 2])
                if stopped.is_set():
                    return {}
                file.write(content[len(content) // 2 :])
            shown[key] = [{"filename": name, "subfolder": "sub", "type": place}]
        return shown

    def tell(self, client: str, kind: str, data: dict) -> None:
        """A message over the WebSocket of a client, in two fragments with a ping between them."""
        text = json.dumps({"type": kind, "data": data}).encode()
        for one in list(self.sockets):
            with contextlib.suppress(OSError):
                one.sendall(frame(0x01, text[:7]) + frame(0x89, b"hello") + frame(0x80, text[7:] + b" " * 130))


def ended(status: str, messages: list, outputs: dict | None = None) -> dict:
    said = {"status_str": status, "completed": status == "success", "messages": messages}
    return {"prompt": [], "outputs": outputs or {}, "status": said, "meta": {}}


def frame(first: int, content: bytes) -> bytes:
    size = struct.pack("B", len(content)) if len(content) < 126 else struct.pack(">BH", 126, len(content))
    return bytes([first]) + size + content


class _Server(ThreadingHTTPServer):
    allow_reuse_address, daemon_threads, block_on_close = True, True, False
    request_queue_size = 64

    def __init__(self, *arguments):
        self.open: set[socket.socket] = set()
        super().__init__(*arguments)

    def process_request(self, request, client_address):
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        self.open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request, client_address):
        pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.serve("GET", None)

    def do_POST(self):
        self.serve("POST", self.rfile.read(int(self.headers["Content-Length"])))

    def serve(self, method: str, body: bytes | None) -> None:
        fake, self.close_connection = self.server.fake, True
        path = self.path.removeprefix(fake.prefix)
        fake.requests.append((method, path))
        fake.headers.append(dict(self.headers))
        wrong = fake.fault(method, path)
        if wrong == "drop":
            return
        if isinstance(wrong, int):
            return self.answer(wrong, b"<html>no</html>", None)
        if path.startswith("/ws"):
            return self.listen()
        status, content = self.route(method, urllib.parse.urlsplit(path), body)
        if wrong != "after":
            self.answer(status, content, wrong)

    def answer(self, status: int, content, wrong) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if wrong in ("half", "silent") else data)
        self.wfile.flush()
        if wrong == "silent":
            self.server.fake.stopped.wait(20)

    def route(self, method: str, path, body) -> tuple[int, object]:
        fake = self.server.fake
        query = dict(urllib.parse.parse_qsl(path.query))
        with fake.lock:
            if path.path == "/object_info":
                return 200, INFO
            if path.path.startswith("/history/"):
                wanted = path.path.rsplit("/", 1)[1]
                return 200, {wanted: fake.history[wanted]} if wanted in fake.history else {}
            if path.path == "/queue" and method == "GET":
                running = [[0, fake.running[0], {}, {}, []]] if fake.running else []
                return 200, {"queue_running": running, "queue_pending": [[1, p[0], {}, {}, []] for p in fake.pending]}
            if path.path == "/queue":
                gone = json.loads(body)["delete"]
                fake.pending[:] = [p for p in fake.pending if p[0] not in gone]
                return 200, b""
            if path.path == "/interrupt":
                fake.interrupted.add(json.loads(body)["prompt_id"])
                return 200, b""
            if path.path == "/view":
                file = fake.folder / query["type"] / query["subfolder"] / Path(query["filename"]).name
                return (200, file.read_bytes()) if file.is_file() else (404, b"")
            if path.path == "/upload/image":
                return self.upload(body)
            if path.path == "/prompt":
                return self.prompt(json.loads(body))
        return 404, b""

    def prompt(self, body: dict) -> tuple[int, object]:
        fake, errors = self.server.fake, {}
        fake.bodies.append(body)
        for node_id, node in body["prompt"].items():
            name = node["inputs"].get("image")
            if isinstance(name, str) and not (fake.folder / "input" / name).is_file():
                said = {"type": "custom_validation_failed", "message": "Custom validation failed for node",
                        "details": f"image - Invalid image file: {name}", "extra_info": {}}  # fmt: skip
                errors[node_id] = {"errors": [said], "dependent_outputs": [], "class_type": node["class_type"]}
            if node["inputs"].get("steps") == 0:
                said = {"type": "value_smaller_than_min", "message": "Value 0 smaller than min of 1",
                        "details": "steps", "extra_info": {}}  # fmt: skip
                errors[node_id] = {"errors": [said], "dependent_outputs": [], "class_type": node["class_type"]}
        if errors:
            error = {"type": "prompt_outputs_failed_validation", "message": "Prompt outputs failed validation",
                     "details": "", "extra_info": {}}  # fmt: skip
            return 400, {"error": error, "node_errors": errors}
        fake.pending.append((body["prompt_id"], body["prompt"], body["client_id"]))
        fake.number += 1
        return 200, {"prompt_id": body["prompt_id"], "number": fake.number, "node_errors": {}}

    def upload(self, body: bytes) -> tuple[int, object]:
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
        parts = {part.get_param("name", header="content-disposition"): part for part in message.iter_parts()}
        name, content = parts["image"].get_filename(), parts["image"].get_payload(decode=True)
        subfolder = parts["subfolder"].get_payload(decode=True).decode()
        folder = self.server.fake.folder / "input" / subfolder
        folder.mkdir(parents=True, exist_ok=True)
        stem, number = Path(name), 1
        while (folder / name).exists() and (folder / name).read_bytes() != content:
            name, number = f"{stem.stem} ({number}){stem.suffix}", number + 1
        (folder / name).write_bytes(content)
        return 200, {"name": name, "subfolder": subfolder, "type": "input"}

    def listen(self) -> None:
        key = self.headers["Sec-WebSocket-Key"] + UUID
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        self.connection.sendall(f"{head}Sec-WebSocket-Accept: {accept}\r\n\r\n".encode())
        self.server.fake.sockets.append(self.connection)
        self.connection.settimeout(None)
        with contextlib.suppress(OSError):
            while self.connection.recv(4096):  # pongs
                pass
