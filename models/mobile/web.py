"""Adds the browser page to a bundle: plain ES modules, and LiteRT.js from the folder where npm put it."""

import shutil
from pathlib import Path

from ..errors import EditError

PAGE = Path(__file__).resolve().parent / "page"
LITERTJS = "2.5.3"
# place below litert/ -> place below node_modules/@litertjs. A browser loads one of the three pairs: the plain one, the
# one for browsers without relaxed SIMD (Safari), or with a GPU the one whose networks may run partly on it.
FILES = {
    "index.js": "core/dist/index.js",
    "wasm-utils.js": "wasm-utils/dist/bundle.js",
    "wasm/litert_wasm_internal.js": "core/wasm/litert_wasm_internal.js",
    "wasm/litert_wasm_internal.wasm": "core/wasm/litert_wasm_internal.wasm",
    "wasm/litert_wasm_compat_internal.js": "core/wasm/litert_wasm_compat_internal.js",
    "wasm/litert_wasm_compat_internal.wasm": "core/wasm/litert_wasm_compat_internal.wasm",
    "wasm/litert_wasm_jspi_internal.js": "core/wasm/litert_wasm_jspi_internal.js",
    "wasm/litert_wasm_jspi_internal.wasm": "core/wasm/litert_wasm_jspi_internal.wasm",
}


def check_page(quantisation: str) -> None:
    """EditError for a bundle that no browser runs well."""
    if quantisation == "fp16":
        raise EditError(
            "A browser runs fp16 files several times slower than fp32; export fp32 or int8 for the web."
        )


def find_litertjs(folder: Path) -> Path:
    """The @litertjs folder at or below `folder` (a node_modules, or what holds one). EditError without one."""
    for place in (folder, folder / "@litertjs", folder / "node_modules" / "@litertjs"):
        if (place / FILES["index.js"]).is_file():
            missing = next((f for f in FILES.values() if not (place / f).is_file()), None)
            if missing:
                raise EditError(f"{place / missing} is missing; install @litertjs/core {LITERTJS} again.")
            return place
    raise EditError(
        f"LiteRT.js is not in {folder}; run `npm install @litertjs/core@{LITERTJS}` in the pack's folder, or say "
        "--litertjs with the folder that has it in its node_modules, or with the address of an npm registry."
    )


def add_page(bundle: Path, litertjs: Path) -> None:
    """Copies the page into a bundle and LiteRT.js below litert/. litertjs: a folder that `find_litertjs` returned."""
    shutil.copytree(PAGE, bundle, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for target, source in FILES.items():
        path = bundle / "litert" / target
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(litertjs / source, path)
