"""Where the tests look for ComfyUI; needs none itself."""

from pathlib import Path

import pytest

from editkit.tests.comfyui.checkout import NoComfyUI, find


def make(folder: Path, python: str | None = ".venv/bin/python") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "main.py").touch()
    if python:
        (folder / python).parent.mkdir(parents=True, exist_ok=True)
        (folder / python).touch()
    return folder


def test_comfyui_path_comes_first(tmp_path):
    named, other = make(tmp_path / "named"), make(tmp_path / "home/comfy/ComfyUI")
    found = find({"COMFYUI_PATH": str(named)}, tmp_path, other.parent.parent)
    assert found == (named, named / ".venv/bin/python")


def test_a_wrong_comfyui_path_is_not_replaced_by_another(tmp_path):
    make(tmp_path / "comfy/ComfyUI")
    with pytest.raises(NoComfyUI, match="COMFYUI_PATH"):
        find({"COMFYUI_PATH": str(tmp_path / "typo")}, tmp_path, tmp_path)


def test_a_pack_in_custom_nodes_finds_the_comfyui_above(tmp_path):
    folder = make(tmp_path / "ComfyUI", ".venv/Scripts/python.exe")
    found = find({}, folder / "custom_nodes" / "my.pack", tmp_path)
    assert found == (folder, folder / ".venv/Scripts/python.exe")


def test_the_home_folder_comes_last(tmp_path):
    folder = make(tmp_path / "comfy/ComfyUI")
    assert find({}, tmp_path / "pack", tmp_path).folder == folder


def test_comfyui_python_replaces_the_venv(tmp_path):
    make(tmp_path / "comfy/ComfyUI", None)
    python = tmp_path / "python"
    python.touch()
    assert find({"COMFYUI_PYTHON": str(python)}, tmp_path, tmp_path).python == python


def test_a_missing_interpreter_is_said_in_one_line(tmp_path):
    make(tmp_path / "comfy/ComfyUI", None)
    with pytest.raises(NoComfyUI, match="COMFYUI_PYTHON") as said:
        find({}, tmp_path, tmp_path)
    assert "\n" not in str(said.value)
