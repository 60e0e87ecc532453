"""Further checks of Kontext's nodes: reuse, and everything else on a MODEL that they have to live with."""

import gc

import comfy.controlnet
import comfy.ldm.flux.controlnet
import comfy.ops
import comfy.sd
import kontext_flux as kit
import torch
from comfy import model_management as management
from kontext_flux import (
    LIVELY,
    Spy,
    applied,
    away,
    check,
    native,
    raw,
    referred,
    refused,
    reused,
    same,
    sampled,
    text,
)
from my_x_pack.models.kontext import reuse as keeping

import nodes

GUIDED, PICTURE = {"cfg": 2.0}, torch.zeros(1, 16, 16, 3)


def two(**changes):
    return referred(referred(text(), "ref1", **changes), "ref3")


@check
def reuse():
    """Reuse against the same without: equal where nothing is reused, near where it is, and the tokens of each step."""
    core = sampled(LIVELY, native(text(), "ref1", "ref3"), steps=6)
    guided = sampled(LIVELY, native(text(), "ref1", "ref3"), native(text(7), "ref2"), steps=6, **GUIDED)
    negative = referred(text(7), "ref2")
    out = {"off": same(sampled(reused(LIVELY, 1)[0], two(), steps=6), core),
           "off_guided": same(sampled(reused(LIVELY, 1)[0], two(), negative, steps=6, **GUIDED), guided),
           "no_references": same(sampled(reused(LIVELY, 3)[0], text(), **GUIDED), sampled(LIVELY, text(), **GUIDED))}
    core_once = sampled(LIVELY, native(text(), "ref1", "ref3"), steps=1)
    out["fill"] = same(sampled(reused(LIVELY, 3)[0], two(), steps=1), core_once)
    for name, options in (("two", {}), ("three", {"refresh": 3}), ("never", {"refresh": 0}), ("cpu", {"store": "cpu"}),
                          ("fp8", {"store": "fp8"}), ("tight", {"refresh": 0, "threshold": 1e-9}),
                          ("loose", {"refresh": 0, "threshold": 1e9})):  # fmt: skip
        spy = Spy(reused(LIVELY, **options)[0])
        made = sampled(spy.model, two(), steps=6)
        out[name] = {"away": away(made, core), "tokens": spy.tokens}
    made = {store: sampled(reused(LIVELY, store=store)[0], two(), steps=6) for store in ("device", "cpu")}
    out["cpu_is_device"] = same(*made.values())
    out["guided"] = away(sampled(reused(LIVELY)[0], two(), negative, steps=6, **GUIDED), guided)
    batch = native(text(), "ref1", "ref3")
    out["batch"] = away(sampled(reused(LIVELY)[0], two(), steps=6, batch=2), sampled(LIVELY, batch, steps=6, batch=2))
    out["heun"] = away(sampled(reused(LIVELY)[0], two(), sampler="heun"), sampled(LIVELY, batch, sampler="heun"))
    return out


@check
def reuse_composes():
    """With strength, masks and a window, reuse stays near the same without; a strict mask stays exact."""
    region = torch.zeros(6, 8)
    region[2:4, 3:6] = 1
    mask = torch.zeros(6, 8)
    mask[:, :4] = 1
    out = {}
    window = {"start_percent": 0.3, "end_percent": 0.8}
    for name, changes in (("strength", {"strength": 0.5}), ("mask", {"mask": mask}),
                          ("target", {"target_mask": region}), ("window", window)):  # fmt: skip
        plain, spy = sampled(applied(LIVELY), two(**changes), steps=6), Spy(reused(LIVELY, 3)[0])
        made = sampled(spy.model, two(**changes), steps=6)
        out[name] = {"away": away(made, plain), "tokens": spy.tokens}
    latents = (raw(kit.REFS["ref1"]), raw(kit.REFS["ref1"].flip(2)))
    made = [sampled(reused(LIVELY)[0], referred(text(), x, target_mask=region), cfg=2.0) for x in latents]
    where = torch.zeros(12, 16, dtype=torch.bool)
    where[4:8, 6:12] = True
    out["outside"], out["inside"] = same(*(x[..., ~where] for x in made)), away(*(x[..., where] for x in made))
    return out


@check
def reuse_info():
    """What the node says of memory, what the log says after a run, and what a run has kept."""
    model, info = reused(LIVELY, 2, conditioning=two())
    held = []
    sampled(model, two(), callback=lambda *_: held.append(sum(e.bytes for e in entries())))
    return {"info": info, "none": reused(LIVELY, 1)[1], "single": reused(LIVELY, 2, store="fp8")[1], "held": held,
            "left": len(entries())}  # fmt: skip


def entries():
    gc.collect()
    return [x for x in gc.get_objects() if type(x) is keeping.Entry]


