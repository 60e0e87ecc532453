"""Candidates of the early filter on the tiny FLUX.1 Fill, against the core's own runs."""

from contextlib import contextmanager

import comfy.model_management as management
import comfy.samplers
import icedit_graph as graph
import torch
from comfy_extras import nodes_custom_sampler as custom
from icedit_flux import MODEL, away, node, refused
from my_x_pack.models.icedit.judging import JudgeFailed
from my_x_pack.nodes.host import early_filter, memo
from my_x_pack.nodes.host.judges import ModelJudge

CHECKS = {}  # the checks of the other files of this folder are run elsewhere
PICTURE = graph.picture(70, 90)
WORDS = "the sky is green"
DIPTYCH, REGION, PROMPT, RECORD, _ = node("ICEditDiptych", image=PICTURE, **graph.INPUTS)
POSITIVE, NEGATIVE, LATENT = graph.conditioned(DIPTYCH, REGION, PROMPT)
SHORT, FULL = (node("ICEditSchedule", latent=LATENT, steps=n, base_shift=0.5, max_shift=1.15)[0] for n in (3, 7))


def check(function):
    CHECKS[function.__name__] = function
    return function


class Seeing:
    """A model that is asked in words and sees: the edit with more of a colour wins, the first of equal ones."""

    name = "a judge that sees"

    def __init__(self, channel=0, wait=0.0, fails=()):
        self.channel, self.wait, self.fails, self.asked = channel, wait, fails, []

    def ask(self, question, pictures):
        self.asked.append([list(p.shape) for p in pictures])
        if len(self.asked) in self.fails:
            raise JudgeFailed("It is gone.", down=True)
        first, second = (float(p[self.channel].mean()) for p in pictures[:2])
        return f"{1 + (second > first)}: more of it"


def guider(model=MODEL, positive=POSITIVE, negative=None, cfg=1.0, kind=comfy.samplers.CFGGuider):
    made = kind(model)
    made.inner_set_conds({"positive": positive} | ({"negative": negative} if negative else {}))
    made.set_cfg(cfg)
    return made


def sampler(name="euler"):
    return custom.KSamplerSelect().get_sampler(name)[0]


EULER, GUIDER = sampler(), guider()


def filtered(judge=None, **changes):
    """ICEdit Early Filter's outputs by name."""
    inputs = {"guider": GUIDER, "sampler": EULER, "early_sigmas": SHORT, "sigmas": FULL, "latent": LATENT,
              "vae": graph.VAE, "image": PICTURE, "instruction": WORDS, "seed": 100, "candidates": 4, "at_once": 0,
              "record": RECORD}  # fmt: skip
    judge = judge or ModelJudge(Seeing())
    made = node("ICEditEarlyFilter", judge=judge, **{**inputs, **changes})
    names = ("seed", "noise", "latent", "images", "sheet", "report", "nfe")
    return dict(zip(names, made, strict=True))


def alone(seed, sigmas=SHORT, noise=None, latent=LATENT, **changes):
    """(samples, clean predictions by step) of a run of the core's SamplerCustomAdvanced with RandomNoise(seed)."""
    inputs = {"guider": GUIDER, "sampler": EULER, **changes}
    noise = noise or custom.RandomNoise().get_noise(seed)[0]
    with predictions() as seen, torch.inference_mode():
        out = custom.SamplerCustomAdvanced().sample(noise, inputs["guider"], inputs["sampler"], sigmas, latent)[0]
    return out["samples"], seen


@contextmanager
def predictions():
    """What the network is asked and what it predicts, call by call, of any sampling in the block."""
    seen, original = [], comfy.samplers.CFGGuider.predict_noise

    def predict(self, x, timestep, model_options=None, seed=None):
        made = original(self, x, timestep, model_options or {}, seed)
        seen.append(made.clone())
        return made

    comfy.samplers.CFGGuider.predict_noise = predict
    try:
        yield seen
    finally:
        comfy.samplers.CFGGuider.predict_noise = original


def candidates(**changes):
    """[M, …] latents of the candidates by the host's own call, without what was remembered."""
    memo.forget()
    given = {"guider": GUIDER, "sampler": EULER, "sigmas": SHORT, "latent": LATENT, "at_once": 0, "seeds": (5, 6, 7),
             **changes}  # fmt: skip
    run = early_filter.Run(given["guider"], given["sampler"], given["sigmas"], given["latent"])
    with predictions() as seen, torch.inference_mode():
        made = early_filter.candidates(run, given["seeds"], given["at_once"], lambda *_: None)
    return made, [len(p) for p in seen]


def against_alone(seeds=(5, 6, 7), **changes):
    """How far candidates are from runs of their own, and how many the network saw at once."""
    made, rows = candidates(seeds=seeds, **changes)
    changes.pop("at_once", None)
    own = torch.cat([alone(seed, **changes)[0] for seed in seeds])
    return {"away": away(made.samples, own), "rows": rows, "differ": away(own[:1], own[1:2])}


