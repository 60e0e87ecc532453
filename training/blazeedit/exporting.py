"""`train export`: the trained parts of a state folder as one model folder that the nodes load."""

from pathlib import Path

from ...models.blazeedit.checkpoint import save
from ...models.blazeedit.config import BlazeEditConfig
from ...models.blazeedit.model import BlazeEdit
from ...models.errors import EditError
from ..store import Store

PARTS = {
    "light": "autoencoder", "condition": "condition", "denoiser": "denoiser",
    "shadow_head": "shadow_head", "relight_head": "relight_head",
}  # fmt: skip


def assemble(config: BlazeEditConfig, store: Store, *, distilled: bool = True) -> BlazeEdit:
    """Builds the model from the parts in `store`; f_θ and denoiser from the distillation where there is one.

    EditError naming the stage whose part is missing.
    """
    model = BlazeEdit(config)
    use = "distilled_" if distilled and store.has("distilled_denoiser") else ""
    for part, attribute in PARTS.items():
        module = getattr(model, attribute)
        name = use + part if part in ("condition", "denoiser") else part
        if module is not None and not store.load_part(name, module):
            raise EditError(
                f"The part {name!r} is not in {store.root / 'weights'}; train the stage that makes it first."
            )
    return model.eval()


def export(config: BlazeEditConfig, store: Store, out: Path | str | None, *, distilled: bool = True) -> dict:
    """Writes the model folder. Returns where, and how large it is."""
    folder = Path(out).expanduser() if out else store.root / "export"
    model = assemble(config, store, distilled=distilled)
    written = save(model, folder)
    size = sum(path.stat().st_size for path in written) / 1e6
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    return {"written": str(folder), "megabytes": size, "million_parameters": parameters}
