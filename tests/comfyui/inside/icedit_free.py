"""ICEdit without training on a text-to-image FLUX, against a second way of doing it: hooks on the layers that make the
values, one panel at a time, in a loop of its own."""

import torch
from icedit_flux import (
    IO,
    MODEL,
    SETTINGS,
    Noise,
    away,
    check,
    lora,
    node,
    refused,
    sampled,
    text,
    text_to_image,
)

T2I = text_to_image()
LEVELS = [1.0, 0.8, 0.55, 0.3, 0.1, 0.0]
SIGMAS = torch.tensor(LEVELS)
FORMAT = T2I.model.latent_format
WORDS, WIDTH = IO["encoder_hidden_states"].shape[1], SETTINGS["hidden_size"]


def reference(count=1, height=8, width=8, seed=0):
    """Latents [count, 16, h, w] as a VAE gives them, not too wild."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 16, 3, 3, generator=random)
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")


def inverted(latent=None, solver="euler", store="cpu", injected=1.0, sigmas=SIGMAS, model=T2I, words=None):
    return node("ICEditInvert", model=model, conditioning=words or text(), sigmas=sigmas, solver=solver, store=store,
                latent={"samples": reference() if latent is None else latent}, injected=injected)  # fmt: skip


def made(inversion, seed=1, attention="isolated", words=None, cfg=1.0, model=T2I):
    """The sampled diptych's latent, in the network's scale."""
    model, noise, sampler, sigmas, latent = node(
        "ICEditTrainingFree", model=model, inversion=inversion, seed=seed, attention=attention
    )
    negative = text(8) if cfg != 1 else None
    out = sampled(model, words or text(), latent, sigmas, noise, negative, cfg, sampler)
    return FORMAT.process_in(out["samples"])


class Layers:
    """Hooks on the layers that make the values: keeps those of the picture's tokens, or puts others there."""

    def __init__(self):
        self.kept, self.mode, self.key = {}, None, None
        net = T2I.model.diffusion_model
        qkv = [(f"double{i}", b.img_attn.qkv, 0) for i, b in enumerate(net.double_blocks)]
        qkv += [(f"single{i}", b.linear1, WORDS) for i, b in enumerate(net.single_blocks)]
        self.handles = [layer.register_forward_hook(self.hook(name, first)) for name, layer, first in qkv]

    def hook(self, name, first):
        def run(layer, inputs, output):
            value = output[:, first:, 2 * WIDTH : 3 * WIDTH]
            if self.mode == "keep":
                self.kept[name, self.key] = value.clone()
            if self.mode == "put":
                output[:, first:, 2 * WIDTH : 3 * WIDTH] = self.kept[name, self.key]
            return output

        return run

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for handle in self.handles:
            handle.remove()


def velocity(x, time, words=None):
    tokens, options = (words or text())[0]
    with torch.inference_mode():
        return T2I.model.diffusion_model(
            x, torch.full((len(x),), time), tokens.expand(len(x), -1, -1), options["pooled_output"].expand(len(x), -1),
            torch.full((len(x),), options["guidance"]), transformer_options={})  # fmt: skip


def alone(latent, solver, words=None, put=True):
    """(noise, reconstruction) of one panel: up with values kept, down with them put back. words: on the way down."""
    x, up = FORMAT.process_in(latent), LEVELS[::-1]
    with Layers() as layers:
        for low, high in zip(up, up[1:]):
            layers.mode, layers.key = "keep", high
            v, change = velocity(x, low), high - low
            if solver == "rf-solver":
                layers.key = ("middle", high)
                v = v + change / 2 * ((velocity(x + change / 2 * v, low + change / 2) - v) / (change / 2))
            x = x + change * v
        noise = x
        for high, low in zip(LEVELS, LEVELS[1:]):
            layers.mode, layers.key = "put" if put else None, high
            v, change = velocity(x, high, words), low - high
            if solver == "rf-solver":
                layers.key = ("middle", high)
                v = velocity(x + change / 2 * v, high + change / 2, words)
            x = x + change * v
    return noise, x


@check
def left_is_the_reconstruction():
    """The left panel is the reference's own reconstruction, whatever the right one becomes and the prompt says."""
    out = {}
    for solver in ("euler", "rf-solver"):
        inversion, said = inverted(solver=solver)
        for name, words in (("same", text()), ("other", text(7, guidance=3.5))):
            noise, again = alone(reference(), solver, words)
            result = made(inversion, words=words)
            out[f"{solver}.{name}.noise"] = away(inversion.noise, noise)
            out[f"{solver}.{name}.left"] = away(result[..., :8], again)
            other = made(inversion, seed=2, words=words)
            out[f"{solver}.{name}.seed"] = away(other[..., :8], result[..., :8])
            out[f"{solver}.{name}.right_moves"] = away(other[..., 8:], result[..., 8:])
        _, plain = alone(reference(), solver, text(7), put=False)
        out[f"{solver}.without_values"] = away(plain, alone(reference(), solver, text(7))[1])
    return {**out, "said": said}


@check
def round_trip():
    """On a calmer network: how far the left panel is from the reference, by solver and steps."""
    calm, out = text_to_image(spread=1.0), {}
    for solver in ("euler", "rf-solver"):
        for steps in (4, 16):
            sigmas = torch.linspace(1, 0, steps + 1)
            inversion = inverted(solver=solver, sigmas=sigmas, model=calm)[0]
            left = made(inversion, model=calm)[..., :8]
            out[f"{solver}.{steps}"] = away(left, FORMAT.process_in(reference()))
    return out