@check
def clones():
    """A run of one clone within a run of another, each against itself alone; and their settings."""
    base = reused(LIVELY, 3)[0]
    one, other = base.clone(), base.clone()
    alone = sampled(one, two()), sampled(other, referred(text(3), "ref2"), size=(8, 8))
    inner = []

    def callback(step, *_):
        if step == 1:
            current = LIVELY.model.current_patcher  # the core keeps one, and puts none back
            inner.append(sampled(other, referred(text(3), "ref2"), size=(8, 8)))
            LIVELY.model.current_patcher = current

    outer = sampled(one, two(), callback=callback)
    changed = reused(one, 1)[0]
    return {"outer": same(outer, alone[0]), "inner": same(inner[0], alone[1]), "left": len(entries()),
            "settings": same(sampled(changed, two()), sampled(LIVELY, native(text(), "ref1", "ref3"))),
            "unchanged": same(sampled(one, two()), alone[0])}  # fmt: skip


@check
def interrupted():
    """Cancelling in the middle of a run: what is raised, what is left, and what the next run gives."""
    model, told, held = reused(LIVELY, 3)[0], [], []  # ComfyUI keeps a guider, and with it its conditionings
    whole = sampled(model, two())

    def callback(step, *_):
        if step == 1:
            told.append(len(entries()))
            raise management.InterruptProcessingException

    try:
        sampled(model, two(), callback=callback, held=held)
    except management.InterruptProcessingException:
        told.append("interrupted")
    told.append(len(entries()))
    hooks = LIVELY.model_options["transformer_options"], LIVELY.wrappers
    return {"told": told, "again": same(sampled(model, two()), whole), "hooks": [str(h) for h in hooks]}


@check
def untouched():
    """A graph without the nodes, before and after one with them on the same network."""
    def core():
        return sampled(LIVELY, native(text(), "ref1"), text(7), **GUIDED)

    before = core()
    sampled(reused(LIVELY)[0], two(strength=0.5), **GUIDED)
    return same(core(), before)


def control():
    """A tiny FLUX ControlNet of ComfyUI's own class, on a picture."""
    settings = {**kit.SETTINGS["comfy_params"], "depth": 1, "depth_single_blocks": 1}
    net = comfy.ldm.flux.controlnet.ControlNetFlux(dtype=torch.float32, device="cpu", operations=comfy.ops.manual_cast,
                                                   **settings)  # fmt: skip
    random = torch.Generator().manual_seed(9)
    net.load_state_dict({k: torch.randn(v.shape, generator=random) * 0.3 / max(v.shape[-1], 1) ** 0.5
                         for k, v in net.state_dict().items()})  # fmt: skip
    place = management.get_torch_device()
    made = comfy.controlnet.ControlNet(net, load_device=place, extra_conds=["y", "guidance"])
    return made, torch.rand(1, 96, 128, 3, generator=random)


@check
def controlnet():
    net, hint = control()

    def controlled(conditioning):
        return nodes.ControlNetApplyAdvanced().apply_controlnet(conditioning, text(7), net, hint, 1.0, 0.0, 1.0)

    core, ours, plain = (sampled(model, *controlled(c), **GUIDED) for model, c in (
        (LIVELY, native(text(), "ref1")), (applied(LIVELY), referred(text())), (LIVELY, text())))  # fmt: skip
    half = sampled(applied(LIVELY), *controlled(referred(text(), strength=0.5)), **GUIDED)
    kept = sampled(reused(LIVELY)[0], *controlled(two()), **GUIDED)
    full = sampled(LIVELY, *controlled(native(text(), "ref1", "ref3")), **GUIDED)
    return {"same": same(core, ours), "it_matters": away(core, sampled(LIVELY, native(text(), "ref1"), **GUIDED)),
            "half": away(half, core), "reuse": away(kept, full), "plain": away(plain, core)}  # fmt: skip


@check
def lora():
    """A LoRA by the core's loader, before and after Kontext Apply."""
    random, width = torch.Generator().manual_seed(4), kit.SETTINGS["comfy_params"]["hidden_size"]
    name = "diffusion_model.double_blocks.0.img_attn.proj"
    state = {f"{name}.lora_down.weight": torch.randn(2, width, generator=random),
             f"{name}.lora_up.weight": torch.randn(width, 2, generator=random)}  # fmt: skip

    def adapted(model):
        return comfy.sd.load_lora_for_models(model, None, state, 0.5, 0.0)[0]

    core = sampled(adapted(LIVELY), native(text(), "ref1"))
    return {"before": same(sampled(applied(adapted(LIVELY)), referred(text())), core),
            "after": same(sampled(adapted(applied(LIVELY)), referred(text())), core),
            "it_matters": away(core, sampled(LIVELY, native(text(), "ref1")))}  # fmt: skip


