"""One ComfyUI server for all tests here; without a checkout each skips with one line."""

import os
from pathlib import Path

import pytest

from editkit.tests.comfyui import checkout as checkouts
from editkit.tests.comfyui.server import Server

FOLDER_NAME = "my.pack"  # neither an identifier nor the pack's own name


@pytest.fixture(scope="session")
def checkout(root):
    try:
        return checkouts.find(os.environ, root, Path.home())
    except checkouts.NoComfyUI as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def server(checkout, root, tmp_path_factory):
    """A ready server with the pack in custom_nodes/my.pack, and folders of its own."""
    server = Server(checkout, root, tmp_path_factory.mktemp("comfyui") / "base dir", FOLDER_NAME)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.stop()