@check
def the_panels_see_each_other():
    """The right panel depends on the reference; with full attention the left one depends on the right one too."""
    first, second = inverted()[0], inverted(reference(seed=5))[0]
    right = [made(one)[..., 8:] for one in (first, second)]
    full = [made(first, seed, "full")[..., :8] for seed in (1, 2)]
    return {"right": away(*right), "left": away(*full), "from_isolated": away(full[0], made(first)[..., :8])}


@check
def positions():
    """Both panels' tokens have ids of their own: columns go on to the right."""
    seen = []

    def watch(args):
        seen.append(args["img_ids"].clone())
        return args

    model = T2I.clone()
    model.set_model_post_input_patch(watch)
    made(inverted()[0], model=model)
    ids = seen[-1][0].reshape(4, 8, 3)
    return {"columns": ids[0, :, 2].tolist(), "rows": ids[:, 0, 1].tolist(), "index": float(ids[..., 0].abs().max())}


@check
def batches_and_guidance():
    """Two references equal each alone; a negative prompt's rows get the values too."""
    pair = reference(2)
    both = made(inverted(pair)[0], cfg=2.0)
    noise = torch.Generator().manual_seed(1)
    right = torch.randn(2, 16, 8, 8, generator=noise)
    single = []
    for one, own in zip(pair, right):
        inversion = inverted(one[None])[0]
        model, _, sampler, sigmas, latent = node("ICEditTrainingFree", model=T2I, inversion=inversion, seed=1,
                                                 attention="isolated")  # fmt: skip
        start = Noise(torch.cat([inversion.noise, own[None]], -1))
        result = sampled(model, text(), latent, sigmas, start, text(8), 2.0, sampler)["samples"]
        single.append(FORMAT.process_in(result))
    return {"same": away(both, torch.cat(single)), "shape": list(both.shape)}


@check
def memory():
    """What is kept is what was announced; a part of the steps keeps that part; both stores give the same."""
    whole, said = inverted()
    half, less = inverted(injected=0.4, solver="rf-solver")
    none, _ = inverted(injected=0.0)
    layers = SETTINGS["depth"] + SETTINGS["depth_single_blocks"]
    device = made(inverted(store="device")[0])
    return {"bytes": whole.values.bytes, "expected": 5 * layers * 16 * WIDTH * 4, "said": said,
            "levels": len(half.values.levels), "less": less, "part_runs": away(made(half), made(half)),
            "none": list(made(none).shape), "stores": away(device, made(whole)),
            "parts_differ": away(made(inverted(injected=0.4)[0]), made(whole))}  # fmt: skip


@check
def with_core_sampler():
    """An Euler inversion may be gone down by the core's own Euler."""
    from comfy_extras import nodes_custom_sampler as custom

    inversion, _ = inverted()
    model, noise, _, sigmas, latent = node("ICEditTrainingFree", model=T2I, inversion=inversion, seed=1,
                                           attention="isolated")  # fmt: skip
    core = sampled(model, text(), latent, sigmas, noise, sampler=custom.KSamplerSelect().get_sampler("euler")[0])
    return {"same": away(FORMAT.process_in(core["samples"]), made(inversion))}


@check
def untouched():
    """The MODEL that went in samples as before, and an attention override of another pack is still asked."""
    latent = {"samples": torch.zeros(1, 16, 8, 16)}
    before, calls = sampled(T2I, text(), latent, SIGMAS)["samples"], []
    inversion, _ = inverted()
    again = made(inversion)

    def other(function, *args, **kwargs):
        calls.append(1)
        return function(*args, **kwargs)

    model = T2I.clone()
    model.model_options["transformer_options"]["optimized_attention_override"] = other
    same = made(inversion, model=model)
    return {"bits": bool(torch.equal(before, sampled(T2I, text(), latent, SIGMAS)["samples"])), "calls": len(calls),
            "same": away(same, again), "wrappers": sum(len(w) for w in T2I.wrappers.values())}  # fmt: skip


@check
def bad_use():
    inversion, _ = inverted()
    model, noise, sampler, sigmas, latent = node("ICEditTrainingFree", model=T2I, inversion=inversion, seed=1,
                                                 attention="isolated")  # fmt: skip
    import comfy.model_management as management

    free = management.get_free_memory
    management.get_free_memory = lambda *_, **__: 1000
    try:
        memory = refused(lambda: inverted())
    finally:
        management.get_free_memory = free
    combined = [*text(), *text(3)]
    wrong = torch.tensor([1.0, 0.6, 0.0])
    return {
        "fill": refused(lambda: inverted(model=MODEL)),
        "fill_sampling": refused(lambda: made(inversion, model=MODEL)),
        "t2i_lora": refused(lambda: lora(model=T2I)),
        "odd": refused(lambda: inverted(reference(1, 8, 7))),
        "part": refused(lambda: inverted(sigmas=torch.tensor([0.8, 0.3, 0.0]))),
        "memory": memory,
        "combined": refused(lambda: inverted(words=combined)),
        "sigmas": refused(lambda: sampled(model, text(), latent, wrong, noise, sampler=sampler)),
        "latent": refused(lambda: sampled(model, text(), {"samples": torch.zeros(1, 16, 8, 8)}, sigmas)),
    }  # fmt: skip
