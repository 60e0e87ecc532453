"""Kontext's nodes on ComfyUI's own FLUX: every check writes what it found; tests/comfyui/test_kontext.py judges it.

python kontext.py COMFYUI PACK FOLDER FIXTURES [gpu|gpu-only]: FOLDER gets results.json.
"""

import json
import traceback

import kontext_flux as kit
import torch
from kontext_flux import (
    LIVELY,
    RECORDED,
    Spy,
    applied,
    away,
    check,
    native,
    node,
    raw,
    referred,
    refused,
    same,
    sampled,
    text,
)

CASES = {
    "t2i": ([], "index"), "single": (["ref1"], "index"), "single_diffsize": (["ref2"], "index"),
    "multi_index": (["ref1", "ref2", "ref3"], "index"), "multi_offset": (["ref1", "ref2", "ref3"], "offset"),
    "multi_uxo": (["ref1", "ref2"], "uxo"),
}  # fmt: skip
X = (12, 16)  # of the fixtures' target; 6 x 8 tokens


def chained(names, conditioning=None, **changes):
    conditioning = conditioning or text()
    for name in names:
        conditioning = referred(conditioning, name, **changes)
    return conditioning


@check
def fixtures():
    """Velocities and ids of every recorded case: one Euler step from sigma .73 through the nodes."""
    sigma, out = float(RECORDED["timestep"]), {}
    for name, (names, placement) in CASES.items():
        if f"{name}.velocity" not in RECORDED:
            continue
        spy = Spy(applied())
        conditioning = chained(names, text(), placement=placement)
        sampled(spy.model, conditioning, sigmas=torch.tensor([sigma, 0.0]), noise=RECORDED["x"] / sigma)
        ids = RECORDED[f"{name}.img_ids"]
        wrong = int((spy.ids[0] != ids).sum()) if spy.ids[0].shape == ids.shape else -1
        out[name] = [away(spy.velocities[0], RECORDED[f"{name}.velocity"]), wrong, str(spy.ids[0].dtype)]
    return out


@check
def loops():
    """The recorded loops of four steps with Kontext Schedule's sigmas."""
    out = {}
    sigmas, mu = node("Schedule", steps=4, shift="tokens", width=64, height=64, tokens=48, mu=0.0, alpha=1.0, sigma=1.0,
                      base_shift=0.5, max_shift=1.15, start=1.0)  # fmt: skip
    by_latent = node("Schedule", steps=4, shift="size", width=8192, height=64, tokens=1, mu=0.0, alpha=1.0, sigma=1.0,
                     base_shift=0.5, max_shift=1.15, start=1.0, latent={"samples": RECORDED["x"]})[0]  # fmt: skip
    for name, names in (("loop4", ["ref1", "ref2"]), ("loop4_single", ["ref1"])):
        if f"{name}.final_latent" in RECORDED:
            made = sampled(applied(), chained(names, placement="index"), sigmas=sigmas, noise=RECORDED["x"])
            out[name] = [away(made, RECORDED[f"{name}.final_latent"]), same(sigmas, by_latent)]
            if "loop4.timesteps" in RECORDED:
                out[name].append(away(sigmas, RECORDED["loop4.timesteps"].flatten()))
    return out


@check
def schedule():
    """Kontext Schedule against the core's default at 512 px: how far the latter is off."""
    ours = node("Schedule", steps=28, shift="size", width=512, height=512, tokens=1, mu=0.0, alpha=1.0, sigma=1.0,
                base_shift=0.5, max_shift=1.15, start=1.0)[0]  # fmt: skip
    core = kit.comfy.samplers.calculate_sigmas(kit.MODEL.get_model_object("model_sampling"), "simple", 28)
    return float((ours - core).abs().max())


