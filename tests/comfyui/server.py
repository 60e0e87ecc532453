"""A ComfyUI server as a child process with folders of its own, and the few requests that the tests make of it."""

import io
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from pathlib import Path

import numpy as np
from PIL import Image

FOLDER_NAME = "my.pack"  # of the pack: neither an identifier nor its own name
LEFT_OUT = (".git", ".venv", ".ci", "out", "tests", "benchmarks", "__pycache__", ".*_cache")
# A custom node that tells which models ComfyUI's memory management holds, as (module and class, bytes on the device),
# and the memory of the process, after what is free in it went back to the system.
PROBE = """
import contextlib
import ctypes
import gc
from pathlib import Path

from aiohttp import web
from comfy import model_management
from server import PromptServer

NODE_CLASS_MAPPINGS = {}


def describe(loaded):
    model = loaded.model.model
    return f"{type(model).__module__}.{type(model).__qualname__}", loaded.model_memory()


@PromptServer.instance.routes.get("/probe/models")
async def models(request):
    return web.json_response([describe(m) for m in model_management.current_loaded_models if m.model is not None])


@PromptServer.instance.routes.get("/probe/memory")
async def memory(request):
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return web.json_response(next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmRSS")), None))
"""


class ServerFailed(RuntimeError):
    """The server did not start or did not finish a prompt; holds the end of its log."""


class Server:
    """A ComfyUI with the pack in custom_nodes/<folder name>; `url`, `log()` and the requests below.

    Starts at once; `with` waits until it is ready, and ends it.
    """

    def __init__(self, checkout, pack: Path, base: Path, folder_name: str, add=None, arguments=()):
        """add(base) puts more into its folders before it starts; arguments: more of main.py's."""
        self.base, self.port, self._folder = base, free_port(), checkout.folder
        self.url = f"http://127.0.0.1:{self.port}"
        lay_out(base, pack, folder_name)
        if add is not None:
            add(base)
        self._command = [str(checkout.python), "main.py", "--cpu", "--port", str(self.port)]
        self._command += ["--disable-auto-launch", "--disable-api-nodes", "--base-directory", str(base)]
        self._command += ["--database-url", "sqlite:///:memory:", *arguments]
        self.start()

    def __enter__(self) -> "Server":
        try:
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def start(self) -> None:
        """Starts it, on its port and with its folders; again after kill()."""
        self._log_file = (self.base / "server.log").open("ab")
        self.process = subprocess.Popen(
            self._command, cwd=self._folder, stdout=self._log_file, stderr=subprocess.STDOUT, env=_environment()
        )

    def kill(self) -> None:
        """Ends it as a crash would."""
        self.process.kill()
        self.process.wait()
        self._log_file.close()

    def log(self) -> str:
        """All that the server has printed."""
        return (self.base / "server.log").read_text(encoding="utf-8", errors="replace")

    def wait_until_ready(self, seconds: float = 180) -> None:
        """Returns once the server answers; ServerFailed if it ends or takes too long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            try:
                self.get("/system_stats")
                return
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.3)
        raise ServerFailed(f"ComfyUI did not start; its log ends:\n{self.log()[-3000:]}")

    def stop(self) -> None:
        """Ends the process that this object started."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log_file.close()

    def get(self, path: str):
        """GET of a JSON reply."""
        with urllib.request.urlopen(self.url + path, timeout=60) as reply:
            return json.load(reply)

    def post(self, path: str, body: dict):
        """POST of JSON; returns (status, JSON reply or None). An HTTP error is a reply like any other."""
        data, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return reply.status, json.loads(reply.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")

    def upload(self, file: Path) -> str:
        """Puts an image into the server's input folder; returns the name to give to LoadImage."""
        boundary = uuid.uuid4().hex
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{file.name}"\r\n'
        body = head.encode() + b"Content-Type: application/octet-stream\r\n\r\n" + file.read_bytes()
        body += f"\r\n--{boundary}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        request = urllib.request.Request(self.url + "/upload/image", body, headers)
        with urllib.request.urlopen(request, timeout=60) as reply:
            stored = json.load(reply)
        return "/".join(part for part in (stored["subfolder"], stored["name"]) if part)

    def queue(self, prompt: dict):
        """POST /prompt; returns (status, reply)."""
        return self.post("/prompt", {"prompt": prompt, "client_id": uuid.uuid4().hex})

    def run(self, prompt: dict, seconds: float = 300) -> dict:
        """Queues a prompt and waits for its history entry, whether it succeeded or not."""
        status, reply = self.queue(prompt)
        if status != 200 or reply["node_errors"]:
            raise ServerFailed(f"/prompt answered {status}: {json.dumps(reply)[:3000]}")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            history = self.get(f"/history/{reply['prompt_id']}")
            if history:
                return history[reply["prompt_id"]]
            time.sleep(0.2)
        raise ServerFailed(f"The prompt took over {seconds:.0f} s; the log ends:\n{self.log()[-3000:]}")

    def picture(self, stored: dict) -> np.ndarray:
        """Downloads one image of a history entry: float32 [h, w, c], 0..1."""
        with urllib.request.urlopen(f"{self.url}/view?{urllib.parse.urlencode(stored)}", timeout=60) as reply:
            return pixels(io.BytesIO(reply.read()))

    def loaded_models(self) -> list:
        """What the probe saw: [module and class, bytes] of every model under ComfyUI's management."""
        return self.get("/probe/models")


def lay_out(base: Path, pack: Path, folder_name: str) -> None:
    """Makes ComfyUI's folders under `base`, with a copy of the pack as the archive would hold it, and the probe."""
    for name in ("models", "input", "output", "temp", "user"):
        (base / name).mkdir(parents=True)
    nodes = base / "custom_nodes"
    shutil.copytree(pack, nodes / folder_name, ignore=shutil.ignore_patterns(*LEFT_OUT))
    (nodes / "probe.py").write_text(PROBE, encoding="utf-8")


def _environment() -> dict:
    """The environment of a child: UTF-8 output on Windows too, nothing asked of the network."""
    return os.environ | {"PYTHONIOENCODING": "utf-8", "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def pixels(file) -> np.ndarray:
    """Reads an image file: float32 [h, w, c], 0..1, with its alpha channel if it has one."""
    with Image.open(file) as image:
        values = np.asarray(image if image.mode in ("RGB", "RGBA") else image.convert("RGB"))
    return values.astype(np.float32) / 255
