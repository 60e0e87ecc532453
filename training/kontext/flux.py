"""A FLUX.1 transformer of any size in diffusers' class: read, made, and asked for a velocity."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor, nn

from ...models.errors import EditError
from ...models.kontext import ids, names

HEAD, AXES = 128, [16, 56, 56]  # of the released models; a file of weights does not say
CONFIG = "config.json"


def read(path: str) -> tuple[dict, dict[str, Tensor]]:
    """Config and weights, under diffusers' names, of a diffusers folder (a pipeline's or the transformer's own) or of
    one file under BFL's, ComfyUI's or diffusers' names. EditError for what is none, or not whole."""
    given = Path(path).expanduser()
    if given.is_dir():
        folder = next((p for p in (given / "transformer", given) if (p / CONFIG).is_file()), None)
        if folder is None:
            raise EditError(f"{given} holds no {CONFIG}; name a diffusers folder, or one file of weights.")
        return _config(folder / CONFIG), _weights(sorted(folder.glob("*.safetensors")), folder)
    state = _weights([given] if given.is_file() else [], given)
    state = names.to_diffusers(state) if names.is_bfl(state) else state
    beside = given.parent / CONFIG
    return _config(beside) if beside.is_file() else infer(state, str(given)), state


def _weights(files: list[Path], where: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    if not files:
        raise EditError(f"There are no weights (.safetensors) in {where}, which --model names.")
    try:
        return {name: value for file in files for name, value in load_file(file).items()}
    except Exception as error:  # safetensors raises its own kind, which has no common base
        raise EditError(f"{where} is not readable as safetensors ({error}); download it again.") from None


def _config(path: Path) -> dict:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise EditError(f"{path} is not readable as JSON; download it again.") from None
    return {name: value for name, value in found.items() if not name.startswith("_")}


def infer(state: dict[str, Tensor], where: str) -> dict:
    """The config of weights under diffusers' names, as far as they say. EditError for heads that are not the released
    models', whose rotary axes only a config tells, and for weights of something else."""
    try:
        width, inputs = state["x_embedder.weight"].shape
        head = state["transformer_blocks.0.attn.norm_q.weight"].shape[0]
        joint = state["context_embedder.weight"].shape[1]
        pooled = state["time_text_embed.text_embedder.linear_1.weight"].shape[1]
        outputs = state["proj_out.weight"].shape[0]
    except (KeyError, ValueError):
        raise EditError(f"{where} does not hold a FLUX.1 transformer.") from None
    if head != HEAD:
        raise EditError(f"{where} has heads of {head}, not {HEAD}; put diffusers' {CONFIG} beside it.")
    count = lambda start: len({n.split(".")[1] for n in state if n.startswith(start)})  # noqa: E731
    return {
        "patch_size": 1, "in_channels": inputs, "out_channels": outputs, "num_layers": count("transformer_blocks."),
        "num_single_layers": count("single_transformer_blocks."), "attention_head_dim": head,
        "num_attention_heads": width // head, "joint_attention_dim": joint, "pooled_projection_dim": pooled,
        "guidance_embeds": any("guidance_embedder" in n for n in state), "axes_dims_rope": AXES,
    }  # fmt: skip


def build(config: dict, state: dict[str, Tensor] | None, seed: int = 0) -> nn.Module:
    """The transformer in fp32, with weights or, without, at random by the seed. EditError where weights do not fit."""
    from diffusers import FluxTransformer2DModel

    torch.manual_seed(seed)
    net = FluxTransformer2DModel.from_config(config)
    if state is not None:
        wanted = {name: value.shape for name, value in net.state_dict().items()}
        wrong = sorted(set(wanted) ^ set(state)) or [n for n, shape in wanted.items() if state[n].shape != shape]
        if wrong:
            raise EditError(f"{len(wrong)} tensors do not fit the transformer's config, first {wrong[0]!r}.")
        net.load_state_dict({name: value.float() for name, value in state.items()})
    return net


def config_of(net: nn.Module) -> dict:
    """The transformer's config as plain JSON."""
    found = {name: value for name, value in dict(net.config).items() if not name.startswith("_")}
    return json.loads(json.dumps(found))


def with_guidance(config: dict, state: dict[str, Tensor], seed: int) -> nn.Module:
    """The transformer with an embedding of the guidance scale, which begins as nothing where there was none."""
    if config["guidance_embeds"]:
        return build(config, state)
    net = build(config | {"guidance_embeds": True}, None, seed)
    net.load_state_dict({name: value.float() for name, value in state.items()}, strict=False)
    last = net.time_text_embed.guidance_embedder.linear_2
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return net


def pack(latent: Tensor) -> Tensor:
    """[b, c, h, w] to tokens [b, h/2·w/2, 4c]."""
    return rearrange(latent, "b c (h p) (w q) -> b (h w) (c p q)", p=ids.PATCH, q=ids.PATCH)


def unpack(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """Tokens [b, h/2·w/2, 4c] to [b, c, h, w] of that (h, w)."""
    return rearrange(
        tokens, "b (h w) (c p q) -> b c (h p) (w q)", h=size[0] // ids.PATCH, p=ids.PATCH, q=ids.PATCH
    )


def velocity(
    net: nn.Module, noisy: Tensor, time: Tensor, states: Tensor, pooled: Tensor, references: Sequence[Tensor] = (),
    scale: Tensor | None = None, placement: str = "index",
) -> Tensor:  # fmt: skip
    """v_θ(z_t, t, y, c) of Eq. 3: [b, c, h, w] for z_t of that shape.

    time: [b], 0..1. states: [b, t, joint], pooled: [b, p]. references: latents [b, c, h_i, w_i], appended as tokens
    with the virtual times 1, 2, … (Eq. 2), or as `placement` has it; none is text to image. scale: [b], told where
    the transformer embeds the guidance.
    """
    size, others = tuple(noisy.shape[-2:]), [tuple(r.shape[-2:]) for r in references]
    stands = ids.places(size, others, placement)
    tokens = torch.cat([pack(latent) for latent in (noisy, *references)], dim=1)
    out = net(
        hidden_states=tokens, encoder_hidden_states=states, pooled_projections=pooled, timestep=time,
        img_ids=ids.sequence_ids(size, others, stands, noisy.device), guidance=scale if embeds(net) else None,
        txt_ids=torch.zeros(states.shape[1], 3, device=noisy.device), return_dict=False,
    )[0]  # fmt: skip
    return unpack(out[:, : tokens_of(size)], size)


def embeds(net: nn.Module) -> bool:
    """Whether the transformer is told the guidance scale."""
    return bool(net.config.guidance_embeds)


def tokens_of(size: tuple[int, int]) -> int:
    rows, columns = ids.grid(size)
    return rows * columns