def identity(model, way="one", **options):
    """(core, ours) of the same graph with core's reference and with ours at strength 1."""
    with_core, with_ours = native(text(), "ref1"), referred(text(), "ref1")
    if way == "two":
        with_core, with_ours = native(with_core, "ref3"), referred(with_ours, "ref3")
    if way == "mixed":
        with_core = native(with_core, "ref2", "ref3")
        with_ours = native(referred(native(text(), "ref1"), "ref2"), "ref3")
    if way in ("index", "uxo"):
        with_core = native(text(), "ref1", "ref2", method=way)
        with_ours = chained(["ref1", "ref2"], placement=way)
    return sampled(model, with_core, **options), sampled(applied(model), with_ours, **options)


@check
def strength_one():
    guided = {"cfg": 2.0, "negative": native(text(7), "ref2")}
    out = {way: same(*identity(LIVELY, way)) for way in ("one", "two", "mixed", "index", "uxo")}
    out["guided"] = same(sampled(LIVELY, native(text(), "ref1"), **guided),
                         sampled(applied(LIVELY), referred(text()), cfg=2.0, negative=referred(text(7), "ref2")))
    out["only_positive"] = same(sampled(LIVELY, native(text(), "ref1"), cfg=2.0),
                                sampled(applied(LIVELY), referred(text()), cfg=2.0))
    out["bf16"] = same(*identity(kit.make_model(torch.bfloat16, 3.0)))
    out["batch"] = same(*identity(LIVELY, "two", batch=2))
    out["native_chain"] = same(sampled(LIVELY, native(text(), "ref1", "ref3")),
                               sampled(applied(LIVELY), native(text(), "ref1", "ref3")))
    out["odd"] = same(*identity(LIVELY, size=(11, 15)))
    core, _ = identity(LIVELY)
    out["it_matters"] = away(core, sampled(LIVELY, text()))
    return out


@check
def strength_zero():
    nothing = sampled(LIVELY, text(), cfg=2.0)
    black = torch.zeros(8, 8)
    return {
        "apply_alone": same(sampled(applied(LIVELY), text(), cfg=2.0), nothing),
        "zero": same(sampled(applied(LIVELY), referred(text(), strength=0.0), cfg=2.0), nothing),
        "black_mask": same(sampled(applied(LIVELY), referred(text(), mask=black), cfg=2.0), nothing),
        "black_target": same(sampled(applied(LIVELY), referred(text(), target_mask=black), cfg=2.0), nothing),
        "never": same(sampled(applied(LIVELY), referred(text(), start_percent=1.0), cfg=2.0), nothing),
        "zero_beside_another": same(
            sampled(applied(LIVELY), referred(referred(text(), "ref2", strength=0.0), "ref1")),
            sampled(LIVELY, native(text(), "ref1")),
        ),
    }  # fmt: skip


@check
def strength_between():
    """How far the result is from the core's at strength 1, for strengths around it; and near 0 from none."""
    one, none = sampled(LIVELY, native(text(), "ref1")), sampled(LIVELY, text())
    made = {w: sampled(applied(LIVELY), referred(text(), strength=w)) for w in (1e-4, 0.25, 0.5, 0.999, 2.0)}
    return {name: {w: away(x, end) for w, x in made.items()} for name, end in (("to_one", one), ("to_none", none))}


REGION = torch.zeros(96, 128)
REGION[32:64, 48:96] = 1  # rows 2-3 and columns 3-5 of 6 x 8 tokens


def changes(confine, cfg=2.0, before=(), negative=None, steps=3, **options):
    """(outside equal, inside differs) when a reference with a target mask is exchanged."""
    made = [
        sampled(applied(LIVELY), referred(chained(before), name, target_mask=REGION, confine=confine, **options),
                cfg=cfg, negative=negative, steps=steps)
        for name in (REFERENCE, OTHER)
    ]  # fmt: skip
    where = torch.zeros(X, dtype=torch.bool)
    where[4:8, 6:12] = True
    return away(*(x[..., where] for x in made)), same(*(x[..., ~where] for x in made))


