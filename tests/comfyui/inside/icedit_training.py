"""What ICEdit's training exports, through the shipped node and core's own loader. Runs in a child process:
COMFYUI PACK FOLDER."""

import json
import sys
import traceback
from pathlib import Path

from start import start

COMFYUI, PACK, FOLDER = (Path(a) for a in sys.argv[1:4])
pack = start(COMFYUI, PACK, FOLDER)

import comfy.model_detection  # noqa: E402 - ComfyUI's modules exist from here on
import comfy.model_management  # noqa: E402
import comfy.supported_models  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

import nodes  # noqa: E402

CASES, SIZES = load_file(FOLDER / "cases.safetensors"), json.loads((FOLDER / "sizes.json").read_text())
detect = comfy.model_detection.detect_unet_config


def tiny(state, prefix, metadata=None):
    """Core writes down the released sizes that weights do not tell: here the tiny network's stand in for them."""
    found = detect(state, prefix)
    return found if found is None else found | SIZES


comfy.model_detection.detect_unet_config = tiny
MODEL = nodes.UNETLoader().load_unet("fill.safetensors", "default")[0]


def velocity(model):
    """What a sampling would get: the network with the MODEL's wrappers, on what core concatenates for Fill."""
    comfy.model_management.load_models_gpu([model, *model.get_nested_additional_models()])
    options = {"wrappers": model.wrappers, **model.model_options["transformer_options"]}
    with torch.inference_mode():
        return model.model.diffusion_model(
            CASES["x"], CASES["time"], CASES["states"], CASES["pooled"], CASES["guidance"], transformer_options=options
        )


def by_node(name):
    values = {"strength": 1.0, "experts": "routed", "tie_experts": True, "expert_strength": 1.0, "experts_per_token": 1}
    with torch.inference_mode():
        made = pack.NODE_CLASS_MAPPINGS["EditKitICEditLoRA"]().run(model=MODEL, lora=f"{name}.safetensors", **values)
    save_file({"out": velocity(made[0])}, FOLDER / f"made_{name}.safetensors")
    return {"info": made[2]}


def by_core():
    model = nodes.LoraLoaderModelOnly().load_lora_model_only(MODEL, "lora.safetensors", 1.0)[0]
    save_file({"out": velocity(model)}, FOLDER / "made_core.safetensors")
    layers = len(load_file(FOLDER / "models/loras/lora.safetensors")) // 2
    return {"layers": layers, "patches": len(model.patches)}


def bare():
    save_file({"out": velocity(MODEL)}, FOLDER / "made_bare.safetensors")
    return {"kind": type(MODEL.model.model_config).__name__}


CHECKS = {
    "bare": bare, "lora": lambda: by_node("lora"), "core": by_core, "mixture": lambda: by_node("mixture"),
    "softmax": lambda: by_node("softmax"),
}  # fmt: skip
results = {}
for name, run in CHECKS.items():
    try:
        results[name] = run()
    except Exception:
        results[name] = {"crashed": traceback.format_exc()}
(FOLDER / "results.json").write_text(json.dumps(results))
