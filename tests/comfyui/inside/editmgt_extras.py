"""More of EditMGT's checks inside ComfyUI: LoRA, atlas, previews. `editmgt.py` runs them with its own."""

import json

import latent_preview
import torch
from comfy import model_management as management
from comfy.cli_args import LatentPreviewMethod, args
from my_x_pack.models.editmgt import lora as loras
from my_x_pack.nodes.host import editmgt_run as run

import __main__ as kit

EXTRAS = json.loads((kit.FOLDER / "extras.json").read_text(encoding="utf-8"))
FILE = "pytorch_lora_weights.safetensors"
CHECKS = {}


def check(function):
    CHECKS[function.__name__] = function
    return function


def worn(names, model=None):
    """The MODEL with LoRAs [(name, strength)] on it."""
    model = kit.MODEL if model is None else model
    for name, strength in names:
        model = kit.node("EditMGTLora", model=model, lora=f"{name}/{FILE}", strength=strength, part="as trained")[0]
    return model


def wrong(latent, name, model=None):
    return int((kit.tokens(latent, model or kit.MODEL) != kit.EXPECTED[name]).sum())


def hooks() -> int:
    return sum(len(module._forward_hooks) for module in kit.MODEL.model.modules())


@check
def lora():
    """For every stack: tokens that differ from the in-process runner's, by single node, guider, clone and reloading."""
    case, out = kit.CASES["edit"], {}
    for name, names in EXTRAS["loras"].items():
        model, key = worn(names), f"lora.{name}"
        out[name] = {"sample": wrong(kit.sample(case, model)[0], key),
                     "guider": wrong(kit.guided(case, model=model)[0], key),
                     "clone": wrong(kit.guided(case, model=model.clone())[0], key)}  # fmt: skip
        out[name]["plain"] = wrong(kit.guided(case)[0], "edit.tokens")
        management.unload_all_models()
        out[name] |= {"again": wrong(kit.guided(case, model=model)[0], key), "hooks": hooks(),
                      "kept": kit.MODEL.attachments == {} and not kit.MODEL.patches}  # fmt: skip
    return out


@check
def lora_as_core_patch():
    """The same change by ComfyUI's own weight patches: tokens that differ from the worn one's, and both together."""
    clone, found = kit.MODEL.clone(), loras.read(kit.FOLDER / "models/loras/one" / FILE)
    clone.add_patches({f"diffusion_model.{n}.weight": ("diff", (loras.delta(one),)) for n, one in found.items()})
    return {"patched": wrong(kit.guided(kit.CASES["edit"], model=clone)[0], "lora.one"),
            "both": wrong(kit.guided(kit.CASES["edit"], model=worn([("two", -0.5)], clone))[0], "lora.stack"),
            "after": wrong(kit.guided(kit.CASES["edit"])[0], "edit.tokens")}  # fmt: skip


@check
def lora_cancelled():
    """The user cancels while a LoRA is worn: it comes off."""
    net, calls = kit.MODEL.model, []
    plain = net.diffusion_model.features

    def counted(*inputs, **more):
        calls.append(hooks())
        management.interrupt_current_processing(len(calls) == 2)
        return plain(*inputs, **more)

    net.diffusion_model.features = counted
    try:
        kit.sample(kit.CASES["edit"], worn([("one", 1.0), ("shown", 1.0)]))
        raised = "nothing"
    except management.InterruptProcessingException as error:
        raised = type(error).__name__
    finally:
        del net.diffusion_model.features
        management.interrupt_current_processing(False)
    return {"raised": raised, "while": calls, "hooks": hooks(),
            "after": wrong(kit.sample(kit.CASES["edit"])[0], "edit.tokens")}  # fmt: skip


@check
def lora_files():
    kinds = kit.NODES["EditKitEditMGTLora"].INPUT_TYPES()["required"]["lora"][0]
    return {"offered": kinds, "wrong": kit.refused(lambda: worn([("wrong", 1.0)])),
            "missing": kit.NODES["EditKitEditMGTLora"].VALIDATE_INPUTS("gone.safetensors"),
            "model": kit.refused(lambda: worn([("one", 1.0)], kit.core.MODEL))}  # fmt: skip