REFERENCE, OTHER = raw(kit.REFS["ref1"]), raw(kit.REFS["ref1"].flip(2) * 2)


@check
def target_mask():
    """Largest change inside, and whether outside is equal bit for bit."""
    grey = REGION * 0.4
    both = referred(text(), raw(kit.REFS["ref2"]), target_mask=1 - REGION)
    again = [sampled(applied(LIVELY), referred(both, name, target_mask=grey), cfg=2.0) for name in (REFERENCE, OTHER)]
    return {
        "strict": changes("strict"), "unguided": changes("strict", cfg=1.0),
        "strength": changes("strict", strength=0.5),
        "beside_others": changes("strict", before=["ref2", "ref3"]), "late": changes("strict", start_percent=0.5),
        "ended": changes("strict", end_percent=0.4, steps=4),
        "negative_too": changes("strict", negative=referred(text(7), "ref1", target_mask=REGION)),
        "direct": changes("direct"),
        "other_region": [away(*again), False],
        "white_is_none": same(sampled(applied(LIVELY), referred(text(), target_mask=torch.ones(5, 5))),
                              sampled(LIVELY, native(text(), "ref1"))),
    }  # fmt: skip


@check
def reference_mask():
    """What is black in a reference's mask may hold anything; its tokens are not computed."""
    mask = torch.zeros(96, 128)
    mask[:48] = 1
    other = raw(kit.REFS["ref1"]).clone()
    other[:, :, 6:] = 3.0
    spies = [Spy(applied(LIVELY)) for _ in range(2)]
    made = [sampled(spy.model, referred(text(), latent, mask=mask)) for spy, latent in
            zip(spies, (raw(kit.REFS["ref1"]), other), strict=True)]  # fmt: skip
    grey = sampled(applied(LIVELY), referred(text(), mask=mask * 0.5 + 0.2))
    whole = sampled(LIVELY, native(text(), "ref1"))
    return {"equal": same(*made), "tokens": spies[0].tokens[0], "whole": away(made[0], whole),
            "grey": away(grey, made[0])}  # fmt: skip


@check
def window():
    """Image tokens of each of four steps."""
    def counts(**options):
        spy = Spy(applied(LIVELY))
        sampled(spy.model, referred(chained(["ref2"]), "ref1", **options))
        return spy.tokens

    return {"start": counts(start_percent=0.5), "end": counts(end_percent=0.5), "both": counts()}


class Vae:
    """Stands in for FLUX's VAE: notes the pictures' sizes, and gives a latent of the right size."""

    def __init__(self):
        self.seen = []

    def encode(self, pixels):
        self.seen.append(list(pixels.shape))
        small = torch.nn.functional.avg_pool2d(pixels.movedim(-1, 1), 8).mean(1, keepdim=True)
        return small.repeat(1, 16, 1, 1)

    def decode(self, latent):
        return torch.nn.functional.interpolate(latent[:, :3], scale_factor=8).movedim(1, -1)


