"""Tiny FLUX.1 of ComfyUI's own class (Fill with the fixtures' weights, and one for text to image), and short ways to
run the pack's nodes on them."""

import json
import sys
from pathlib import Path

from start import start

COMFYUI, PACK, FOLDER, FIXTURES = (Path(a) for a in sys.argv[1:5])
PLACE = sys.argv[5] if len(sys.argv) > 5 else "cpu"
pack = start(COMFYUI, PACK, FOLDER)
if PLACE != "cpu":
    import placement

    placement.enter(gpu_only=PLACE == "gpu-only")

import comfy.model_base  # noqa: E402 - ComfyUI's modules exist from here on
import comfy.model_management  # noqa: E402
import comfy.model_patcher  # noqa: E402
import comfy.samplers  # noqa: E402
import comfy.supported_models  # noqa: E402
import comfy.utils  # noqa: E402
import folder_paths  # noqa: E402
import torch  # noqa: E402
from comfy_extras import nodes_custom_sampler as custom  # noqa: E402
from safetensors import safe_open  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

folder_paths.folder_names_and_paths["loras"] = ([str(FOLDER / "loras")], {".safetensors"})
NODES = pack.NODE_CLASS_MAPPINGS
IO = load_file(FIXTURES / "tiny_flux_io.safetensors")
CASES = load_file(FOLDER / "cases.safetensors")
GRID = (4, 8)  # tokens of the fixtures' diptych
CHECKS = {}


def check(function):
    CHECKS[function.__name__] = function
    return function


def settings() -> dict:
    """ComfyUI's names for the fixtures' configuration."""
    with safe_open(FIXTURES / "tiny_flux_base.safetensors", "pt") as file:
        given = json.loads(file.metadata()["config"])
    return {
        "image_model": "flux", "in_channels": given["in_channels"] // 4, "out_channels": given["out_channels"] // 4,
        "vec_in_dim": given["pooled_projection_dim"], "context_in_dim": given["joint_attention_dim"],
        "hidden_size": given["num_attention_heads"] * given["attention_head_dim"], "mlp_ratio": 4.0,
        "num_heads": given["num_attention_heads"], "depth": given["num_layers"],
        "depth_single_blocks": given["num_single_layers"], "axes_dim": given["axes_dims_rope"], "theta": 10000,
        "patch_size": 2, "qkv_bias": True, "guidance_embed": True,
    }  # fmt: skip


SETTINGS = settings()


def weights() -> dict:
    """The fixtures' weights under ComfyUI's names: what diffusers keeps apart is put together."""
    names, out = comfy.utils.flux_to_diffusers(SETTINGS), {}
    for name, value in load_file(FIXTURES / "tiny_flux_base.safetensors").items():
        place = names[name]
        if isinstance(place, str):
            out[place] = value
            continue
        if callable(place[-1]):
            value = place[-1](value)
        if place[1] is None:
            out[place[0]] = value
        else:
            out.setdefault(place[0], {})[place[1][1]] = value
    joined = {k: torch.cat([v[i] for i in sorted(v)]) for k, v in out.items() if isinstance(v, dict)}
    return out | joined


def make_model(dtype=torch.float32, cast=None, state=None, **changes):
    """A MODEL around ComfyUI's Flux: Fill with the fixtures' weights, or others. cast: what it computes in."""
    kind = comfy.supported_models.FluxInpaint if not changes else comfy.supported_models.Flux
    config = kind({**SETTINGS, "dtype": dtype, **changes})
    config.manual_cast_dtype = cast
    made = comfy.model_base.Flux(config, device="cpu")
    made.diffusion_model.load_state_dict(state or weights())
    place = comfy.model_management.get_torch_device()
    return comfy.model_patcher.ModelPatcher(made.eval().requires_grad_(False), place, torch.device("cpu"))


def text_to_image(seed=0, spread=2.0):
    """A FLUX.1 for pictures from text: the fixtures' weights but for the layer that takes the latents."""
    state = weights()
    random = torch.Generator().manual_seed(seed)
    state["img_in.weight"] = torch.randn(SETTINGS["hidden_size"], 64, generator=random) / 8
    state = {k: v * spread if v.ndim > 1 else v for k, v in state.items()}
    return make_model(state=state, in_channels=16)