@check
def override():
    """An attention override that was there before: it is called, and what it does counts."""
    calls = []

    def halved(function, *args, **kwargs):
        calls.append(args[0].shape[2])
        return function(*args, **kwargs) * 0.5

    def overridden(model):
        clone = model.clone()
        clone.model_options["transformer_options"]["optimized_attention_override"] = halved
        return clone

    core = sampled(overridden(LIVELY), native(text(), "ref1"))
    made = {"same": same(sampled(applied(overridden(LIVELY)), referred(text())), core)}
    for name, model, conditioning in (("strength", applied(overridden(LIVELY)), referred(text(), strength=0.5)),
                                      ("reuse", reused(overridden(LIVELY))[0], two())):  # fmt: skip
        calls.clear()
        sampled(model, conditioning)
        made[name] = len(calls)
    net = LIVELY.model.diffusion_model
    return made | {"layers": len(net.double_blocks) + len(net.single_blocks)}


@check
def redux():
    """attention_mask and references: the core fails; ours with a mask of zeros is as without one, and a bias counts."""
    count = kit.WORDS.shape[1] + 1

    def masked(conditioning, bias):
        mask = torch.zeros(1, count, count)
        mask[:, 2:, :2] = bias  # as a style model's: all others see two words of the text less
        return [[c[0], {**c[1], "attention_mask": mask, "attention_mask_img_shape": (1, 1)}] for c in conditioning]

    core = refused(lambda: sampled(LIVELY, masked(native(text(), "ref1"), 0.0)))
    plain = sampled(LIVELY, native(text(), "ref1"))
    made = {bias: sampled(applied(LIVELY), masked(referred(text()), bias)) for bias in (0.0, -2.0, -30.0)}
    half = referred(text(), strength=0.5)
    return {"core": core, "zero": away(made[0.0], plain), "bias": away(made[-2.0], plain),
            "hidden": away(made[-30.0], made[-2.0]),
            "strength": away(sampled(applied(LIVELY), masked(half, 0.0)), sampled(applied(LIVELY), half)),
            "reuse": away(sampled(reused(LIVELY)[0], masked(two(), 0.0)), sampled(reused(LIVELY)[0], two())),
            "alone": same(*(sampled(model, masked(text(), -2.0)) for model in (applied(LIVELY), LIVELY)))}  # fmt: skip


def pretended(name):
    """A MODEL whose network is of a class of that name."""
    model = LIVELY.clone()
    model.add_object_patch("diffusion_model", type(name, (torch.nn.Module,), {})())
    return model


@check
def refusals():
    import editmgt_core

    nan = raw(kit.REFS["ref1"]).clone()
    nan[0, 0, 0, 0] = float("nan")
    wrong = [[text()[0][0], {**referred(text())[0][1], "reference_latents": [torch.zeros(1, 16, 4, 4)]}]]
    total = management.get_total_memory
    out = {
        "without_apply": refused(lambda: sampled(LIVELY, referred(text()))),
        "other_model_without_apply": refused(lambda: nodes.common_ksampler(
            editmgt_core.MODEL, 1, 1, 1.0, "euler", "simple", referred(text()), text(),
            {"samples": torch.zeros(1, 4, 8, 8)})),
        "stable_diffusion": refused(lambda: applied(editmgt_core.MODEL)),
        "nunchaku": refused(lambda: applied(pretended("NunchakuFluxTransformer"))),
        "other": refused(lambda: applied(pretended("Chroma"))),
        "fill": refused(lambda: applied(kit.make_model(in_channels=96))),
        "sd_reference": refused(lambda: sampled(applied(), referred(text(), torch.ones(1, 4, 8, 8)))),
        "sd_target": refused(lambda: sampled(applied(), referred(text()), noise=torch.ones(1, 4, 8, 8))),
        "nan": refused(lambda: referred(text(), nan)),
        "native_nan": refused(lambda: sampled(applied(), text(reference_latents=[nan]))),
        "exchanged": refused(lambda: sampled(applied(), wrong)),
        "limit": refused(lambda: sampled(reused(LIVELY, 2, limit=1e-5)[0], two())),
        "both": refused(lambda: referred(text(), image=PICTURE, latent={"samples": raw(kit.REFS["ref1"])})),
        "neither": refused(lambda: referred(text(), image=None)),
        "no_vae": refused(lambda: referred(text(), image=PICTURE)),
        "window": refused(lambda: referred(text(), start_percent=0.8, end_percent=0.2)),
        "masks": refused(lambda: referred(text(), mask=torch.ones(2, 8, 8))),
        "budget": refused(lambda: referred(text(), torch.zeros(1, 16, 128, 128), megapixels=0.25)),
    }  # fmt: skip
    management.get_total_memory = lambda *a, **k: 2**20
    try:
        out["memory"] = refused(lambda: sampled(applied(), two()))
    finally:
        management.get_total_memory = total
    out["left"] = len(entries())
    return out


@check
def replaced_forward():
    """Another pack's FLUX forward that passes by the hooks is told of, not sampled as if nothing were."""
    def bypass(executor, x, timestep, context, *args, **kwargs):
        return x

    model = applied(LIVELY)
    kind = kit.comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL
    model.add_wrapper_with_key(kind, "zz_other", bypass)
    return refused(lambda: sampled(model, referred(text())))