@check
def budget():
    """Pixels that are encoded, and the tokens that are sampled, of a 100 x 200 picture and of a 2-megapixel one."""
    out, random = {}, torch.Generator().manual_seed(3)
    large = (1000, 1500)
    for name, size, megapixels in (("small", (100, 200), 0.25), ("free", large, 0.0), ("large", large, 0.25)):
        vae, image = Vae(), torch.rand(1, *size, 3, generator=random)
        mask = torch.zeros(size)
        mask[:, : size[1] // 2] = 1
        conditioning, latent = node("Reference", conditioning=text(), image=image, vae=vae, mask=mask,
                                    **{**kit.DEFAULTS, "megapixels": megapixels})  # fmt: skip
        out[name] = [vae.seen, list(latent["samples"].shape), float(conditioning[0][1]["kontext_refs"][0].mask.mean())]
    vae = Vae()
    latent = node("Reference", conditioning=text(), latent={"samples": torch.zeros(1, 16, 128, 128)}, vae=vae,
                  **{**kit.DEFAULTS, "megapixels": 0.25})[1]["samples"]  # fmt: skip
    out["latent"] = [vae.seen, list(latent.shape)]
    return out


@check
def fp32_ids():
    """Distinct columns among the ids of a target 320 tokens wide in bf16: ours and the core's."""
    model, out = kit.make_model(torch.bfloat16), {}
    for name, one in (("core", model), ("ours", applied(model))):
        spy = Spy(one)
        spied = native(text(), "ref1") if name == "core" else referred(text())
        sampled(spy.model, spied, steps=1, size=(2, 640))
        out[name] = len(spy.ids[0][0, :320, 2].unique())
    return out


@check
def guidance():
    """Positive and negative with references of their own, against each alone."""
    spies = [Spy(applied(LIVELY)) for _ in range(3)]
    positive, negative = referred(text(), "ref1", strength=0.5), referred(text(7), "ref1", strength=2.0)
    sampled(spies[0].model, positive, negative, cfg=2.0, steps=1)
    sampled(spies[1].model, positive, steps=1)
    sampled(spies[2].model, negative, steps=1)
    together = sorted(spies[0].velocities, key=lambda v: away(v, spies[1].velocities[0]))
    alone = [spy.velocities[0] for spy in spies[1:]]
    return {"positive": same(together[0], alone[0]), "negative": same(together[1], alone[1]),
            "apart": away(together[0], together[1]), "passes": spies[0].rows}  # fmt: skip


@check
def area():
    """A reference with a target mask in a conditioning for the right half only: its left half is as without it."""
    def right(conditioning):
        return [[conditioning[0][0], {**conditioning[0][1], "area": (12, 8, 0, 8), "strength": 1.0}]]

    spy = Spy(applied(LIVELY))
    made = sampled(spy.model, text(3) + right(referred(text(), "ref1", target_mask=REGION)), steps=2)
    plain = sampled(applied(LIVELY), text(3) + right(text()), steps=2)
    where = torch.zeros(X, dtype=torch.bool)
    where[4:8, 8:12] = True
    return {"tokens": sorted(set(spy.tokens)), "inside": away(made[..., where], plain[..., where])}


def placed():
    """Every way through the nodes on the pretended GPU: the devices of the results."""
    mask, out = torch.zeros(6, 8), {}
    mask[2:4, 3:6] = 1
    bias = torch.zeros(1, 8, 8)
    masked = [[c[0], {**c[1], "attention_mask": bias, "attention_mask_img_shape": (1, 1)}] for c in referred(text())]
    ways = {"plain": referred(text()), "strength": referred(text(), strength=0.5), "mask": referred(text(), mask=mask),
            "strict": referred(text(), target_mask=mask * 0.5), "redux": masked,
            "direct": referred(text(), target_mask=mask, confine="direct")}  # fmt: skip
    for name, conditioning in ways.items():
        for store in ("none", "device", "cpu", "fp8"):
            model = applied(LIVELY) if store == "none" else kit.reused(LIVELY, store=store)[0]
            spy = Spy(model)
            sampled(spy.model, conditioning, cfg=2.0, steps=2)
            out[f"{name}.{store}"] = sorted({x.device.type for x in (*spy.velocities, *spy.ids)})
    there = torch.ones(2).to(kit.comfy.model_management.get_torch_device())
    return out | {"noticed": refused(lambda: there + torch.ones(2))}


def main():
    import kontext_together  # noqa: F401 - registers further checks

    results = {}
    for name, run in (kit.CHECKS if kit.PLACE == "cpu" else {"placed": placed}).items():
        try:
            with torch.inference_mode():  # as the server does
                results[name] = run()
        except Exception:
            results[name] = {"crashed": traceback.format_exc()[-3000:]}
    name = "results.json" if kit.PLACE == "cpu" else f"results_{kit.PLACE}.json"
    (kit.FOLDER / name).write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
