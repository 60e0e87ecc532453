"""SwiftEdit's nodes in ComfyUI's own Python: every check writes numbers, which tests/comfyui/test_swiftedit.py judges.

python swiftedit.py COMFYUI PACK FOLDER [gpu|gpu-only]: FOLDER holds a tiny release and recorded references
(cases.safetensors), and gets results.json. With a place, the nodes run on a pretended GPU that refuses to mix devices.
"""

import json
import time
import traceback

from kit import CHECKS, FOLDER, PLACE

if PLACE == "cpu":
    import exact  # noqa: F401 - each registers its checks
    import official  # noqa: F401
    import usage  # noqa: F401
else:
    import placed  # noqa: F401


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
