"""SwiftEdit's nodes in ComfyUI's own Python: every check writes numbers, which tests/comfyui/test_swiftedit.py judges.

python swiftedit.py COMFYUI PACK FOLDER: FOLDER holds a tiny release and recorded references (cases.safetensors), and
gets results.json.
"""

import json
import time
import traceback

import exact  # noqa: F401 - each registers its checks
import official  # noqa: F401
import usage  # noqa: F401
from kit import CHECKS, FOLDER


def main():
    results = {"seconds": {}}
    for name, run in CHECKS.items():
        began = time.monotonic()
        try:
            results[name] = run()
        except Exception:
            results[name] = {"crashed": traceback.format_exc()[-3000:]}
        results["seconds"][name] = round(time.monotonic() - began, 1)
    (FOLDER / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")


main()
