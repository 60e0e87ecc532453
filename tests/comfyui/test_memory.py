"""Models go through ComfyUI's memory management: it holds them after a run and lets go of them on /free."""

import time

import pytest

from editkit.tests.comfyui.server import FOLDER_NAME
from editkit.tests.comfyui.test_workflows import TWINS, on_server, read

OURS = f"custom_nodes/{FOLDER_NAME.replace('.', '_x_')}.models"  # how ComfyUI names the pack's modules


def ours(server) -> list[str]:
    """The pack's models that ComfyUI's memory management holds."""
    return [name for name, _ in server.loaded_models() if OURS in name.replace("\\", "/")]


@pytest.mark.skipif(not TWINS, reason="no workflow is shipped yet")
def test_a_model_is_held_after_a_run_and_leaves_on_free(server):
    twin = next((t for t in TWINS if t.stem == "blazeedit_graph"), TWINS[0])
    on_server(server, read(twin))
    assert ours(server)
    assert all(size > 0 for name, size in server.loaded_models() if name in ours(server))
    status, _ = server.post("/free", {"unload_models": True, "free_memory": True})
    assert status == 200
    end = time.monotonic() + 30
    while ours(server) and time.monotonic() < end:  # the server's worker does it between prompts
        time.sleep(0.2)
    assert not ours(server)
    on_server(server, read(twin))
    assert ours(server)  # and comes back
