"""What ICEdit's training exports, in a real ComfyUI by the shipped node: it gives what the training network gives."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from editkit.models.kontext import names
from editkit.training import cli
from editkit.training.icedit import adapters, fill, running, world
from editkit.training.kontext import flux
from editkit.training.kontext import world as scenes
from editkit.training.store import Store

# Core's Flux always has 16 latent channels, and takes the rest of these from no file.
CONFIG = world.CONFIG | {"in_channels": 384, "out_channels": 64, "num_layers": 2, "num_single_layers": 2,
                         "attention_head_dim": 32, "num_attention_heads": 2, "axes_dims_rope": [8, 12, 12]}  # fmt: skip
SIZES = {"hidden_size": 64, "num_heads": 2, "axes_dim": [8, 12, 12], "context_in_dim": scenes.JOINT}
STAGES = {"lora": [], "mixture": [], "softmax": ["--softmax-first"]}


class Sixteen(world.World):
    """The small world in 16 channels, as FLUX.1's latents are."""

    def _one(self, rng, held):
        example = super()._one(rng, held)
        wide = lambda x: torch.cat([x, -x, x / 2, x + 1])  # noqa: E731
        return type(example)(wide(example.target), wide(example.masked), example.states, example.pooled)


def train(stage, state, *arguments):
    flags = ["--batch", "4", "--precision", "fp32", "--threads", "1"]
    if stage != "base":
        flags += ["--config", "tiny", "--optimizer", "adamw", "--lr", "0.02", "--rank", "3"]
    assert cli.main(["icedit", stage, "--state", str(state), *flags, *map(str, arguments)]) == 0


def cases():
    """A diptych of 64 x 128 px: noise and masked latents for diffusers' layout, and x for core's."""
    random = torch.Generator().manual_seed(3)
    noisy, masked = (torch.randn(2, 16, 8, 16, generator=random) for _ in range(2))
    mask = torch.zeros(2, 64, 8, 16)
    mask[..., 8:] = 1
    texts = [scenes.text("move the disc left"), scenes.text("make the square red")]
    states, pooled = (torch.stack(x) for x in zip(*texts))
    return {
        "noisy": noisy, "masked": masked, "x": torch.cat([noisy, masked, mask], 1), "states": states,
        "pooled": pooled, "time": torch.tensor([0.73, 0.3]), "guidance": torch.tensor([50.0, 1.0]),
    }  # fmt: skip


@torch.no_grad()
def expected(net, given):
    known = fill.condition(given["masked"], 8)
    return fill.velocity(
        net, given["noisy"], known, given["time"], given["states"], given["pooled"], given["guidance"]
    )


def trained(store, name):
    """The network as it stood when the training of a stage ended."""
    card = running.card_of(store)
    choice = adapters.Choice(**card["choices"][name])
    net = adapters.attach(flux.build(card["stages"][name], store.read_part("base")), choice, 0)
    adapters.view(net).load_state_dict(store.read_part(name))
    return net.eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(folder with a Fill and the files that were trained on it, what the training networks give)."""
    folder, wanted = tmp_path_factory.mktemp("icedit"), {}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(world, "CONFIG", CONFIG)
        patched.setattr(world, "World", Sixteen)
        train("base", folder / "state_base", "--steps", 3, "--lr", 0.01)
        for name, more in STAGES.items():
            state, stage = folder / f"state_{name}", "lora" if name == "lora" else "mixture"
            shutil.copytree(folder / "state_base", state)
            train(stage, state, "--steps", 4, *more)
            out = folder / "models/loras" / f"{name}.safetensors"
            assert cli.main(["icedit", "export", "--state", str(state), "--dtype", "fp32", "--out", str(out)]) == 0
            wanted[name] = expected(trained(Store(state, "icedit"), stage), cases())
    base = Store(folder / "state_base", "icedit").read_part("base")
    (folder / "models/diffusion_models").mkdir()
    save_file(names.to_bfl(base), folder / "models/diffusion_models/fill.safetensors")
    wanted["bare"] = expected(flux.build(CONFIG, base).eval(), cases())
    return folder, wanted


@pytest.fixture(scope="module")
def results(run_inside, exported):
    folder, _ = exported
    save_file(cases(), folder / "cases.safetensors")
    (folder / "sizes.json").write_text(json.dumps(SIZES))
    return run_inside("icedit_training.py", folder)


def of(results, name):
    assert "crashed" not in results[name], results[name]["crashed"]
    return results[name]


def away(folder, name, wanted):
    made = load_file(folder / f"made_{name}.safetensors")["out"]
    return float((made - wanted).abs().max() / wanted.abs().max())


def test_core_knows_the_network_as_fill(results, exported):
    folder, wanted = exported
    assert of(results, "bare")["kind"] == "FluxInpaint" and away(folder, "bare", wanted["bare"]) < 1e-5


@pytest.mark.parametrize("name", STAGES)
def test_the_shipped_node_gives_what_the_training_network_gives(results, exported, name):
    """Also of a mixture whose softmax comes first, which its file says; and training changed something."""
    info, (folder, wanted) = of(results, name)["info"], exported
    assert info.endswith("no experts" if name == "lora" else "4 layers with 4 experts of rank 3, 1 per token")
    assert away(folder, name, wanted[name]) < 1e-5
    assert float((wanted[name] - wanted["bare"]).abs().max() / wanted["bare"].abs().max()) > 0.02


def test_cores_own_loader_takes_the_plain_file_whole(results, exported):
    found, (folder, wanted) = of(results, "core"), exported
    assert found["layers"] == 1 + 2 * 6 + 2 * 6 and away(folder, "core", wanted["lora"]) < 1e-5
