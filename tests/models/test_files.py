"""Files are whole or not there, whatever ends the writing; and where a platform keeps what is a user's."""

import os
import stat
import sys
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError, safe_open

from editkit.models import files

posix = pytest.mark.skipif(os.name != "posix", reason="the system knows no such permissions")


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_bytes_text_and_what_a_function_writes(tmp_path):
    assert files.write(tmp_path / "new" / "a", b"\0x") == tmp_path / "new" / "a"
    files.write(tmp_path / "new" / "b", "ä\n")
    files.write(tmp_path / "new" / "c", lambda file: file.write(b"filled"))
    assert [(tmp_path / "new" / n).read_bytes() for n in "abc"] == [b"\0x", "ä\n".encode(), b"filled"]
    assert names(tmp_path / "new") == ["a", "b", "c"]


@pytest.mark.parametrize("end", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("x")])
def test_whatever_ends_the_writing_leaves_what_there_was(tmp_path, end):
    files.write(tmp_path / "a.png", b"old")

    def fill(file):
        file.write(b"half")
        raise end

    with pytest.raises(type(end)):
        files.write(tmp_path / "a.png", fill)
    assert names(tmp_path) == ["a.png"] and (tmp_path / "a.png").read_bytes() == b"old"


def test_a_kill_leaves_a_hidden_part_beside_the_whole_file(tmp_path):
    files.write(tmp_path / "a.png", b"old")
    with files.replacing(tmp_path / "a.png") as part:
        part.write_bytes(b"new")
        assert (tmp_path / "a.png").read_bytes() == b"old"
        assert part.name.startswith(files.hidden(tmp_path / "a.png")) and part.suffix == files.PART
    assert (tmp_path / "a.png").read_bytes() == b"new" and names(tmp_path) == ["a.png"]


def test_two_at_once_do_not_meet(tmp_path):
    with files.replacing(tmp_path / "a") as one, files.replacing(tmp_path / "a") as two:
        one.write_bytes(b"one")
        two.write_bytes(b"two")
    assert (tmp_path / "a").read_bytes() == b"one", "who ends last"
    assert names(tmp_path) == ["a"]


def test_a_name_as_long_as_a_folder_takes(tmp_path):
    path = tmp_path / ("ä" * 120 + ".safetensors")
    files.write(path, b"x")
    assert names(tmp_path) == [path.name]


@posix
def test_others_may_read_it_unless_it_is_private(tmp_path):
    before = os.umask(0o027)
    try:
        open_to = files.write(tmp_path / "a", b"x"), files.save_tensors(tmp_path / "b", {"x": torch.zeros(1)})
        with files.replacing(tmp_path / "key", private=True) as part:
            assert stat.S_IMODE(part.stat().st_mode) == 0o600, "from the start"
    finally:
        os.umask(before)
    assert [stat.S_IMODE(path.stat().st_mode) for path in open_to] == [0o640, 0o640]
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_tensors_from_any_place_and_layout_with_their_metadata(tmp_path):
    state = {"a": torch.arange(6.0).reshape(2, 3).T.requires_grad_(), "b": torch.ones(2, dtype=torch.bfloat16)}
    with safe_open(files.save_tensors(tmp_path / "m" / "x.safetensors", state, {"made_of": "y"}), "pt") as file:
        assert file.metadata() == {"format": "pt", "made_of": "y"}
        assert all(torch.equal(file.get_tensor(name), value) for name, value in state.items())


def test_tensors_that_the_disk_does_not_take_are_an_oserror(tmp_path, monkeypatch):
    def refuse(*_):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", refuse)
    with pytest.raises(OSError, match="No space left"):
        files.save_tensors(tmp_path / "x.safetensors", {"a": torch.zeros(1)})
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("platform", "kind", "variable", "usual"),
    [
        ("linux", files.SETTINGS, "XDG_CONFIG_HOME", ".config"),
        ("linux", files.CACHE, "XDG_CACHE_HOME", ".cache"),
        ("win32", files.SETTINGS, "APPDATA", "AppData/Roaming"),
        ("win32", files.CACHE, "LOCALAPPDATA", "AppData/Local"),
        ("darwin", files.SETTINGS, None, "Library/Application Support"),
        ("darwin", files.CACHE, None, "Library/Caches"),
    ],
)
def test_the_users_folders_of_each_platform(monkeypatch, tmp_path, platform, kind, variable, usual):
    monkeypatch.setattr(sys, "platform", platform)
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "APPDATA", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    assert files.of_user(kind) == Path.home() / usual / "editkit"
    if variable:
        monkeypatch.setenv(variable, str(tmp_path))
        assert files.of_user(kind) == tmp_path / "editkit"
