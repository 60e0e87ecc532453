"""ICEdit LoRA and Expert Map on ComfyUI's own FLUX, against the recorded release, diffusers and the core's loader."""

import os

import comfy.model_management
import comfy.sd
import torch
from comfy.patcher_extension import WrappersMP
from icedit_flux import (
    CASES,
    FIXTURES,
    FOLDER,
    GRID,
    IO,
    MODEL,
    SETTINGS,
    Noise,
    away,
    check,
    forward,
    hooks,
    load_file,
    loaded,
    lora,
    make_model,
    node,
    refused,
    sampled,
    text,
    text_to_image,
    unpacked,
    weights,
)
from my_x_pack.models.icedit import experts
from my_x_pack.models.icedit import lora as files

import nodes

PLACES = {
    "transformer_blocks": ("double_blocks", "img_mlp.2"), "single_transformer_blocks": ("single_blocks", "linear2"),
}  # fmt: skip
LATENT = torch.zeros(1, 16, 8, 16)
SIGMAS = torch.tensor([1.0, 0.7, 0.3, 0.0])


def place(name):
    """ComfyUI's name of a routed layer."""
    kind, number, *_ = name.split(".")
    return ".".join([PLACES[kind][0], number, PLACES[kind][1]])


def expected(name):
    return unpacked(CASES[name] if name in CASES else IO[name])


def listened(model, layers, seen):
    """Fills seen[layer] = (input, output) at each pass; added last, so that its hooks come after ours."""
    def listen(executor, *args, **kwargs):
        handles = [executor.class_obj.get_submodule(place(name)).register_forward_hook(
            lambda m, i, o, name=name: seen.update({name: (i[0].clone(), o.clone())})) for name in layers]  # fmt: skip
        try:
            return executor(*args, **kwargs)
        finally:
            for handle in handles:
                handle.remove()

    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "listen", listen)


@check
def recorded():
    """The fixtures' cases, through the shipped node: the whole network, and what each routed layer saw and gave."""
    model, seen = lora()[0].clone(), {}
    listened(model, {k.removeprefix("hook.").rsplit(".", 1)[0] for k in IO if k.startswith("hook.")}, seen)
    out = {"out_moe": away(forward(model), expected("out_moe"))}
    for name, pair in seen.items():
        for end, value in zip(("in", "out"), pair, strict=True):
            out[f"hook.{name}.{end}"] = away(value, IO[f"hook.{name}.{end}"])
    out["out_base"] = away(forward(MODEL), expected("out_base"))
    out["out_moe_official_scale_0_5"] = away(
        forward(lora(strength=0.5, tied=False)[0]), expected("out_moe_official_scale_0_5")
    )
    normal = load_file(FIXTURES / "tiny_flux_normal_lora_out.safetensors")["out_normal_lora"]
    out["out_normal_lora"] = away(forward(lora("plain.safetensors")[0]), unpacked(normal))
    return out


@check
def strengths():
    """Other strengths, modes, k, and a file with experts alone, against our layers on diffusers' FLUX."""
    made = {
        "tied_half": lora(strength=0.5), "own": lora(tied=False, own=-0.7), "plain_off": lora(strength=0.0, tied=False),
        "mean": lora(experts="mean"), "off": lora(experts="off"), "top2": lora(k=2),
        "alone": lora("experts.safetensors"), "prefixed": lora("prefixed.safetensors"),
        "twice": lora(model=lora()[0], strength=0.5), "with_plain": lora("plain.safetensors", model=lora()[0]),
        "alpha": lora("alpha.safetensors"),
    }  # fmt: skip
    return {name: away(forward(one[0]), expected(name)) for name, one in made.items()}


def state(model):
    return {k: v.clone() for k, v in model.model.state_dict().items()}


def same(one, other):
    return all(torch.equal(one[k], other[k]) for k in one) and one.keys() == other.keys()


@check
def core_loader():
    """A plain LoRA makes of every weight what the core's loader makes of it, bit for bit."""
    core = nodes.LoraLoaderModelOnly().load_lora_model_only(MODEL, "plain.safetensors", 0.8)[0]
    loaded(core)
    theirs, out = state(core), forward(core)
    ours = lora("plain.safetensors", strength=0.8)[0]
    loaded(ours)
    return {"weights": same(theirs, state(ours)), "changed": not same(theirs, weights_before()),
            "out": bool(torch.equal(out, forward(ours)))}  # fmt: skip


def weights_before():
    return {f"diffusion_model.{k}": v for k, v in weights().items()}


