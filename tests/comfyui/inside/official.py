"""Recorded cases of the official SwiftEdit through the pack's hooks on ComfyUI's own UNet."""

import json
import os
from pathlib import Path

import torch
from kit import FOLDER, away, check
from my_x_pack.models.swiftedit import mask as guided
from my_x_pack.models.swiftedit.aram import Aram
from my_x_pack.nodes.host import aram as hooks
from my_x_pack.nodes.host import swiftedit
from safetensors import safe_open
from safetensors.torch import save_file

RECORDED = Path(os.environ["EDITKIT_ARAM_CASES"])


def read(path: Path):
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


@check
def official_layers() -> dict:
    """Quantity -> value for every recorded layer of two rows, through the patch that replaces attn2."""
    out = {}
    for path in sorted(RECORDED.glob("proc_*.safetensors")):
        t, metadata = read(path)
        if metadata["B"] != "2":
            continue  # ComfyUI has no third row
        scales = [float(metadata[f"scale_{name}"]) for name in ("text", "ip_fg", "ip_bg")]
        shared = hooks.Conditioning(t["mask"][None], Aram(scales[0] or 1.0, *scales[1:]))
        name = "up_blocks.1.attentions.0" if metadata["controller"] == "True" else "down_blocks.0.attentions.0"
        key, value = (t["image_tokens"][:1] @ t[f"to_{kind}_ip.weight"].T for kind in "kv")
        patch = hooks.LayerPatch(f"{name}.transformer_blocks.0.attn2", key, value, shared)
        side, cells = int(metadata["side"]), t["mask"].shape
        options = {"n_heads": int(metadata["heads"]), "cond_or_uncond": [hooks.SOURCE, hooks.EDIT],
                   "original_shape": [2, 4, *cells], "activations_shape": [2, t["x"].shape[-1], side, side]}
        q, k, v = t["x"] @ t["to_q.weight"].T, t["text"] @ t["to_k.weight"].T, t["text"] @ t["to_v.weight"].T
        y = patch(q, k, v, options) @ t["to_out.0.weight"].T + t["to_out.0.bias"]
        out[f"{path.stem}.y"] = away(y, t["y"])
    return out


@check
def official_cases() -> dict:
    """Quantity -> value for every e2e case that is there. Inputs are the recorded ones, so errors do not add up."""
    if not (RECORDED / "e2e_inverse_unet_diffusers.safetensors").is_file():
        return {}
    inversion, generator = _release(RECORDED, FOLDER / "official")
    scale, out = 0.18215, {}
    for path in sorted(RECORDED.glob("e2e_*.safetensors")):
        recorded, metadata = read(path)
        if "inv.out" not in recorded:
            continue
        kw, name = json.loads(metadata["kw"]), path.stem
        z, noise = recorded["z_scaled"] / scale, recorded["inv.out"]
        with torch.inference_mode():
            texts = [[[row[None], {}]] for row in recorded["inv.context"]]
            found = swiftedit.invert(inversion, z, *texts)
            out[f"{name}.inv.out"] = away(torch.cat([found.source, found.edit]), noise)
            mask = guided.self_guided(*noise.chunk(2), kw.get("clamp_rate", 3.0), kw.get("mask_threshold", 0.5))
            out[f"{name}.mask64"] = int((mask[0] != recorded["mask64"]).sum())
            aram = Aram(kw.get("scale_ta", 1) or 1.0, kw.get("scale_edit", 0.2), kw.get("scale_non_edit", 1))
            model = swiftedit.with_aram(generator, recorded["clip.image_embeds"], mask, aram)
            texts = [[[row[None, :77], {}]] for row in recorded["gen.context_with_image_tokens"]]
            start = swiftedit.start(model, z, noise[:1])
            edit, again = swiftedit.generate(model, start, *texts)
            out[f"{name}.pred_x0"] = away(torch.cat([again, edit]) * scale, recorded["pred_x0"])
            whole = swiftedit.generate(model, swiftedit.start(model, z, found.source), *texts)[0]
            out[f"{name}.chain"] = away(whole * scale, recorded["pred_x0"][1:])
    return out


def _release(folder: Path, work: Path):
    """The recorded weights as a release: the generator comes from ip_adapter.bin alone."""
    import folder_paths

    release = work / "recorded"
    tensors, metadata = read(folder / "e2e_inverse_unet_diffusers.safetensors")
    (release / "inverse" / "unet_ema").mkdir(parents=True)
    (release / "inverse" / "unet_ema" / "config.json").write_text(metadata["config"], encoding="utf-8")
    save_file(tensors, release / "inverse" / "unet_ema" / "diffusion_pytorch_model.safetensors")
    (release / "ip_adapter").mkdir()
    content = (folder / "e2e_ip_adapter.bin").read_bytes()
    (release / "ip_adapter" / "ip_adapter.bin").write_bytes(content)
    (release / "ip_adapter" / "._ip_adapter.bin").write_bytes(b"macOS leaves such files")
    before = folder_paths.folder_names_and_paths["editkit"]
    folder_paths.folder_names_and_paths["editkit"] = ([str(work)], {".safetensors"})
    try:
        return swiftedit.load("recorded")
    finally:
        folder_paths.folder_names_and_paths["editkit"] = before
