"""UNets of diffusers folders as ComfyUI MODELs, with the parameterisation that is known instead of the guessed one."""

from torch import Tensor

from ...models.errors import EditError
from ...models.swiftedit import unets
from ...models.swiftedit.generators import OneStep

DTYPES = {
    "default": None,
    "fp32": "float32",
    "fp16": "float16",
    "bf16": "bfloat16",
    "fp8_e4m3fn": "float8_e4m3fn",
}


def load(config: dict, state: dict[str, Tensor], where: str, dtype: str = "default"):
    """A ModelPatcher of a diffusers UNet (SD1.5 or SD2.1 family, any width), predicting epsilon.

    ComfyUI's own loader knows the published widths only, and takes SwiftEdit's inversion net for a v-prediction model.
    EditError when the weights do not fit the config.
    """
    import comfy.model_base
    import comfy.model_management as management
    import comfy.model_patcher
    import comfy.supported_models
    import comfy.utils
    import torch

    unets.check(config, where)
    native = comfy_config(config, where)
    family = (
        comfy.supported_models.SD20 if native["use_linear_in_transformer"] else comfy.supported_models.SD15
    )
    made = family(native)
    made.unet_config.update(num_heads=native["num_heads"], num_head_channels=native["num_head_channels"])
    state = _renamed(state, made.unet_config, where)
    chosen = DTYPES[dtype] and getattr(torch, DTYPES[dtype])
    weights = chosen or management.unet_dtype(
        model_params=comfy.utils.calculate_parameters(state), supported_dtypes=made.supported_inference_dtypes,
        weight_dtype=comfy.utils.weight_dtype(state),
    )  # fmt: skip
    device = management.get_torch_device()
    made.set_inference_dtype(
        weights, management.unet_manual_cast(weights, device, made.supported_inference_dtypes)
    )
    model = comfy.model_base.BaseModel(made, comfy.model_base.ModelType.EPS)
    _fill(model, state, where)
    model = model.to(management.unet_offload_device())
    return comfy.model_patcher.ModelPatcher(
        model, load_device=device, offload_device=management.unet_offload_device()
    )


def _fill(model, state: dict[str, Tensor], where: str) -> None:
    try:
        missing, _ = model.diffusion_model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise EditError(f"The weights in {where} do not fit their config.json ({reason}).") from None
    if missing:
        raise EditError(f"The weights in {where} lack {len(missing)} tensors, for example {missing[0]!r}.")


def _renamed(state: dict[str, Tensor], config: dict, where: str) -> dict[str, Tensor]:
    """The state dict by ComfyUI's names. EditError for names that a UNet of this shape does not have."""
    import comfy.utils

    names = comfy.utils.unet_to_diffusers(config)
    unknown = [name for name in state if name not in names]
    if unknown:
        raise EditError(
            f"The weights in {where} hold {len(unknown)} tensors that its config.json has no place for, "
            f"for example {unknown[0]!r}."
        )
    return {names[name]: value for name, value in state.items()}