MODEL = make_model()


def node(name, **inputs):
    with torch.inference_mode():
        return NODES[f"EditKit{name}"]().run(**inputs)


def lora(name="moe.safetensors", model=None, strength=1.0, experts="routed", tied=True, own=1.0, k=1):
    return node("ICEditLoRA", model=model or MODEL, lora=name, strength=strength, experts=experts, tie_experts=tied,
                expert_strength=own, experts_per_token=k)  # fmt: skip


def unpacked(tokens, grid=GRID):
    """Tokens [b, h·w, c·4] of diffusers' pipelines as what ComfyUI's FLUX takes and gives [b, c, 2h, 2w]."""
    x = tokens.unflatten(1, grid).unflatten(-1, (-1, 2, 2))  # b h w c p q
    return x.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


def loaded(model):
    """A MODEL where it computes, and whatever goes with it, as a sampling has it."""
    comfy.model_management.load_models_gpu([model, *model.get_nested_additional_models()])
    return model.model.diffusion_model


def forward(model, x=None, options=None, times=None):
    """One pass of a MODEL on the fixtures' input, as the sampling would ask for it."""
    net = loaded(model)
    x = unpacked(IO["hidden_states"]) if x is None else x
    many, dtype = len(x), x.dtype
    options = {"wrappers": model.wrappers, **model.model_options["transformer_options"], **(options or {})}
    given = [IO[k].expand(many, *[-1] * (IO[k].ndim - 1)).to(dtype)
             for k in ("encoder_hidden_states", "pooled_projections")]  # fmt: skip
    with torch.inference_mode():
        return net(x, IO["timestep"].expand(many) if times is None else times, given[0], given[1],
                   IO["guidance"].expand(many).to(dtype), transformer_options=options)  # fmt: skip


def away(ours, reference):
    """max|d| / max|reference|; infinite for another shape."""
    if tuple(ours.shape) != tuple(reference.shape):
        return float("inf")
    return float((ours.float() - reference.float()).abs().max() / reference.float().abs().max())


def text(seed=None, **options):
    """A CONDITIONING with the fixtures' words, or with others."""
    words, pooled = IO["encoder_hidden_states"], IO["pooled_projections"]
    if seed is not None:
        random = torch.Generator().manual_seed(seed)
        words, pooled = (torch.randn(x.shape, generator=random) for x in (words, pooled))
    return [[words, {"pooled_output": pooled, "guidance": 50.0, **options}]]


class Vae:
    """Stands for FLUX's: 8x8 pixels to 16 numbers and back, so that what went in can be told from what came out."""

    mix = torch.linalg.qr(torch.randn(16, 3, generator=torch.Generator().manual_seed(3)))[0]

    def encode(self, pixels):
        small = torch.nn.functional.avg_pool2d(pixels.movedim(-1, 1), 8)
        return torch.einsum("oc,bchw->bohw", self.mix.to(small), small)

    def decode(self, latent):
        small = torch.einsum("oc,bohw->bchw", self.mix.to(latent), latent)
        return torch.nn.functional.interpolate(small, scale_factor=8).movedim(1, -1).clamp(0, 1)


class Noise:
    def __init__(self, values):
        self.values, self.seed = values, 1

    def generate_noise(self, latent):
        return self.values


def sampled(model, positive, latent, sigmas, noise=None, negative=None, cfg=1.0, sampler=None):
    """SamplerCustomAdvanced's first output."""
    guider = comfy.samplers.CFGGuider(model)
    guider.inner_set_conds({"positive": positive} | ({"negative": negative} if negative else {}))
    guider.set_cfg(cfg)
    sampler = sampler or custom.KSamplerSelect().get_sampler("euler")[0]
    noise = noise or custom.RandomNoise().get_noise(3)[0]
    with torch.inference_mode():
        return custom.SamplerCustomAdvanced().sample(noise, guider, sampler, sigmas, latent)[0]


def hooks(model=None):
    return sum(len(m._forward_hooks) for m in (model or MODEL).model.modules())


def refused(run):
    """The sentence of an EditError, or a word that says what came instead."""
    try:
        run()
    except Exception as error:
        kind = type(error).__name__
        return str(error) if kind == "EditError" else f"{kind}: {error}"
    return "nothing was refused"
