"""What Kontext's training exports loads in a real ComfyUI, by core's own nodes, and gives what diffusers gives."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from editkit.models.kontext import names
from editkit.training import cli
from editkit.training.kontext import adapters, flux, measuring, running, world
from editkit.training.kontext.examples import Example
from editkit.training.kontext.stages import Flow, Recipe
from editkit.training.store import Store

# Core's Flux always has 16 latent channels, and takes the rest of these from no file.
CONFIG = world.CONFIG | {"in_channels": 64, "out_channels": 64, "num_layers": 2, "num_single_layers": 2,
                         "attention_head_dim": 32, "num_attention_heads": 2, "axes_dims_rope": [8, 12, 12]}  # fmt: skip
SIZES = {"hidden_size": 64, "num_heads": 2, "axes_dim": [8, 12, 12], "context_in_dim": world.JOINT}
SHAPES = {"noisy": (2, 16, 12, 16), "reference_1": (2, 16, 12, 16), "reference_2": (2, 16, 8, 20)}


class Sixteen(world.World):
    """The small world in 16 channels, as FLUX.1's latents are."""

    def draw(self, rng, kind, count):
        return [_widened(e) for e in super().draw(rng, kind, count)]

    def held(self):
        return [_widened(e) for e in super().held()]


def _widened(example):
    wide = lambda x: None if x is None else torch.cat([x, -x, x / 2, x + 1], dim=-3)  # noqa: E731
    references = tuple(wide(r) for r in example.references)
    return type(example)(wide(example.target), example.states, example.pooled, references, example.text)


def train(stage, *arguments):
    flags = [] if stage == "export" else ["--batch", "4", "--lr", "0.01", "--precision", "fp32", "--threads", "1"]
    assert cli.main(["kontext", stage, *flags, *map(str, arguments)]) == 0


def cases():
    random = torch.Generator().manual_seed(3)
    out = {name: torch.randn(*shape, generator=random) for name, shape in SHAPES.items()}
    texts = [world.text("move the disc left"), world.text("a red disc")]
    out["states"], out["pooled"] = (torch.stack(x) for x in zip(*texts))
    return out | {"time": torch.tensor([0.73, 0.3]), "scale": torch.tensor([2.5, 4.0])}


@torch.no_grad()
def expected(net, given):
    references = [given["reference_1"], given["reference_2"]]
    return {
        str(n): flux.velocity(
            net, given["noisy"], given["time"], given["states"], given["pooled"], references[:n], given["scale"]
        )
        for n in (0, 1, 2)
    }


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(folder with two exports and a LoRA, the averaged network, the one with the LoRA)."""
    folder, models = tmp_path_factory.mktemp("kontext"), {}
    unets, loras = (folder / "models" / name for name in ("diffusion_models", "loras"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(world, "CONFIG", CONFIG)
        patched.setattr(world, "World", Sixteen)
        start = ["--config", "tiny", "--state", folder / "state"]
        train("flow", *start, "--steps", 3)
        train("guidance", *start, "--steps", 3)
        train("export", "--state", folder / "state", "--dtype", "fp32", "--out", unets / "bfl.safetensors")
        train("export", "--state", folder / "state", "--dtype", "fp32", "--layout", "diffusers", "--out", folder / "d")
        shutil.move(folder / "d/diffusion_pytorch_model.safetensors", unets / "diffusers.safetensors")
        models["net"] = flux.build(*flux.read(str(_with_config(unets / "diffusers.safetensors", folder / "d"))))
        again = ["--steps", 6, "--warmup", 0, "--lr", 0.1, "--lora", 3, "--lora-alpha", 6]
        again += ["--lora-targets", "attn.to_q,attn.add_k_proj,proj_mlp"]
        patched.setattr(running, "examples_of", lambda arguments: Sixteen())
        train("flow", "--model", unets / "bfl.safetensors", "--state", folder / "lora", *again)
        train("export", "--state", folder / "lora", "--dtype", "fp32", "--out", loras / "lora.safetensors")
        store = Store(folder / "lora", "kontext")
        choice = adapters.Choice(3, 6.0)
        state = adapters.merged(models["net"].state_dict(), store.read_part("flow_lora"), choice)
        models["lora"] = flux.build(flux.config_of(models["net"]), state)
    return folder, models


def _with_config(path, folder):
    """A file does not tell its rotary axes: diffusers' config beside it does."""
    shutil.copy(folder / "config.json", path.parent / "config.json")
    return path


@pytest.fixture(scope="module")
def results(run_inside, exported):
    folder, models = exported
    save_file(cases(), folder / "cases.safetensors")
    (folder / "sizes.json").write_text(json.dumps(SIZES))
    from diffusers import FluxTransformer2DModel

    with torch.device("meta"):
        released = FluxTransformer2DModel(guidance_embeds=True).state_dict()
        shapes = {name: list(value.shape) for name, value in names.to_bfl(released).items()}
    (folder / "released.json").write_text(json.dumps(shapes))
    return run_inside("kontext_training.py", folder)


def of(results, name):
    assert "crashed" not in results[name], results[name]["crashed"]
    return results[name]


def away(made, wanted):
    return max(float((made[n] - wanted[n]).abs().max() / wanted[n].abs().max()) for n in wanted)


def test_a_full_size_export_is_what_core_makes_of_it(results):
    """All 780 tensors of FLUX.1 by name and shape, found by core's detection as it is."""
    assert of(results, "released") == {"same": True, "count": 780, "kind": "Flux"}


@pytest.mark.parametrize("form", ["bfl", "diffusers"])
def test_cores_loader_takes_the_export_and_gives_the_same_velocity(results, exported, form):
    found, (folder, models) = of(results, form), exported
    assert found["dtypes"] == ["torch.float32"]
    assert found["tensors"] == found["in file"] or form == "diffusers"
    wanted = expected(models["net"], cases())
    assert away(load_file(folder / f"made_{form}.safetensors"), wanted) < 1e-5
    assert not torch.allclose(wanted["0"], wanted["1"]) and not torch.allclose(wanted["1"], wanted["2"])


def test_cores_lora_loader_takes_the_lora_whole(results, exported):
    found, (folder, models) = of(results, "lora"), exported
    assert found["layers"] == found["patches"] == 8
    wanted = expected(models["lora"], cases())
    assert away(load_file(folder / "made_lora.safetensors"), wanted) < 1e-5
    assert away(wanted, expected(models["net"], cases())) > 1e-3  # the LoRA does something


@torch.no_grad()
def test_the_packs_nodes_sample_the_export_as_the_training_does(results, exported, monkeypatch):
    """Kontext Reference, Apply and Schedule on what core loaded, against the training's own sampling with diffusers."""
    (folder, models), given = exported, cases()
    assert of(results, "sampled") == {"steps": 4}
    references = tuple(given[f"reference_{i}"][0] for i in (1, 2))
    example = Example(torch.zeros(16, 12, 16), given["states"][0], given["pooled"][0], references)
    stage = Flow("flow", models["net"], Sixteen(), Recipe())
    monkeypatch.setattr(measuring.torch, "randn", lambda *shape, **how: given["noisy"][:1])
    made = torch.stack(measuring.edit(stage, models["net"], [example], 4, 2.5))
    assert away(load_file(folder / "made_sampled.safetensors"), {"made": made}) < 1e-4
    assert away({"made": made}, {"made": given["noisy"][:1]}) > 0.1
