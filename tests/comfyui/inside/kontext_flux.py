"""A tiny FLUX of ComfyUI's own class with the fixtures' weights, and short ways to sample it with the pack's nodes."""

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
import comfy.model_detection  # noqa: E402
import comfy.model_management  # noqa: E402
import comfy.model_patcher  # noqa: E402
import comfy.patcher_extension  # noqa: E402
import comfy.samplers  # noqa: E402
import comfy.supported_models  # noqa: E402
import torch  # noqa: E402
from comfy_extras import nodes_edit_model as core_edit  # noqa: E402
from comfy_extras import nodes_flux as core_flux  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

NODES = pack.NODE_CLASS_MAPPINGS
SETTINGS = json.loads((FIXTURES / "config.json").read_text(encoding="utf-8"))
RECORDED = {k: v for p in sorted(FIXTURES.glob("*.safetensors")) if not p.match("weights*") for k, v in
            load_file(p).items()}  # fmt: skip
WORDS, POOLED = RECORDED["context"], RECORDED["y"]
REFS = {name: RECORDED[name] for name in ("ref1", "ref2", "ref3")}
CHECKS = {}


def check(function):
    CHECKS[function.__name__] = function
    return function


def weights():
    state = load_file(sorted(FIXTURES.glob("weights*.safetensors"))[0])
    return state if "img_in.weight" in state else comfy.model_detection.convert_diffusers_mmdit(state)


def make_model(dtype=torch.float32, livelier=1.0, **changes):
    """A MODEL around ComfyUI's Flux. livelier: multiplies matrices, so that attention tells references apart."""
    config = comfy.supported_models.Flux({"image_model": "flux", "dtype": dtype, **SETTINGS["comfy_params"], **changes})
    made = comfy.model_base.Flux(config, device="cpu")
    if not changes:
        state = {k: v * livelier if v.ndim > 1 else v for k, v in weights().items()}
        made.diffusion_model.load_state_dict(state)
    place = comfy.model_management.get_torch_device()
    return comfy.model_patcher.ModelPatcher(made.eval(), place, torch.device("cpu"))


MODEL, LIVELY = make_model(), make_model(livelier=3.0)


def node(name, **inputs):
    return NODES[f"EditKitKontext{name}"]().run(**inputs)


def raw(latent):
    """A latent of the fixtures, which is in the network's scale, as a VAE gives it."""
    return MODEL.model.process_latent_out(latent)


def text(seed=None, **options):
    """A CONDITIONING with the fixtures' words, or with others of the same length."""
    words, pooled = WORDS, POOLED
    if seed is not None:
        random = torch.Generator().manual_seed(seed)
        words, pooled = (torch.randn(x.shape, generator=random) for x in (words, pooled))
    return [[words, {"pooled_output": pooled, "guidance": 2.5, **options}]]


DEFAULTS = {"strength": 1.0, "placement": "offset", "index": 0, "start_percent": 0.0, "end_percent": 1.0,
            "megapixels": 0.0, "confine": "strict"}  # fmt: skip


def referred(conditioning, name="ref1", **changes):
    """The conditioning after Kontext Reference; name: of the fixtures, or a latent as a VAE gives it."""
    latent = raw(REFS[name]) if isinstance(name, str) else name
    inputs = {**DEFAULTS, **changes}
    if "image" not in inputs:
        inputs["latent"] = {"samples": latent}
    return node("Reference", conditioning=conditioning, **inputs)[0]


def native(conditioning, *names, method=None):
    """The same by the core's own nodes."""
    for name in names:
        conditioning = core_edit.ReferenceLatent.execute(conditioning, {"samples": raw(REFS[name])})[0]
    if method is not None:
        how = core_flux.FluxKontextMultiReferenceLatentMethod()
        conditioning = (getattr(how, "execute", None) or how.append)(conditioning, method)[0]
    return conditioning


def applied(model=None):
    return node("Apply", model=model or MODEL)[0]


def reused(model=None, refresh=2, threshold=0.0, store="device", limit=8.0, conditioning=None):
    return node("ContextReuse", model=model or MODEL, refresh_every=refresh, threshold=threshold, store=store,
                limit_gib=limit, conditioning=conditioning)  # fmt: skip


class Noise:
    def __init__(self, values):
        self.values, self.seed = values, 1

    def generate_noise(self, latent):
        return self.values


def sampled(model, positive, negative=None, cfg=1.0, steps=4, sigmas=None, noise=None, size=(12, 16), batch=1,
            sampler="euler", callback=None, held=None):  # fmt: skip
    """What the core's sampling makes of noise: latents in the network's scale. held: gets the guider."""
    guider = comfy.samplers.CFGGuider(model)
    if held is not None:
        held.append(guider)
    guider.set_conds(positive, negative if negative is not None else text(7))
    guider.set_cfg(cfg)
    if noise is None:
        noise = torch.randn(batch, 16, *size, generator=torch.Generator().manual_seed(5))
    if sigmas is None:
        sigmas = node("Schedule", steps=steps, shift="mu", width=64, height=64, tokens=1, mu=1.0, alpha=1.0, sigma=1.0,
                      base_shift=0.5, max_shift=1.15, start=1.0)[0]  # fmt: skip
    with torch.inference_mode():
        made = guider.sample(noise, torch.zeros_like(noise), comfy.samplers.sampler_object(sampler), sigmas,
                             callback=callback, disable_pbar=True, seed=1)  # fmt: skip
    return MODEL.model.process_latent_in(made)


class Spy:
    """Notes what FLUX's forward gets and gives at every pass: image tokens, ids, velocities."""

    def __init__(self, model):
        self.model, self.tokens, self.ids, self.velocities, self.rows = model.clone(), [], [], [], []
        kind = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL
        self.model.add_wrapper_with_key(kind, "spy", self._pass)
        self.model.set_model_post_input_patch(self._input)

    def __deepcopy__(self, memo):
        return self

    def _pass(self, executor, *args, **kwargs):
        made = executor(*args, **kwargs)
        self.velocities.append(made)
        self.rows.append(len(made))
        return made

    def _input(self, args):
        self.tokens.append(args["img"].shape[1])
        self.ids.append(args["img_ids"])
        return args


def same(a, b):
    """Whether two tensors are equal bit for bit."""
    return bool(torch.equal(a, b))


def away(a, b):
    """max|d| / max(1, max|b|); infinite for another shape."""
    if a.shape != b.shape:
        return float("inf")
    return float((a.float() - b.float()).abs().max() / max(1.0, float(b.float().abs().max())))


def refused(run):
    """The sentence of an EditError, or a word that says what came instead."""
    try:
        run()
    except Exception as error:
        kind = type(error).__name__
        return str(error) if kind == "EditError" else f"{kind}: {error}"
    return "nothing was refused"
