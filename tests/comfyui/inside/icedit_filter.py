"""ICEdit's early filter in ComfyUI's own Python: every check writes what it found.

python icedit_filter.py COMFYUI PACK FOLDER FIXTURES [gpu|gpu-only]: FOLDER holds cases.safetensors and gets
results.json; tests/comfyui/test_icedit_filter.py judges it. With a place, a pretended GPU refuses to mix devices.
"""

import json
import time
import traceback

from icedit_flux import FOLDER, PLACE  # first, as it starts ComfyUI's Python

import icedit_early  # isort: skip
import icedit_judged  # noqa: F401 - registers its checks  # isort: skip

PLACED = ("who_wins", "restart", "models_as_judges")  # others need what the pretended GPU lacks, or only time


def main():
    results = {"seconds": {}}
    for name, run in icedit_early.CHECKS.items():
        if PLACE != "cpu" and name not in PLACED:
            continue
        began = time.monotonic()
        try:
            results[name] = run()
        except Exception:
            results[name] = {"crashed": traceback.format_exc()[-3000:]}
        results["seconds"][name] = round(time.monotonic() - began, 1)
    name = "results.json" if PLACE == "cpu" else f"results_{PLACE}.json"
    (FOLDER / name).write_text(json.dumps(results, indent=1), encoding="utf-8")


main()