@check
def equal_to_runs_of_their_own():
    ancestral, heun = sampler("euler_ancestral"), sampler("heun")
    masked = {**LATENT, "noise_mask": REGION}
    several = {**LATENT, "noise_mask": torch.cat([REGION, 1 - REGION])}
    flat = {**LATENT, "noise_mask": REGION[0]}
    empty = {"samples": torch.zeros(1, 4, *LATENT["samples"].shape[2:])}
    indexed = {**LATENT, "batch_index": [3]}
    two = [[torch.cat([POSITIVE[0][0], 2 * POSITIVE[0][0]]), POSITIVE[0][1]]]
    second = node("ICEditDiptych", image=graph.picture(70, 90, seed=9), **graph.INPUTS)
    hidden = [one[0][1]["concat_latent_image"] for one in (POSITIVE, graph.conditioned(*second[:2])[0])]
    concat = {**POSITIVE[0][1], "concat_latent_image": torch.cat(hidden)}
    scaled = guider(positive=POSITIVE, negative=NEGATIVE, cfg=3.0)
    return {
        "batch": against_alone(), "two_at_once": against_alone(at_once=2), "one_by_one": against_alone(at_once=1),
        "heun": against_alone(sampler=heun), "ancestral": against_alone(sampler=ancestral),
        "masked": against_alone(latent=masked), "several_masks": against_alone(latent=several),
        "flat_mask": against_alone(latent=flat), "empty": against_alone(latent=empty),
        "indexed": against_alone(latent=indexed), "two_prompts": against_alone(guider=guider(positive=two)),
        "two_pictures": against_alone(guider=guider(positive=[[POSITIVE[0][0], concat]])),
        "cfg": against_alone(guider=scaled), "last_seeds": against_alone(seeds=(2**64 - 1, 0)),
    }  # fmt: skip


@check
def noise():
    """Row by row the noise of the core's RandomNoise; and the NOISE output is that of the winner."""
    run = early_filter.Run(GUIDER, EULER, SHORT, LATENT)
    core = [custom.RandomNoise().get_noise(seed)[0].generate_noise(LATENT) for seed in (100, 101)]
    made = filtered()
    generated = made["noise"].generate_noise(LATENT)
    won = custom.RandomNoise().get_noise(made["seed"])[0].generate_noise(LATENT)
    return {"rows": [bool(torch.equal(run.noise(100 + i), core[i])) for i in range(2)],
            "winner": bool(torch.equal(generated, won)) and made["noise"].seed == made["seed"]}  # fmt: skip


@check
def restart():
    """Where the schedules agree, the full run's first m predictions are the candidate's; and it can be carried on."""
    prefix, rest = FULL[:4], FULL[3:]
    memo.forget()
    with predictions() as early:
        made = filtered(early_sigmas=prefix)
    row = made["seed"] - 100
    full, seen = alone(None, FULL, made["noise"])
    on, _ = alone(None, rest, custom.DisableNoise().get_noise()[0], made["latent"])
    shown = graph.VAE.decode(MODEL.model.process_latent_out(early[2][row : row + 1]))
    picture = node("ICEditUncrop", diptych=shown, record=RECORD, feather=0)[0]
    return {"predictions": [away(early[i][row : row + 1], seen[i]) for i in range(3)], "calls": [len(early), len(seen)],
            "moved": away(seen[2], seen[0]), "carried_on": away(on, full), "nfe": made["nfe"],
            "shown": away(made["images"][row : row + 1], picture)}  # fmt: skip


class Tight(comfy.samplers.CFGGuider):
    """A device that holds two candidates at a time."""

    def outer_sample(self, noise, *args, **kwargs):
        self.tried = [*getattr(self, "tried", []), len(noise)]
        if len(noise) > 2:
            raise torch.cuda.OutOfMemoryError("full")
        return super().outer_sample(noise, *args, **kwargs)


@check
def memory():
    """Too many at once are halved; ComfyUI's own estimate bounds them beforehand; and one too large is an error."""
    tight = guider(kind=Tight)
    made, rows = candidates(guider=tight, seeds=tuple(range(5)))
    reference, _ = candidates(seeds=tuple(range(5)), at_once=1)
    total, out = management.get_total_memory, {}
    needed = int(MODEL.memory_required([2, *LATENT["samples"].shape[1:]])) + 1
    for name, room in (("two", needed), ("none", 0)):
        free = MODEL.model_size() + management.extra_reserved_memory() + room
        management.get_total_memory = lambda *_, free=free: free
        try:
            out[name] = candidates(seeds=tuple(range(4)))[1]
            out[f"{name}_forced"] = candidates(seeds=tuple(range(4)), at_once=4)[1]
        finally:
            management.get_total_memory = total

    class Full(Tight):
        def outer_sample(self, *args, **kwargs):
            raise torch.cuda.OutOfMemoryError("full")

    return {"tried": tight.tried, "rows": rows, "same": away(made.samples, reference.samples), **out,
            "full": refused(lambda: candidates(guider=guider(kind=Full)))}  # fmt: skip


@check
def untouched():
    """A run without our node is bit for bit what it was before, and neither model nor inputs have changed."""
    state = {k: v.clone() for k, v in MODEL.model.state_dict().items()}
    before, options = alone(4)[0], str(GUIDER.model_options)
    kept = {k: v.clone() for k, v in LATENT.items()}
    filtered(seed=300)
    after = alone(4)[0]
    return {"same": bool(torch.equal(before, after)), "options": options == str(GUIDER.model_options),
            "weights": all(torch.equal(v, state[k]) for k, v in MODEL.model.state_dict().items()),
            "latent": LATENT.keys() == kept.keys() and bool(torch.equal(LATENT["samples"], kept["samples"])),
            }  # fmt: skip
