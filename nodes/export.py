"""From the canvas to a phone: make a mobile bundle, and run one in place of the torch model."""

from pathlib import Path

from ..models.blazeedit import checkpoint
from ..models.errors import EditError
from .blazeedit import MODEL
from .host import bundles
from .host.progress import reporter

THREADS_TIP = "CPU threads; 0: as many as torch uses."
QUANTISATIONS = ["int8", "fp16", "fp32", "int8-weights", "int8-static"]


class ExportMobileBundle:
    DESCRIPTION = (
        "Turns a BlazeEdit model into LiteRT files that run on a phone or in a browser, and checks them."
    )
    CATEGORY = "EditKit/export"
    SEARCH_ALIASES = ["tflite", "litert", "android", "ios", "mobile", "quantize", "deploy"]
    RETURN_TYPES, RETURN_NAMES = ("STRING", "STRING"), ("folder", "report")
    OUTPUT_TOOLTIPS = (
        "Where the bundle lies; Run Mobile Bundle takes it.",
        "Sizes and accuracy of every file, as a table.",
    )
    FUNCTION = "run"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": (MODEL, {"tooltip": "From Load BlazeEdit, with the engine torch."}),
                "name": ("STRING", {"default": "blazeedit-small-int8",
                                    "tooltip": "Its folder below models/editkit/mobile, and the .zip beside it."}),
                "quantisation": (QUANTISATIONS, {"tooltip": "int8 is smallest and fastest on a CPU, fp32 is exact."}),
                "canvas": ("INT", {"default": 256, "min": 64, "max": 1024, "step": 32,
                                   "tooltip": "Side in pixels of the pictures that the networks take. 512 for the "
                                   "paper's model."}),
                "overwrite": ("BOOLEAN", {"default": False, "tooltip": "Replaces an older bundle of that name."}),
            }
        }  # fmt: skip

    def run(self, *, model, name, quantisation, canvas, overwrite):
        from ..models.mobile import exporting, report

        if model.source is None:
            raise EditError("A bundle cannot be exported again; wire a Load BlazeEdit whose engine is torch.")
        tell = reporter()
        made = exporting.export(
            model.ready(),
            exporting.Request(
                bundles.home() / plain(name), quantisation, [canvas], overwrite,
                weights_sha256=checkpoint.digest(model.source), calibration=Path("samples"),
                licence=exporting.licence(model.source),
            ),
            lambda stage, done, total: tell(done, total),
        )  # fmt: skip
        table = "\n".join(report.lines(made))
        return {"ui": {"text": [table]}, "result": (str(made["folder"]), table)}


def plain(name: str) -> str:
    """A name that is a folder's. EditError for an empty one and for one that leads elsewhere."""
    name = name.strip()
    if not name or name.startswith(".") or not name.isprintable() or any(c in '/\\:*?"<>|' for c in name):
        raise EditError(
            f"{name!r} is no name for a bundle; use letters, digits, dots and dashes, no slashes."
        )
    return name


class RunMobileBundle:
    DESCRIPTION = "Runs a mobile bundle in the place of a BlazeEdit model: its edits are what the phone will show."
    CATEGORY = "EditKit/export"
    SEARCH_ALIASES = ["tflite", "litert", "load bundle", "mobile", "int8"]
    RETURN_TYPES, RETURN_NAMES = (MODEL,), ("model",)
    OUTPUT_TOOLTIPS = ("Wire it wherever a BlazeEdit model goes.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        tip = "A bundle below models/editkit, made by Export Mobile Bundle or `python . export`."
        return {
            "required": {
                "bundle": ([*bundles.found()] or [NONE], {"tooltip": tip}),
                "threads": ("INT", {"default": 0, "min": 0, "max": 64, "tooltip": THREADS_TIP}),
            },
            "optional": {
                "folder": ("STRING", {"default": "", "forceInput": True,
                                      "tooltip": "From Export Mobile Bundle; replaces the choice above."}),
            },
        }  # fmt: skip

    @classmethod
    def VALIDATE_INPUTS(cls, bundle):
        return True  # a bundle that an Export node of this graph is going to make does not exist yet

    @classmethod
    def IS_CHANGED(cls, bundle, threads, folder=""):
        path = bundles.found().get(bundle)
        return "" if path is None else (path / bundles.manifest.NAME).stat().st_mtime_ns

    def run(self, *, bundle, threads, folder=""):
        return (bundles.load(bundles.folder(folder or bundle), threads),)


NONE = "none yet"
NODE_CLASS_MAPPINGS = {
    "EditKitExportMobileBundle": ExportMobileBundle,
    "EditKitRunMobileBundle": RunMobileBundle,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "EditKitExportMobileBundle": "Export Mobile Bundle",
    "EditKitRunMobileBundle": "Run Mobile Bundle",
}