@check
def stacking():
    """Another LoRA by the core's loader, before ours and after, equals the sum in diffusers."""
    load = nodes.LoraLoaderModelOnly().load_lora_model_only
    before = lora(model=load(MODEL, "plain.safetensors", 1.0)[0])[0]
    after = load(lora()[0], "plain.safetensors", 1.0)[0]
    both = expected("with_plain")
    return {"before": away(forward(before), both), "after": away(forward(after), both),
            "matters": away(both, expected("out_moe"))}  # fmt: skip


def loaded_with(extra):
    """Whether ComfyUI's memory management holds the experts at the moment."""
    held = [loaded.model.model for loaded in comfy.model_management.current_loaded_models]
    return all(any(one.model is model for model in held) for one in extra)


class Packed(torch.nn.Module):
    """A layer as quantising packs have it: bytes in place of a weight of its shape, unpacked when it computes."""

    def __init__(self, layer):
        super().__init__()
        self.scale = layer.weight.abs().amax() / 127
        self.weight = torch.nn.Parameter((layer.weight / self.scale).round().to(torch.int8).flatten(), False)
        self.bias, self.size = layer.bias, layer.weight.shape

    def forward(self, x):
        return torch.nn.functional.linear(x, self.weight.view(self.size).float() * self.scale, self.bias)


@check
def quantised():
    """Experts beside layers whose weights nobody else can read equal those beside the same weights unpacked."""
    packed, plain = make_model(), make_model()
    for name in {place(k.removeprefix("hook.").rsplit(".", 1)[0]) for k in IO if k.startswith("hook.")}:
        for model, unpack in ((packed, False), (plain, True)):
            parent, last = name.rsplit(".", 1)
            net = model.model.diffusion_model
            layer = Packed(net.get_submodule(name))
            if unpack:
                net.get_submodule(name).weight.data = layer.weight.view(layer.size).float() * layer.scale
            else:
                setattr(net.get_submodule(parent), last, layer)
    made = [forward(lora("experts.safetensors", model=model)[0]) for model in (packed, plain)]
    return {"same": away(*made), "matters": away(made[0], forward(packed))}


@check
def no_residue():
    """After sampling with it, the MODEL is what it was: weights, hooks, options, output; and it can be unloaded."""
    net = MODEL.model
    comfy.model_management.unload_all_models()
    start, base, model = weights_before(), forward(MODEL), lora()[0]
    result = sampled(model, text(), {"samples": LATENT}, SIGMAS)["samples"]
    extra = model.get_nested_additional_models()
    during = {"hooks": hooks(), "experts": [len(list(m.model.parameters())) for m in extra]}
    during["loaded"] = loaded_with(extra)
    comfy.model_management.unload_all_models()
    during["unloaded"] = not loaded_with(extra)
    found = {k: v for k, v in net.state_dict().items() if k in start}
    again = sampled(MODEL, text(), {"samples": LATENT}, SIGMAS)["samples"]
    return {**during, "weights": same(start, found), "base": bool(torch.equal(base, forward(MODEL))),
            "wrappers": sum(len(w) for w in MODEL.wrappers.values()),
            "extra": len(MODEL.get_nested_additional_models()),
            "differs": away(result, again)}  # fmt: skip


@check
def batches():
    """Two rows equal each row alone; and a positive beside a negative equals both apart."""
    model, random = lora()[0], torch.Generator().manual_seed(4)
    x = torch.cat([unpacked(IO["hidden_states"]), torch.randn(1, 96, 8, 16, generator=random)])
    both = forward(model, x)
    single = torch.cat([forward(model, row[None]) for row in x])
    noise = torch.randn(2, 16, 8, 16, generator=random)

    def guided(some):
        latent = {"samples": LATENT.repeat(len(some), 1, 1, 1)}
        return sampled(model, text(), latent, SIGMAS, Noise(some), text(5), cfg=3.0)["samples"]

    two, one = guided(noise), torch.cat([guided(n[None]) for n in noise])
    return {"rows": away(both, single), "sampled": away(two, one)}


class Stop:
    """A post_input patch that the user's Cancel meets at its second call."""

    def __init__(self):
        self.calls, self.hooks = 0, 0

    def __call__(self, args):
        self.calls += 1
        self.hooks = hooks()
        if self.calls == 2:
            raise comfy.model_management.InterruptProcessingException()
        return args


