"""What Kontext's training exports, through core's own loaders. Runs in a child process: COMFYUI PACK FOLDER."""

import json
import sys
import traceback
from pathlib import Path

from start import start

COMFYUI, PACK, FOLDER = (Path(a) for a in sys.argv[1:4])
NODES = start(COMFYUI, PACK, FOLDER).NODE_CLASS_MAPPINGS

import comfy.ldm.flux.model  # noqa: E402 - ComfyUI's modules exist from here on
import comfy.lora  # noqa: E402
import comfy.lora_convert  # noqa: E402
import comfy.model_detection  # noqa: E402
import comfy.ops  # noqa: E402
import comfy.samplers  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

import nodes  # noqa: E402

CASES, RELEASED, SIZES = (
    load_file(FOLDER / "cases.safetensors"), json.loads((FOLDER / "released.json").read_text()),
    json.loads((FOLDER / "sizes.json").read_text()),
)  # fmt: skip
detect = comfy.model_detection.detect_unet_config


def released():
    """Names and shapes of a full-size export, against the network that core makes of them, untouched."""
    state = {name: torch.empty(shape, device="meta") for name, shape in RELEASED.items()}
    config = detect(state, "")
    made = {k: v for k, v in config.items() if k != "image_model"}
    net = comfy.ldm.flux.model.Flux(**made, device="meta", operations=comfy.ops.disable_weight_init)
    wanted = {name: list(value.shape) for name, value in net.state_dict().items()}
    chosen = comfy.model_detection.model_config_from_unet_config(config, state)
    return {"same": wanted == RELEASED, "count": len(wanted), "kind": type(chosen).__name__}


def tiny(state, prefix, metadata=None):
    """Core writes down the released sizes that weights do not tell: here the tiny network's stand in for them."""
    found = detect(state, prefix)
    return found if found is None else found | SIZES


comfy.model_detection.detect_unet_config = tiny


def velocity(model, references):
    net = model.model.diffusion_model
    given = [CASES[f"reference_{i}"] for i in range(1, references + 1)]
    with torch.no_grad():
        return net(
            CASES["noisy"], CASES["time"], CASES["states"], CASES["pooled"], CASES["scale"], ref_latents=given or None,
            ref_latents_method="index",
        )  # fmt: skip


def loaded(name):
    model = nodes.UNETLoader().load_unet(name, "default")[0]
    state = load_file(FOLDER / "models/diffusion_models" / name)
    dtypes = {str(p.dtype) for p in model.model.diffusion_model.parameters()}
    save_file({f"{n}": velocity(model, n) for n in (0, 1, 2)}, FOLDER / f"made_{Path(name).stem}.safetensors")
    return {"tensors": len(model.model.diffusion_model.state_dict()), "in file": len(state), "dtypes": sorted(dtypes)}


def lora():
    model = nodes.UNETLoader().load_unet("bfl.safetensors", "default")[0]
    state = load_file(FOLDER / "models/loras/lora.safetensors")
    keys = comfy.lora.model_lora_keys_unet(model.model, {})
    patches = comfy.lora.load_lora(comfy.lora_convert.convert_lora(dict(state)), keys)
    with_it = nodes.LoraLoaderModelOnly().load_lora_model_only(model, "lora.safetensors", 1.0)[0]
    with_it.patch_model()
    made = {f"{n}": velocity(with_it, n) for n in (0, 1, 2)}
    with_it.unpatch_model()
    save_file(made, FOLDER / "made_lora.safetensors")
    return {"layers": len(state) // 2, "patches": len(patches)}


def sampled():
    """The export through the pack's own nodes and core's sampling: two references by Eq. 2, four steps of Eq. 12."""
    model = nodes.UNETLoader().load_unet("bfl.safetensors", "default")[0]
    node = lambda name, **inputs: NODES[f"EditKitKontext{name}"]().run(**inputs)[0]  # noqa: E731
    told = {"pooled_output": CASES["pooled"][:1], "guidance": 2.5}
    conditioning = [[CASES["states"][:1], told]]
    for number in (1, 2):
        latent = {"samples": model.model.process_latent_out(CASES[f"reference_{number}"][:1])}
        conditioning = node(
            "Reference", conditioning=conditioning, strength=1.0, placement="index", index=0, start_percent=0.0,
            end_percent=1.0, megapixels=0.0, confine="strict", latent=latent,
        )  # fmt: skip
    sigmas = node("Schedule", steps=4, shift="tokens", width=64, height=64, tokens=48, mu=0.0, alpha=1.0, sigma=1.0,
                  base_shift=0.5, max_shift=1.15, start=1.0)  # fmt: skip
    guider = comfy.samplers.CFGGuider(node("Apply", model=model))
    guider.set_conds(conditioning, conditioning)
    guider.set_cfg(1.0)
    noise = CASES["noisy"][:1]
    with torch.inference_mode():
        made = guider.sample(noise, torch.zeros_like(noise), comfy.samplers.sampler_object("euler"), sigmas, seed=1,
                             disable_pbar=True)  # fmt: skip
    save_file({"made": model.model.process_latent_in(made).clone()}, FOLDER / "made_sampled.safetensors")
    return {"steps": len(sigmas) - 1}


CHECKS = {
    "released": released, "bfl": lambda: loaded("bfl.safetensors"),
    "diffusers": lambda: loaded("diffusers.safetensors"), "lora": lora,
    "sampled": sampled,
}  # fmt: skip
results = {}
for name, run in CHECKS.items():
    try:
        results[name] = run()
    except Exception:
        results[name] = {"crashed": traceback.format_exc()}
(FOLDER / "results.json").write_text(json.dumps(results))
