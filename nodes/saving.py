"""The end of an edit: a PNG or JPEG with its workflow inside and, if wanted, with content credentials."""

from ..models.errors import EditError
from ..models.provenance import keys
from .host import saving

PREFIX_TIP = "How the file names begin; may name a subfolder, and hold %width%, %height%, %year% to %second%."
FORMAT_TIP = (
    "png is exact, keeps transparency, and gives its workflow back on the canvas; jpeg is smaller (its workflow comes "
    "back with `python . run`), and a transparent picture becomes a PNG instead."
)
OFF_TIP = "off: a plain file. certificate: signs with yours (EDITKIT_C2PA_CERTIFICATE and …_KEY, or c2pa.json)."
CREDENTIALS_TIP = f"{OFF_TIP} self-signed: with one made here, for which nobody vouches. Needs requirements-c2pa.txt."
SOURCE_TIP = (
    "The picture that was edited, as loaded: the credentials name it, and keep those that its file carries."
)


class SaveEditedImage:
    DESCRIPTION = (
        "Saves pictures as PNG or JPEG with the workflow inside. With credentials, the file also says, signed, which "
        "picture it was made from, by which systems, and where it was changed (C2PA)."
    )
    CATEGORY = "EditKit/export"
    SEARCH_ALIASES = ["save image", "c2pa", "content credentials", "provenance", "sign", "jpeg", "metadata"]
    RETURN_TYPES, RETURN_NAMES, OUTPUT_TOOLTIPS = (), (), ()
    FUNCTION = "run"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "images": ("IMAGE", {"tooltip": "The edited pictures, one file each."}),
                "filename_prefix": ("STRING", {"default": "EditKit/edit", "tooltip": PREFIX_TIP}),
                "format": (["png", "jpeg"], {"tooltip": FORMAT_TIP}),
                "quality": ("INT", {"default": 95, "min": 1, "max": 100, "tooltip": "Of a JPEG."}),
                "credentials": (keys.CHOICES, {"tooltip": CREDENTIALS_TIP}),
            },
            "optional": {
                "source": ("IMAGE", {"tooltip": SOURCE_TIP}),
                "mask": ("MASK", {"tooltip": "The changed region, which the credentials show."}),
            },
            "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO", "node_id": "UNIQUE_ID"},
        }  # fmt: skip

    @classmethod
    def VALIDATE_INPUTS(cls, credentials="off"):
        """Whatever would keep the result from being signed is said before the edit, not after it."""
        if credentials is None:  # linked: it is not known yet
            return True
        if credentials not in keys.CHOICES:
            return f"credentials is {credentials!r}; choose one of {', '.join(keys.CHOICES)}"
        try:
            ready(credentials)
        except EditError as problem:
            return str(problem)
        return True

    @classmethod
    def IS_CHANGED(cls, credentials="off", **_):
        """Saves again with another certificate, and when the results are to go elsewhere."""
        signer = ready(credentials).mark() if credentials in keys.CHOICES[1:] else ""
        return f"{saving.current().stamp()} {signer}"

    def run(self, *, images, filename_prefix, format, quality, credentials, source=None, mask=None, prompt=None,
            extra_pnginfo=None, node_id=""):  # fmt: skip
        from . import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
        from .host.writing import Request, save

        wanted = Request(
            filename_prefix, f"image/{format}", quality, ready(credentials), source, mask, prompt or {},
            extra_pnginfo or {}, str(node_id),
            {name: getattr(kind, "CATEGORY", "") for name, kind in NODE_CLASS_MAPPINGS.items()},
            NODE_DISPLAY_NAME_MAPPINGS,
        )  # fmt: skip
        shown, notes = save(images, wanted)
        return {"ui": {"images": shown, **({"text": notes} if notes else {})}}


def ready(credentials):
    """The certificate of that choice, tried on one pixel; None for off. EditError for what keeps it from signing."""
    if credentials == keys.OFF:
        return None
    from ..models.provenance import package, signing

    package.library()
    certificate = keys.load(credentials)
    signing.check(certificate)
    return certificate


NODE_CLASS_MAPPINGS = {"EditKitSaveEditedImage": SaveEditedImage}
NODE_DISPLAY_NAME_MAPPINGS = {"EditKitSaveEditedImage": "Save Edited Image"}