@check
def interrupted():
    """Cancelled in the middle of the second step: nothing of ours stays, and the next run is as if it had not been."""
    model, recorder, _ = lora()
    clean = sampled(model, text(), {"samples": LATENT}, SIGMAS)["samples"]
    stopped, stop = model.clone(), Stop()
    stopped.set_model_post_input_patch(stop)
    kept = len(recorder.runs)
    said = refused(lambda: sampled(stopped, text(), {"samples": LATENT}, SIGMAS))
    again = sampled(model, text(), {"samples": LATENT}, SIGMAS)["samples"]
    return {"said": said.split(":")[0], "during": stop.hooks, "after": hooks(), "kept": len(recorder.runs) - kept,
            "same": bool(torch.equal(clean, again))}  # fmt: skip


@check
def precisions():
    """fp8 and bf16 weights, computing in bf16, and low memory: experts as in fp32, up to rounding."""
    out, moe = {}, files.parse(load_file(FOLDER / "loras/moe.safetensors")).experts
    for name, dtype, cast in (("bf16", torch.bfloat16, None), ("fp8", torch.float8_e4m3fn, torch.bfloat16)):
        state = {k: v.to(dtype) for k, v in weights().items()}
        model, seen = lora(model=make_model(dtype, cast, state), strength=0.0, tied=False)[0], {}
        listened(model, moe, seen)
        forward(model, unpacked(IO["hidden_states"]).bfloat16())
        for layer, (x, y) in seen.items():
            weight, bias = (state[f"{place(layer)}.{part}"].bfloat16().float() for part in ("weight", "bias"))
            plain = torch.nn.functional.linear(x.float(), weight, bias)
            gates = experts.route(x, moe[layer]).gates.float()
            exact = plain + experts.mixed(x.float(), moe[layer].to(torch.bfloat16).to(torch.float32), gates)
            out[name] = max(out.get(name, 0), away(y, exact))
            out[f"{name}_matters"] = max(out.get(f"{name}_matters", 0), away(plain, exact))
    full = lora()[0]
    whole = forward(full)
    comfy.model_management.unload_all_models()
    full.patch_model(full.load_device, lowvram_model_memory=100_000)
    out["low_memory"] = away(_as_it_is(full), whole)
    out["lowvram"] = bool(full.model.model_lowvram)
    full.unpatch_model(torch.device("cpu"))
    comfy.model_management.unload_all_models()
    return out


def _as_it_is(model):
    """`forward` without loading."""
    options = {"wrappers": model.wrappers, **model.model_options["transformer_options"]}
    with torch.inference_mode():
        return model.model.diffusion_model(
            unpacked(IO["hidden_states"]), IO["timestep"], IO["encoder_hidden_states"], IO["pooled_projections"],
            IO["guidance"], transformer_options=options)  # fmt: skip


