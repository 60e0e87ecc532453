"""What the doctor finds of FLUX.1, judges, faces, bundles and the front end, in a ComfyUI made of small files."""

import json

import pytest
import torch
from safetensors.torch import save_file

from editkit.headless import cli, doctor, found


@pytest.fixture
def comfy(tmp_path, monkeypatch):
    """A folder that passes for ComfyUI, where the doctor looks."""
    for name in ("main.py", "nodes.py"):
        (tmp_path / name).write_text("")
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    return tmp_path


def transformer(path, channels: int):
    path.parent.mkdir(parents=True, exist_ok=True)
    names = {"img_in.weight": torch.zeros(4, channels), "double_blocks.0.img_attn.qkv.weight": torch.zeros(2, 2)}
    save_file({f"model.diffusion_model.{name}": value for name, value in names.items()}, path)


@pytest.mark.parametrize(
    ("name", "channels", "said"),
    [
        ("flux1-fill-dev.safetensors", 384, "FLUX.1 Fill, for ICEdit"),
        ("kontext/flux1-dev-Kontext_fp8.safetensors", 64, "FLUX.1 Kontext by its name"),
        ("flux1-dev.safetensors", 64, "FLUX.1, text to image by its name"),
    ],
)
def test_a_flux_is_known_by_the_channels_that_it_takes(comfy, name, channels, said):
    transformer(comfy / "models/diffusion_models" / name, channels)
    lines = found.flux(comfy)
    assert lines[0].endswith(f"\n    {said}")
    assert lines[1:] == [
        "  models/text_encoders: no clip_l; FLUX.1 needs it",
        "  models/text_encoders: no t5xxl; FLUX.1 needs it",
        "  models/vae: no ae; FLUX.1 needs it",
    ]


def test_its_companions_are_found_in_old_folders_too(comfy):
    transformer(comfy / "models/unet/flux1-dev.safetensors", 64)
    for name in ("clip/clip_l.safetensors", "text_encoders/t5xxl_fp16.safetensors", "vae/ae.safetensors"):
        (comfy / "models" / name).parent.mkdir(exist_ok=True)
        (comfy / "models" / name).touch()
    assert not any("needs it" in line for line in found.flux(comfy))


def test_other_networks_are_passed_over_and_a_torn_flux_is_named(comfy):
    transformer(comfy / "models/diffusion_models/other.safetensors", 36)
    (comfy / "models/diffusion_models/other.gguf").touch()
    assert "no transformer" in found.flux(comfy)[0]
    (comfy / "models/diffusion_models/flux1-dev.safetensors").write_bytes(b"torn")
    assert "cannot be read" in found.flux(comfy)[0]
    assert found.flux(None) == ["  no ComfyUI, which runs it"]


def test_judges_and_faces_are_found(tmp_path, monkeypatch):
    configs = {
        "judge": {"vision_config": {}, "architectures": ["Qwen2_5_VLForConditionalGeneration"]},
        "clip": {"vision_config": {}, "model_type": "clip"},
        "other": {"model_type": "bert"},
    }
    for name, config in configs.items():
        (tmp_path / "editkit" / name).mkdir(parents=True)
        (tmp_path / "editkit" / name / "config.json").write_text(json.dumps(config))
    (tmp_path / "insightface").mkdir()
    (tmp_path / "insightface" / "glintr100.onnx").touch()
    monkeypatch.setattr(found, "installed", lambda package: None)
    lines = found.judges([tmp_path / "editkit"])
    assert [line.split("\n    ")[1] for line in lines] == [
        "CLIP", "a vision-language model", "an ONNX network; onnxruntime, which runs it, is not installed here",
    ]  # fmt: skip
    assert "none found" in found.judges([tmp_path / "nowhere" / "editkit"])[0]


def test_bundles_are_listed_with_what_runs_them(tmp_path, monkeypatch):
    from editkit.nodes.host import bundles

    monkeypatch.setattr(bundles, "found", lambda: {"mine": tmp_path})
    monkeypatch.setattr(found, "installed", lambda package: "2.3.0")
    assert found.bundles() == [f"  mine: {tmp_path}", "  ai-edge-litert 2.3.0"]
    monkeypatch.setattr(bundles, "found", dict)
    monkeypatch.setattr(found, "installed", lambda package: None)
    assert "no bundle" in found.bundles()[0] and "is not installed" in found.bundles()[1]


def test_the_doctor_covers_every_system_and_the_front_end(comfy, capsys):
    transformer(comfy / "models/diffusion_models/flux1-fill-dev.safetensors", 384)
    (comfy / ".venv/lib/python3.12/site-packages/comfyui_frontend_package-1.27.10.dist-info").mkdir(parents=True)
    assert cli.main(["doctor"]) == 0
    said = capsys.readouterr().out
    titles = ("Weights", "SwiftEdit", "EditMGT", "ICEdit", "FLUX.1", "Judges and faces", "Mobile bundles", "ComfyUI")
    assert all(f"\n{title}" in said for title in titles)
    assert "FLUX.1 Fill, for ICEdit" in said and "front end 1.27.10, for which the pack brings " in said
    assert doctor.comfyui() == comfy
