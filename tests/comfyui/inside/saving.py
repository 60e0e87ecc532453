"""Save Edited Image in ComfyUI's own executor: a chain of edits, signed, and a batch. Runs in a child process.

Arguments: ComfyUI, the pack, a folder with input/ and workflows.json, a folder that holds the c2pa library.
"""

import asyncio
import json
import sys
from pathlib import Path

from start import start

COMFYUI, PACK, FOLDER, LIBRARY = (Path(a) for a in sys.argv[1:5])
pack = start(COMFYUI, PACK, FOLDER)
sys.path.append(str(LIBRARY))

import execution  # noqa: E402 - ComfyUI's modules exist from here on
import folder_paths  # noqa: E402

import nodes  # noqa: E402

folder_paths.set_input_directory(str(FOLDER / "input"))
folder_paths.set_output_directory(str(FOLDER / "output"))
nodes.NODE_CLASS_MAPPINGS.update(pack.NODE_CLASS_MAPPINGS)


class Client:
    """What the executor wants of a server."""

    client_id = last_node_id = None

    def send_sync(self, event, data, sid=None):
        pass


def run(executor, prompt: dict, extra: dict) -> dict:
    """What ComfyUI answers to a prompt: what is refused before it runs, or what was shown and what failed."""
    valid, error, outputs, node_errors = asyncio.run(execution.validate_prompt("x", prompt, None))
    if not valid:
        return {"error": error, "node_errors": node_errors}
    executor.execute(prompt, "x", extra, outputs)
    failed = [d["exception_message"] for event, d in executor.status_messages if event == "execution_error"]
    return {"success": executor.success, "outputs": executor.history_result["outputs"], "failed": failed}


def main():
    executor = execution.PromptExecutor(Client())
    given = json.loads((FOLDER / "workflows.json").read_text(encoding="utf-8"))
    results = [run(executor, one["prompt"], {"extra_pnginfo": one["extra"]}) for one in given]
    (FOLDER / "results.json").write_text(json.dumps(results, default=str), encoding="utf-8")


main()
