"""ICEdit's nodes in ComfyUI's own Python: every check writes what it found; tests/comfyui/test_icedit.py judges it.

python icedit.py COMFYUI PACK FOLDER FIXTURES [gpu|gpu-only]: FOLDER holds loras/ and cases.safetensors, and gets
results.json. With a place, a pretended GPU refuses to mix devices.
"""

import json
import time
import traceback

from icedit_flux import CHECKS, FOLDER, PLACE

if PLACE == "cpu":
    import icedit_free  # noqa: F401 - each registers its checks
    import icedit_graph  # noqa: F401
    import icedit_routed  # noqa: F401
else:
    import icedit_placed  # noqa: F401


def main():
    results = {"seconds": {}}
    for name, run in CHECKS.items():
        began = time.monotonic()
        try:
            results[name] = run()
        except Exception:
            results[name] = {"crashed": traceback.format_exc()[-3000:]}
        results["seconds"][name] = round(time.monotonic() - began, 1)
    name = "results.json" if PLACE == "cpu" else f"results_{PLACE}.json"
    (FOLDER / name).write_text(json.dumps(results, indent=1), encoding="utf-8")


main()
