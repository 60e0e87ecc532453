"""Run by a ComfyUI's own interpreter: what core's nodes and checks answer to a folder's files and prompts.

python comfyui_answers.py COMFYUI FOLDER: reads FOLDER/input and FOLDER/prompts.json, writes answers.pt there.
"""

import asyncio
import json
import os
import sys

comfyui, folder = sys.argv[1:]
sys.argv = sys.argv[:1]
sys.path.insert(0, comfyui)
os.chdir(comfyui)

from comfy.cli_args import args  # noqa: E402

args.cpu = True

import execution  # noqa: E402
import folder_paths  # noqa: E402
import torch  # noqa: E402

import nodes  # noqa: E402


class Checked:
    RETURN_TYPES, FUNCTION, OUTPUT_NODE = ("INT",), "run", True

    @classmethod
    def INPUT_TYPES(cls):
        numbers = {"a": ("INT", {"min": 0, "max": 5}), "b": ("FLOAT",), "c": (["x", "y"],)}
        return {"required": numbers, "optional": {"i": ("IMAGE",), "n": ("INT",)}}


class Inner(Checked):
    OUTPUT_NODE = False


class Custom(Checked):
    @classmethod
    def VALIDATE_INPUTS(cls, a):
        return "odd" if a % 2 else True


def loaded() -> dict:
    folder_paths.set_input_directory(os.path.join(folder, "input"))
    answers = {}
    for name in sorted(os.listdir(os.path.join(folder, "input"))):
        answers[name, None] = list(nodes.LoadImage().load_image(name))
        for channel in ("red", "alpha", "blue"):
            answers[name, channel] = list(nodes.LoadImageMask().load_image(name, channel))
    return answers


def scaled(image) -> dict:
    sizes = ((20, 20), (50, 0), (0, 90), (13, 77))
    keys = [
        (m, w, h, c)
        for m in nodes.ImageScale.upscale_methods
        for w, h in sizes
        for c in ("disabled", "center")
    ]
    return {key: nodes.ImageScale().upscale(image, *key)[0] for key in keys}


def checked() -> list:
    nodes.NODE_CLASS_MAPPINGS.update(Checked=Checked, Inner=Inner, Custom=Custom)
    with open(os.path.join(folder, "prompts.json"), encoding="utf-8") as file:
        prompts = json.load(file)
    answers = []
    for prompt in prompts:
        _, error, outputs, node_errors = asyncio.run(execution.validate_prompt("id", prompt, None))
        answers.append(json.dumps([error, sorted(outputs), node_errors, prompt], default=str))
    return answers


image = torch.rand(2, 30, 41, 3, generator=torch.Generator().manual_seed(0))
answers = {"loaded": loaded(), "image": image, "scaled": scaled(image), "checked": checked()}
torch.save(answers, os.path.join(folder, "answers.pt"))
