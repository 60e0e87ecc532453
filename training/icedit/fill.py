"""What FLUX.1 Fill is asked with a diptych: each token's noise, masked latents and mask, side by side."""

import torch
from torch import Tensor, nn

from ...models.errors import EditError
from ...models.kontext import ids
from ..kontext import flux


def condition(masked: Tensor, scale: int) -> Tensor:
    """The known part of the tokens [b, n, 4·c + 4·scale²]: masked latents, and the mask of the right panel.

    masked: latents [b, c, h, 2·w] of the diptych with its right panel grey. scale: pixels per side of a latent; each of
    the mask's pixels below a latent is a channel, in the order of diffusers' pipeline.
    """
    rows, columns = masked.shape[-2:]
    mask = masked.new_zeros(1, scale**2, rows, columns)
    mask[..., columns // 2 :] = 1
    return torch.cat([flux.pack(masked), flux.pack(mask).expand(len(masked), -1, -1)], -1)


def velocity(net: nn.Module, noisy: Tensor, known: Tensor, time: Tensor, states: Tensor, pooled: Tensor,
             guidance: Tensor) -> Tensor:  # fmt: skip
    """v_θ of both panels [b, c, h, 2·w] for z_t of that shape and `condition`'s tokens.

    time: [b], 0..1. states: [b, t, joint], pooled: [b, p]. guidance: [b], told where the transformer embeds it.
    """
    size = tuple(noisy.shape[-2:])
    out = net(
        hidden_states=torch.cat([flux.pack(noisy), known], -1), encoder_hidden_states=states,
        pooled_projections=pooled, timestep=time, img_ids=ids.grid_ids(size, device=noisy.device),
        txt_ids=torch.zeros(states.shape[1], 3, device=noisy.device),
        guidance=guidance if flux.embeds(net) else None, return_dict=False,
    )[0]  # fmt: skip
    return flux.unpack(out, size)


def check(config: dict, scale: int) -> None:
    """EditError for a transformer that is none of Fill's: whose tokens do not hold noise, masked latents and mask."""
    latents = config["out_channels"] or config["in_channels"]
    wanted = 2 * latents + 4 * scale**2
    if config["in_channels"] != wanted:
        raise EditError(
            f"The transformer takes tokens of {config['in_channels']} numbers and Fill's have {wanted}; ICEdit is "
            "trained on FLUX.1-Fill-dev."
        )