@check
def all_held():
    """λ above every score, by the guider: tokens that are not the picture's, and what is said."""
    said, say = [], run.say
    run.say = lambda sentence, *_, **__: said.append(sentence)
    try:
        made = kit.guided({**kit.CASES["held"], "threshold": 1.01})[0]
    finally:
        run.say = say
    return {"wrong": wrong(made, "reference"), "said": said}


def sheet():
    """The atlas of the case `edit`: (latent, sheet)."""
    case, request = kit.CASES["edit"], kit.node("EditMGTAttentionAtlas", **EXTRAS["atlas"])[0]
    latent, _, square = kit.node(
        "EditMGTSample", model=kit.MODEL, clip=kit.CLIP, vae=kit.VAE, instruction=case["instruction"], negative="",
        seed=case["seed"], side=64, image=kit.PICTURES["edit"], atlas=request, **case["options"],
    )  # fmt: skip
    return latent, kit.node("EditMGTAtlasSheet", latent=latent, cell=64, square=square)[0]


@check
def atlas():
    latent, drawn = sheet()
    off = (drawn - kit.EXPECTED["atlas"]).abs() if drawn.shape == kit.EXPECTED["atlas"].shape else torch.ones(1)
    return {"tokens": wrong(latent, "edit.tokens"), "off": float(off.gt(2 / 255).float().mean()),
            "drawn": float(drawn.std())}  # fmt: skip


def shown_by(sampled, method):
    """The pictures that a run previews, and whether each is what the fitted colours make of the step's codes."""
    seen, plain, before = [], latent_preview.Latent2RGBPreviewer.decode_latent_to_preview, args.preview_method

    def kept(self, x0):
        image = plain(self, x0)
        seen.append([image.size, x0.cpu().clone(), torch.tensor(list(image.getdata())).reshape(*image.size[::-1], 3)])
        return image

    latent_preview.Latent2RGBPreviewer.decode_latent_to_preview = kept
    args.preview_method = LatentPreviewMethod(method)
    try:
        sampled()
    finally:
        args.preview_method = before
        latent_preview.Latent2RGBPreviewer.decode_latent_to_preview = plain
    return seen


@check
def colours():
    """Previews: their sizes, how far they are from the fitted colours, how varied; also before any picture is seen."""
    out, edit, text = {}, kit.CASES["edit"], kit.CASES["text"]
    fresh = dict(zip(("model", "clip", "vae"), kit.node("LoadEditMGT", release="editmgt", weight_dtype="default")))
    none = {"samples": torch.zeros(1, 8, 4, 4)}
    ways = {"guider": (lambda: kit.guided(edit), kit.VAE), "sample": (lambda: kit.sample(edit), kit.VAE),
            "taesd": (lambda: kit.guided(edit), kit.VAE),
            "unseen": (lambda: kit.guided(text, none, **fresh), fresh["vae"])}  # fmt: skip
    for name, (sampled, vae) in ways.items():
        seen = shown_by(sampled, "taesd" if name == "taesd" else "latent2rgb")
        off = [float((vae.colours.preview(x0)[0].movedim(0, -1) * 255 - image).abs().max()) for _, x0, image in seen]
        varied = [float(image.float().std((0, 1)).min()) for _, _, image in seen]
        out[name] = {"sizes": [size for size, _, _ in seen], "off": max(off, default=-1.0),
                     "varied": min(varied, default=-1.0)}  # fmt: skip
    return out


def placed_extras():
    """LoRA and atlas on the pretended GPU, with all weights there and with none: where the results lie."""
    out, state = {}, management.vram_state
    for name, vram in (("normal", management.VRAMState.NORMAL_VRAM), ("none", management.VRAMState.NO_VRAM)):
        management.unload_all_models()
        management.vram_state = vram
        model, case = worn(EXTRAS["loras"]["mixed"]), kit.CASES["edit"]
        guided, single = kit.guided(case, model=model)[0], kit.sample(case, model)[0]
        out[name] = [x.device.type for x in (guided["samples"], single["samples"], sheet()[1])]
        out[f"{name}.tokens"] = [wrong(x, "lora.mixed") for x in (guided, single)]
        out[f"{name}.lowvram"] = bool(model.model.model_lowvram)
    management.vram_state = state
    return out