def comfy_config(config: dict, where: str) -> dict:
    """ComfyUI's UNet config of a diffusers config. EditError for heads that ComfyUI's UNet cannot have."""
    channels = list(config["block_out_channels"])
    levels = len(channels)
    blocks = _listed(config.get("layers_per_block", 2), levels)
    down = config.get("down_block_types") or ["CrossAttnDownBlock2D"] * (levels - 1) + ["DownBlock2D"]
    crosses = [int("CrossAttn" in kind) for kind in down]
    # diffusers calls the number of heads attention_head_dim
    heads = _listed(config.get("num_attention_heads") or config.get("attention_head_dim", 8), levels)
    widths = {c // h for c, h in zip(channels, heads, strict=True)}
    if len(widths) > 1 and len(set(heads)) > 1:
        raise EditError(
            f"{where} has attention heads that differ in number and width; ComfyUI's UNet has no such."
        )
    return {
        "image_size": 32, "in_channels": config.get("in_channels", 4), "out_channels": config.get("out_channels", 4),
        "model_channels": channels[0], "channel_mult": [c // channels[0] for c in channels], "num_res_blocks": blocks,
        "transformer_depth": [d for d, n in zip(crosses, blocks) for _ in range(n)],
        "transformer_depth_output": [d for d, n in zip(crosses, blocks) for _ in range(n + 1)],
        "transformer_depth_middle": 1, "use_spatial_transformer": True, "legacy": False, "adm_in_channels": None,
        "use_linear_in_transformer": bool(config.get("use_linear_projection")), "use_checkpoint": False,
        "context_dim": config["cross_attention_dim"], "use_temporal_attention": False, "dtype": None,
        "num_heads": heads[0] if len(widths) > 1 else -1, "num_head_channels": -1 if len(widths) > 1 else widths.pop(),
    }  # fmt: skip


def _listed(value, length: int) -> list:
    return list(value) if isinstance(value, list | tuple) else [value] * length


def with_sampling(model, generator: OneStep):
    """A clone of a MODEL that samples as that generator does, whatever its loader took it for."""
    clone = model.clone()
    clone.add_object_patch("model_sampling", _sampling(model, generator))
    return clone


def _sampling(model, generator: OneStep):
    import comfy.model_sampling as sampling

    config = model.model.model_config
    if generator.prediction == "velocity":
        return _flow()(config)

    class Epsilon(sampling.ModelSamplingDiscrete, sampling.EPS):
        pass

    return Epsilon(config)


def _flow():
    import comfy.model_sampling as sampling
    import torch

    class RectifiedFlow(sampling.ModelSamplingDiscrete, sampling.CONST):
        """One step of a rectified flow from noise at time 1: z = x + v; its latent is x itself, never mixed again."""

        def __init__(self, config):
            super().__init__(config)
            self.set_sigmas(torch.arange(1, self.num_timesteps + 1) / self.num_timesteps)

        def timestep(self, sigma):
            return sigma * self.num_timesteps

        def sigma(self, timestep):
            return timestep / self.num_timesteps

        def calculate_denoised(self, sigma, model_output, model_input):
            return model_input + model_output * sigma.view(-1, *[1] * (model_output.ndim - 1))

        def noise_scaling(self, sigma, noise, latent_image, max_denoise=False):
            return latent_image + noise * sigma.view(sigma.shape[:1] + (1,) * (noise.ndim - 1))

        def inverse_noise_scaling(self, sigma, latent):
            return latent

    return RectifiedFlow


def text_width(model) -> int:
    """The width of the text embeddings that a MODEL takes. EditError when it is not a Stable Diffusion 1 or 2 UNet."""
    config = getattr(getattr(model.model, "model_config", None), "unet_config", {})
    width, name = config.get("context_dim"), type(model.model).__name__
    if width == 2048 or name.startswith("SDXL"):
        raise EditError("The MODEL is SDXL; SwiftEdit needs a UNet of the SD2.1 or SD1.5 family.")
    if (
        not isinstance(width, int)
        or not hasattr(model.model, "diffusion_model")
        or "channel_mult" not in config
    ):
        raise EditError(f"The MODEL is {name}; SwiftEdit needs a UNet of the SD2.1 or SD1.5 family.")
    return width


def block_of(layer: str, config: dict) -> tuple[str, int, int]:
    """ComfyUI's (block, number, transformer) of an attn2 by its path in diffusers' UNet.

    down_blocks.i.attentions.j is input block 1 + i·(n + 1) + j, up_blocks.i.attentions.j output block i·(n + 1) + j.
    """
    parts = layer.split(".")
    blocks = config["num_res_blocks"]
    if parts[0] == "mid_block":
        return "middle", 0, int(parts[4])
    level, number, index = int(parts[1]), int(parts[3]), int(parts[5])
    if parts[0] == "down_blocks":
        return "input", 1 + sum(n + 1 for n in blocks[:level]) + number, index
    return "output", sum(n + 1 for n in list(reversed(blocks))[:level]) + number, index
