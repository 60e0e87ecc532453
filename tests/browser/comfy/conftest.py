"""A real ComfyUI in a real browser: its classic canvas of 1.27.10 and of 1.58.1, and 1.58.1's Nodes 2.0.

Needs a ComfyUI checkout (see tests/comfyui/checkout.py), Node, Chromium and playwright-core; 1.58.1 is the folder
<checkout>/web_custom_versions/**/1.58.1 where ComfyUI's own --front-end-version unpacks it. Each test that asks for
`page` runs once per front end, those marked `newest` on that one alone under `make test`, and skips, with the reason,
where a piece is missing. Screenshots are kept in out/browser/.
"""

import contextlib
import json
import queue
import subprocess
import threading
from pathlib import Path

import pytest

from editkit.tests.browser.comfy.front_ends import FRONT_ENDS, FrontEnd
from editkit.tests.comfyui.server import FOLDER_NAME, Server
from editkit.tests.house import pack

DRIVER, CANVAS = (Path(__file__).with_name(name) for name in ("drive.mjs", "canvas.mjs"))
ANY_NODE = "EditKitRemoveObject"  # a page is ready when its graph knows it

# No tours, nothing over the canvas.
SETTINGS = {
    "Comfy.TutorialCompleted": True, "Comfy.InstalledVersion": "1.58.1",
    "Comfy.Minimap.Visible": False, "Comfy.Workflow.ShowMissingModelsWarning": False,
}  # fmt: skip


class BrowserFailed(AssertionError):
    """A step in the browser threw; holds what it threw."""


class Browser:
    """One Chromium behind drive.mjs: ask() sends it one line and returns the result of one line."""

    def __init__(self, tools: dict, folder: Path, artefacts: Path):
        self.artefacts = artefacts
        artefacts.mkdir(parents=True, exist_ok=True)
        job = {"modules": tools["packages"], "chromium": tools["chromium"], "artefacts": artefacts}
        (folder / "job.json").write_text(json.dumps({k: str(v) for k, v in job.items()}))
        self._log = (folder / "driver.log").open("w+", encoding="utf-8")
        self._process = subprocess.Popen(
            [tools["node"], str(DRIVER), str(folder / "job.json")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True, encoding="utf-8",
        )  # fmt: skip
        self._lines = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def ask(self, seconds: float = 180, **line):
        """Sends a line (see drive.mjs) and returns its result; BrowserFailed with what it threw."""
        try:
            self._process.stdin.write(json.dumps(line, default=str) + "\n")
            self._process.stdin.flush()
        except OSError as problem:
            raise BrowserFailed("the browser is gone; an earlier step failed") from problem
        try:
            reply = self._lines.get(timeout=seconds)
        except queue.Empty:
            self._process.kill()  # a late answer would be taken for the next one's
            raise BrowserFailed(f"no answer in {seconds:.0f} s to {line}") from None
        if reply is None:
            self._log.seek(0)
            raise BrowserFailed(f"the driver ended:\n{self._log.read()[-3000:]}")
        reply = json.loads(reply)
        if "error" in reply:
            raise BrowserFailed(reply["error"])
        return reply["result"]

    def close(self) -> None:
        """Ends Chromium and the driver that this object started."""
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


class Page:
    """ComfyUI open in one front end; `server` is behind it."""

    def __init__(self, browser: Browser, server: Server, front_end: FrontEnd):
        self.browser, self.server, self.front_end, self.name = browser, server, front_end, front_end.name
        self.failed = False

    def open(self) -> None:
        """Opens ComfyUI, with an empty graph."""
        settings = SETTINGS | {"Comfy.VueNodes.Enabled": self.front_end.vue}
        status, reply = self.server.post("/api/settings", settings)
        assert status == 200, reply
        self.browser.ask(open=self.name, url=self.server.url, nodeType=ANY_NODE)

    def clear(self) -> None:
        """Closes what an earlier file's tests left open, takes their nodes away, and forgets their errors.

        After one that failed the page is opened afresh.
        """
        if self.failed:
            self.close()
            self.open()
        self.failed = False
        self.run(CANVAS, "clear")
        self.problems()

    def run(self, scenario: Path, step: str, **arguments):
        """Awaits a scenario module's exported step(page, arguments, kit) and returns its JSON.

        When it throws, a screenshot of the moment is kept.
        """
        try:
            return self.browser.ask(page=self.name, scenario=str(scenario), step=step, arguments=arguments)
        except BrowserFailed:
            self.failed = True
            self.screenshot(f"failed-{step}")
            raise

    def screenshot(self, what: str) -> Path:
        """Keeps a picture of the page as out/browser/<front end>-<what>.png."""
        return Path(self.browser.ask(page=self.name, screenshot=f"{self.front_end.name}-{what}.png"))

    def problems(self) -> list[str]:
        """The errors in the page's console since the last call, and uncaught exceptions."""
        return self.browser.ask(page=self.name, problems=True)

    def close(self) -> None:
        self.browser.ask(close=self.name)


@pytest.fixture(scope="session")
def browser(browser_tools, root, tmp_path_factory):
    """One Chromium for the session."""
    browser = Browser(browser_tools, tmp_path_factory.mktemp("browser"), root / "out" / "browser")
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def comfy_servers(checkout, root, tmp_path_factory):
    """comfy_servers(version): the one server of the session that serves this front end."""
    running = {}

    def start(version: str) -> Server:
        if version not in running:
            base = tmp_path_factory.mktemp("comfyui") / "base dir"
            arguments = _front_end_arguments(checkout, version)
            running[version] = Server(checkout, root, base, FOLDER_NAME, _named_weights, arguments)
            running[version].wait_until_ready()
        return running[version]

    yield start
    for server in running.values():
        server.stop()


def _named_weights(base: Path) -> None:
    """Files of the names that the templates load: without them the front end asks the network how large they are."""
    for path in pack.workflows():
        for node in json.loads(path.read_text(encoding="utf-8"))["nodes"]:
            for model in node.get("properties", {}).get("models", []):
                (base / "models" / model["directory"]).mkdir(exist_ok=True)
                (base / "models" / model["directory"] / model["name"]).touch()


def _front_end_arguments(checkout, version: str) -> list[str]:
    """What to start ComfyUI with for a version of its front end; skips when it is nowhere."""
    environment = checkout.python.parent.parent
    if list(environment.glob(f"[Ll]ib/**/site-packages/comfyui_frontend_package-{version}.dist-info")):
        return []
    for folder in (checkout.folder / "web_custom_versions").glob(f"**/{version}"):
        if (folder / "index.html").is_file():
            return ["--front-end-root", str(folder)]
    pytest.skip(f"front end {version} is neither installed for ComfyUI nor in its web_custom_versions")


@pytest.fixture(scope="session", params=FRONT_ENDS, ids=lambda f: f.name)
def front_end(request) -> FrontEnd:
    """Each front end in turn."""
    return request.param


@pytest.fixture(scope="session")
def opened_page(browser, comfy_servers, front_end):
    """ComfyUI in a front end, open for all files."""
    page = Page(browser, comfy_servers(front_end.version), front_end)
    page.open()
    yield page
    page.close()


@pytest.fixture(scope="module")
def page(opened_page):
    """ComfyUI in a front end with an empty canvas, for all tests of a file."""
    opened_page.clear()
    return opened_page
