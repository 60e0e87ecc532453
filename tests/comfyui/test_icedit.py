"""ICEdit's nodes on a real ComfyUI with tiny FLUX networks, against the recorded release, diffusers and the core."""

import json
import os
import subprocess
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from editkit.benchmarks.parity_moelora import BASE, IO, MOE, NORMAL, flux
from editkit.models.icedit import lora as files
from editkit.models.icedit import transformer

TRAINED = (
    "A diptych with two side-by-side images of the same scene. On the right, the scene is exactly the same as on the "
    "left but"
)
INSIDE = Path(__file__).resolve().parent / "inside" / "icedit.py"


def recorded(root: Path) -> Path:
    """The folder of the family `moelora`."""
    return Path(os.environ.get("EDITKIT_FIXTURES") or root / "tests/fixtures") / "moelora"


def with_alphas(state: dict, factor: float) -> dict:
    """The same LoRA with its scale written as alphas: rank times `factor`, for half of its layers."""
    layers = sorted({k.split(".lora_")[0] for k in state})[::2]
    rank = next(v for k, v in state.items() if "lora_A" in k).shape[0]
    return state | {f"{layer}.alpha": torch.tensor(rank * factor) for layer in layers}


def write_loras(folder: Path, fixtures: Path) -> dict[str, dict]:
    """The fixtures' LoRAs, other forms of them, and broken ones; name -> state of those that load."""
    moe, plain = load_file(fixtures / MOE), load_file(fixtures / NORMAL)
    made = {
        "moe": moe, "plain": plain, "alpha": with_alphas(moe, 0.5),
        "experts": {k: v for k, v in moe.items() if ".expert_" in k or "lora_route" in k},
        "prefixed": {f"base_model.model.{k}": v for k, v in moe.items()},
    }  # fmt: skip
    small = {k: v[:, :16].contiguous() if "lora_A" in k else v[:16].contiguous() for k, v in plain.items()}
    half = dict(moe)
    half.pop(next(k for k in moe if "lora_B.expert_3" in k))
    kohya = {"lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": torch.zeros(4, 64)}
    folder.mkdir()
    for name, state in (made | {"another": small, "incomplete": half, "kohya": kohya}).items():
        save_file(state, folder / f"{name}.safetensors")
    whole = (folder / "moe.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    return made


def references(fixtures: Path, states: dict[str, dict]) -> dict:
    """The same in diffusers' FLUX with our layers, whose numbers `bench parity` checks against the release."""
    network, io = flux(fixtures / BASE), load_file(fixtures / IO)
    parsed = {k: files.parse(v) for k, v in states.items()}
    moe, plain = parsed["moe"], parsed["plain"]
    mean = files.Lora(files.averaged(moe))
    runs = {
        "tied_half": [(moe, 0.5, 0.5)], "own": [(moe, 1, -0.7)], "plain_off": [(moe, 0, 1)], "mean": [(mean, 1, 1)],
        "off": [(moe, 1, 0)], "top2": [(files.parse(states["moe"], 2), 1, 1)], "alone": [(parsed["experts"], 1, 1)],
        "prefixed": [(moe, 1, 1)], "twice": [(moe, 1, 1), (moe, 0.5, 0.5)], "with_plain": [(moe, 1, 1), (plain, 1, 1)],
        "alpha": [(parsed["alpha"], 1, 1)],
    }  # fmt: skip
    out = {}
    for name, parts in runs.items():
        with torch.inference_mode(), ExitStack() as stack:
            for one, strength, own in parts:
                stack.enter_context(transformer.attached(network, one, strength, own))
            out[name] = network(
                hidden_states=io["hidden_states"], encoder_hidden_states=io["encoder_hidden_states"],
                pooled_projections=io["pooled_projections"], timestep=io["timestep"].reshape(-1),
                guidance=io["guidance"].reshape(-1), img_ids=io["img_ids"], txt_ids=io["txt_ids"],
            ).sample  # fmt: skip
    return out


class Vae(torch.nn.Module):
    """The checks' autoencoder, as diffusers' pipelines ask for it."""

    dtype, device = torch.float32, torch.device("cpu")
    config = SimpleNamespace(
        block_out_channels=[0] * 4, latent_channels=16, scaling_factor=0.3611, shift_factor=0.1159
    )

    def encode(self, x):
        mix = torch.linalg.qr(torch.randn(16, 3, generator=torch.Generator().manual_seed(3)))[0]
        small = torch.nn.functional.avg_pool2d((x + 1) / 2, 8)
        latent = torch.einsum("oc,bchw->bohw", mix, small)
        return SimpleNamespace(latent_dist=SimpleNamespace(sample=lambda generator=None: latent))


def released_loop(fixtures: Path, state: dict) -> dict:
    """One edit by diffusers' own pipeline for Fill, as the released script calls it, on the tiny networks."""
    import diffusers

    random = torch.Generator().manual_seed(1)
    network, image = flux(fixtures / BASE), torch.rand(1, 64, 64, 3, generator=random)
    noise = torch.randn(1, 32, 64, generator=random)
    text = f"{TRAINED} the sky is green"
    words = torch.Generator().manual_seed(len(text))
    embeds = torch.randn(1, 6, 48, generator=words), torch.randn(1, 40, generator=words)
    mask = torch.zeros(1, 1, 64, 128)
    mask[..., 64:] = 1
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, base_image_seq_len=256, max_image_seq_len=4096
    )
    pipeline = diffusers.FluxFillPipeline(scheduler, Vae(), None, None, None, None, network)
    pipeline.set_progress_bar_config(disable=True)
    with transformer.attached(network, files.parse(state)):
        made = pipeline(
            image=image.movedim(-1, 1).repeat(1, 1, 1, 2), mask_image=mask, height=64, width=128, latents=noise,
            prompt_embeds=embeds[0], pooled_prompt_embeds=embeds[1], guidance_scale=50, num_inference_steps=4,
            output_type="latent",
        ).images  # fmt: skip
    return {"loop.image": image, "loop.noise": noise, "loop.out": made / 0.3611 + 0.1159}


@pytest.fixture(scope="module")
def folder(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("icedit")
    states = write_loras(folder / "loras", recorded(root))
    cases = references(recorded(root), states) | released_loop(recorded(root), states["moe"])
    save_file(cases, folder / "cases.safetensors")
    return folder


def run_inside(checkout, root, folder: Path, place: str = "") -> dict:
    """Runs all checks in one child process, which takes ComfyUI's start of some seconds once."""
    command = [checkout.python, INSIDE, checkout.folder, root, folder, recorded(root), *place.split()]
    environment = os.environ | {"PYTHONPATH": ""}
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=900, env=environment
    )
    found = folder / f"results{f'_{place}' if place else ''}.json"
    assert found.is_file(), done.stderr[-3000:]
    return json.loads(found.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def results(checkout, root, folder):
    return run_inside(checkout, root, folder)


@pytest.fixture
def of(results):
    def read(name):
        assert not isinstance(results[name], dict) or "crashed" not in results[name], results[name]["crashed"]
        return results[name]

    return read


def test_x(results):
    print(json.dumps(results, indent=1))
    assert 0
