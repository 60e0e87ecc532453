"""What nodes on FLUX.1 ask of a ComfyUI MODEL: that it is one whose layers can be reached, and which of its kinds."""

from ...models.errors import EditError
from ...models.icedit.lora import flux_layers
from .devices import in_comfyui

FILL_MASK = 64  # channels of a pixel's mask at the latent's size: 8 by 8
MEAN = "write the experts' mean with Save ICEdit Mean LoRA and load it with Nunchaku's own LoRA loader"


def need_comfyui(node: str) -> None:
    if not in_comfyui():
        raise EditError(f"{node} works on ComfyUI's own types; run this workflow in ComfyUI.")


def network(model, node: str, advice: str = MEAN):
    """A MODEL's FLUX.1 transformer. EditError for another model, and for a backend whose forward is not ComfyUI's.

    advice: what to do about the latter.
    """
    need_comfyui(node)
    import comfy.ldm.flux.model

    net = model.get_model_object("diffusion_model")
    net = getattr(net, "_orig_mod", net)
    kind = type(net)
    if "nunchaku" in f"{kind.__module__}.{kind.__name__}".lower():
        raise EditError(f"This is a Nunchaku MODEL, whose layers {node} cannot reach; {advice}.")
    if not isinstance(net, comfy.ldm.flux.model.Flux) or len(net.params.axes_dim) != 3 or net.patch_size != 2:
        raise EditError(f"{node} needs a FLUX.1 MODEL, and this one is {type(model.model).__name__} ({kind.__name__}).")
    return net


def fill(model, node: str):
    """The transformer of FLUX.1 Fill. EditError for the kinds that take other channels."""
    net = network(model, node)
    given = net.out_channels // net.patch_size**2
    if net.in_channels != (2 * given + FILL_MASK) * net.patch_size**2:
        kind = "text-to-image " if net.in_channels == net.out_channels else ""
        raise EditError(
            f"This is a {kind}FLUX.1 with {net.in_channels} channels to a token, and {node} needs FLUX.1 Fill, which "
            f"has {(2 * given + FILL_MASK) * net.patch_size**2}; load flux1-fill-dev."
        )
    return net


def text_to_image(model, node: str):
    """The transformer of a FLUX.1 that makes pictures from text. EditError for Fill and the like."""
    net = network(model, node)
    if net.in_channels != net.out_channels:
        raise EditError(
            f"This FLUX.1 takes more than its latent (Fill, Depth and Canny do), and {node} inverts with one that "
            "makes pictures from text; load flux1-dev, or use Fill with ICEdit Diptych's preset training-free."
        )
    return net


def layers(net) -> dict[str, tuple[int, int]]:
    """diffusers' name -> (out, in) of the layers that a LoRA may change."""
    p = net.params
    return flux_layers(p.depth, p.depth_single_blocks, p.hidden_size, net.in_channels, p.context_in_dim)


def dtype(model):
    """What a MODEL computes in."""
    return model.get_model_object("manual_cast_dtype") or model.model.get_dtype()