@check
def compiled():
    """torch.compile before the LoRA and after it, the whole network and block by block: right, or said."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    out, blocks = {}, [f"diffusion_model.double_blocks.{i}" for i in range(SETTINGS["depth"])]
    blocks += [f"diffusion_model.single_blocks.{i}" for i in range(SETTINGS["depth_single_blocks"])]
    if os.environ.get("EDITKIT_LONG") != "1":
        return None
    for name, keys in (("whole", ["diffusion_model"]), ("blocks", blocks)):
        base = MODEL.clone()
        set_torch_compile_wrapper(base, backend="eager", keys=keys)
        plain = sampled(base, text(), {"samples": LATENT}, SIGMAS)["samples"]  # compiled once without our hooks
        made = sampled(lora(model=base)[0], text(), {"samples": LATENT}, SIGMAS)["samples"]
        reference = sampled(lora()[0], text(), {"samples": LATENT}, SIGMAS)["samples"]
        out[name] = away(made, reference)
        out[f"{name}_matters"] = away(plain, reference)
        again = sampled(base, text(), {"samples": LATENT}, SIGMAS)["samples"]
        out[f"{name}_left"] = away(again, plain)
    out["hooks"] = hooks()
    return out


@check
def expert_map():
    """The map is the argmax of the router's logits of what the layer saw for the positive, at every layer and step."""
    model, recorder, info = lora()
    routers = {k.removeprefix("transformer.").removesuffix(".lora_route.weight"): v
               for k, v in load_file(FOLDER / "loras/moe.safetensors").items() if "lora_route" in k}  # fmt: skip
    seen = []

    def listen(executor, x, *args, **kwargs):
        found = {"row": args[-1]["cond_or_uncond"].index(0)}
        handles = [executor.class_obj.get_submodule(place(name)).register_forward_hook(
            lambda m, i, o, name=name: found.update({name: (i[0] @ routers[name].T).argmax(-1)})) for name in routers]
        try:
            return executor(x, *args, **kwargs)
        finally:
            seen.append(found)
            for handle in handles:
                handle.remove()

    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "listen", listen)
    latent = sampled(model, text(), {"samples": LATENT}, SIGMAS, negative=text(5), cfg=2.0)
    run = recorder.of(latent["samples"])
    tokens, wrong = GRID[0] * GRID[1], 0
    for ours, theirs in zip(run.steps, seen, strict=True):
        row = theirs.pop("row")
        wrong += sum(int((ours.choices(k)[0].flatten() != v[row, -tokens:]).sum()) for k, v in theirs.items())
    diptych = torch.rand(1, 64, 128, 3, generator=torch.Generator().manual_seed(1))
    shown, steps, said = node("ICEditExpertMap", latent=latent, experts=recorder, layer=4, step=-1, opacity=0.0,
                              image=diptych)  # fmt: skip
    colours = node("ICEditExpertMap", latent=latent, experts=recorder, layer=0, step=0, opacity=0.5)[0]
    other = sampled(model, text(9), {"samples": LATENT}, SIGMAS)  # the first latent's run is remembered
    return {"wrong": wrong, "steps": len(run.steps), "film": list(steps.shape), "info": info, "said": said,
            "kinds": len(colours.flatten(0, 2).unique(dim=0)), "unblended": away(shown, diptych),
            "later": recorder.of(latent["samples"]) is run and recorder.of(other["samples"]) is not run,
            "other": refused(lambda: recorder.of(torch.ones(1, 16, 8, 16))),
            "layer": refused(lambda: node("ICEditExpertMap", latent=latent, experts=recorder, layer=57, step=0,
                                          opacity=1.0)),
            "step": refused(lambda: node("ICEditExpertMap", latent=latent, experts=recorder, layer=0, step=3,
                                         opacity=1.0))}  # fmt: skip


@check
def bad_input():
    """What is refused, and how."""
    from comfy.supported_models import SD15

    unet = {"image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 32, "num_res_blocks": [1],
            "channel_mult": [1], "transformer_depth": [0], "transformer_depth_output": [0, 0], "num_heads": 1,
            "transformer_depth_middle": 0, "use_spatial_transformer": True, "context_dim": 32,
            "use_linear_in_transformer": False, "legacy": False, "use_temporal_attention": False}  # fmt: skip
    other = comfy.model_patcher.ModelPatcher(SD15(unet).get_model({}), "cpu", "cpu")
    out = {
        "text_to_image": refused(lambda: lora(model=text_to_image())),
        "not_flux": refused(lambda: lora(model=other)),
        "another": refused(lambda: lora("another.safetensors")),
        "cut": refused(lambda: lora("cut.safetensors")),
        "incomplete": refused(lambda: lora("incomplete.safetensors")),
        "kohya": refused(lambda: lora("kohya.safetensors")),
        "missing": refused(lambda: lora("nowhere.safetensors")),
        "too_many": refused(lambda: lora(k=5)),
        "no_experts": refused(lambda: node("SaveICEditMeanLoRA", lora="plain.safetensors")),
        "not_recorded": refused(lambda: node("ICEditExpertMap", latent={"samples": LATENT}, layer=0, step=0,
                                             experts=lora(experts="off")[1], opacity=1.0)),
    }  # fmt: skip
    return out | {"hooks": hooks()}


@check
def replaced_forward():
    """Where another pack computes the blocks its own way, the node says so and does not go on without the experts."""
    def other(args, extra):
        return args

    model = lora()[0]
    for i in range(SETTINGS["depth"]):
        model.set_model_patch_replace(other, "dit", "double_block", i)
    for i in range(SETTINGS["depth_single_blocks"]):
        model.set_model_patch_replace(other, "dit", "single_block", i)
    return refused(lambda: forward(model))


@check
def mean_file():
    """The file of the experts' mean, by the core's loader, equals the mode mean; written whole."""
    path = node("SaveICEditMeanLoRA", lora="moe.safetensors")["result"][0]
    folder = FOLDER / "loras"
    core = nodes.LoraLoaderModelOnly().load_lora_model_only(MODEL, "moe_mean.safetensors", 1.0)[0]
    return {"same": away(forward(core), forward(lora(experts="mean")[0])), "path": path,
            "left": [p.name for p in folder.iterdir() if p.name.startswith(".")]}  # fmt: skip
