"""Reads SwiftEdit's release as it is published, and writes the layout that training leaves.

    inverse_ckpt-120k/unet_ema/      config.json + weights of the inversion net F (diffusers)
    sbv2_0.5/                        config.json + weights of the generator G (diffusers)
    ip_adapter_ckpt-90k/ip_adapter.bin   G again, with its image branch
    swiftedit.json                   ours only: which generator it is

Folders may have any name. macOS leaves `._*` files in the release's archive; they are skipped.
"""

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ..errors import EditError
from ..files import save_tensors, write
from . import generators, unets

CARD = "swiftedit.json"
WEIGHTS = "diffusion_pytorch_model"
BRANCHES = ("ip_adapter.bin", "ip_adapter.safetensors")
PUBLISHED = "https://github.com/Qualcomm-AI-research/SwiftEdit/releases"
EXPECTED = "inverse…/unet_ema/, sbv2_0.5/ and ip_adapter…/ip_adapter.bin"


@dataclass(frozen=True)
class Release:
    """Where the parts of a SwiftEdit folder lie; None for a part that is absent."""

    folder: Path
    inversion: Path | None
    generator: Path | None
    branch: Path | None
    kind: str = generators.DEFAULT


@dataclass
class Branch:
    """A branch file, taken apart: the generator's UNet, the projection, and to_{k,v}_ip by the path of their layer."""

    unet: dict[str, Tensor] = field(default_factory=dict)
    projection: dict[str, Tensor] = field(default_factory=dict)
    layers: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    @property
    def widths(self) -> dict[str, int]:
        """Layer -> its width."""
        return {name: len(parts["to_k_ip.weight"]) for name, parts in self.layers.items()}

    @property
    def context(self) -> int:
        """The width of its tokens."""
        return len(self.projection["norm.weight"])

    @property
    def embedding(self) -> int:
        """The width of the CLIP image embedding that it takes."""
        return self.projection["proj.weight"].shape[1]

    def state(self) -> dict[str, Tensor]:
        """The weights by the names of `branch.ImageBranch`."""
        out = {f"projection.{name}": value for name, value in self.projection.items()}
        for number, parts in enumerate(self.layers.values()):
            out |= {f"layers.{number}.{name}": value for name, value in parts.items()}
        return out


def find(folder: Path | str) -> Release:
    """The parts of a SwiftEdit folder. EditError when it does not exist or holds none of them."""
    folder = Path(folder)
    if not folder.is_dir():
        raise EditError(f"There is no folder {folder}; put SwiftEdit's release ({EXPECTED}) there.")
    unet_folders = list(_unet_folders(folder))
    inversion = next((p for p in unet_folders if _is_inversion(p, folder)), None)
    generator = next((p for p in unet_folders if p != inversion and not _is_inversion(p, folder)), None)
    branch = next((p for name in BRANCHES for p in _files(folder, name)), None)
    if inversion is None and branch is None:
        raise EditError(
            f"{folder} holds nothing of SwiftEdit; it should hold {EXPECTED}, which {PUBLISHED} offers."
        )
    return Release(folder, inversion, generator, branch, _kind(folder))


def parts(root: Path) -> Iterator[Path]:
    """Files by which a release is known, in the folders below `root`: the branch, and the inversion net's config."""
    patterns = [f"*/**/{name}" for name in BRANCHES] + ["*/**/unet_ema/config.json"]
    for pattern in patterns if root.is_dir() else []:
        yield from sorted(p for p in root.glob(pattern) if not p.name.startswith("._"))


def _files(folder: Path, name: str) -> list[Path]:
    return sorted(p for p in folder.rglob(name) if not p.name.startswith("._") and p.is_file())


def _unet_folders(folder: Path) -> Iterator[Path]:
    for config in _files(folder, "config.json"):
        try:
            data = json.loads(config.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(data, dict) and "block_out_channels" in data and "cross_attention_dim" in data:
            yield config.parent


def _is_inversion(path: Path, folder: Path) -> bool:
    names = path.relative_to(folder).parts
    return path.name == "unet_ema" or any(name.startswith("inver") for name in names)


def _kind(folder: Path) -> str:
    path = folder / CARD
    if not path.is_file():
        return generators.DEFAULT
    try:
        kind = json.loads(path.read_text(encoding="utf-8"))["generator"]
    except (OSError, ValueError, KeyError, TypeError):
        raise EditError(f"{path} is not a SwiftEdit card; write it anew, or take it away.") from None
    return generators.generator(kind).name


def read_unet(folder: Path) -> tuple[dict, dict[str, Tensor]]:
    """(config, state dict) of a diffusers UNet folder: safetensors, sharded or not, or .bin.

    EditError, in one sentence, for weights that are missing or corrupt.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config = {k: v for k, v in config.items() if not k.startswith("_")}
    index = next(iter(_here(folder, f"{WEIGHTS}*.index.json")), None)
    if index is not None:
        return config, {k: v for name in _shards(index) for k, v in read_file(folder / name).items()}
    found = [*_here(folder, f"{WEIGHTS}*.safetensors"), *_here(folder, f"{WEIGHTS}*.bin")]
    if not found:
        raise EditError(f"{folder} lacks its weights; put {WEIGHTS}.safetensors there.")
    return config, read_file(min(found, key=lambda p: (p.suffix != ".safetensors", len(p.name))))


def _shards(index: Path) -> list[str]:
    """The files that an index names, all beside it."""
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return sorted(Path(name).name for name in names)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise EditError(f"{index} is not an index of weights; download it again.") from None


def _here(folder: Path, pattern: str) -> list[Path]:
    return sorted(p for p in folder.glob(pattern) if not p.name.startswith("._"))


def read_file(path: Path) -> dict[str, Tensor]:
    """A state dict from .safetensors, or from a .bin as data only (never as code). EditError for a bad file."""
    from safetensors.torch import load_file

    if not path.is_file():
        raise EditError(f"{path} is missing; the release is incomplete.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # noqa: BLE001 - what a damaged .bin raises depends on where it is damaged
        raise EditError(f"{path} cannot be read ({_reason(error)}); download it again.") from None
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise EditError(f"{path} is not a state dict of tensors; it should be SwiftEdit's {BRANCHES[0]}.")
    return loaded


def _reason(error: Exception) -> str:
    """An error of torch.load or safetensors in a few words; its own text may be a page on torch.load's options."""
    first = next(iter(str(error).strip().splitlines()), "").split(". ")[0][:120]
    if first.startswith("Weights only load failed"):
        return "it holds something other than tensors, which is never loaded"
    return first if " " in first else type(error).__name__


def read_branch(path: Path) -> Branch:
    """The image branch of a release, and the generator when the file holds it. EditError for a bad file."""
    try:
        return split(read_file(path))
    except EditError as error:
        if str(path) in str(error):
            raise
        raise EditError(f"{path}: {error}") from None


def split(state: dict[str, Tensor]) -> Branch:
    """Takes the state dict of the released IPSBV2Model apart; every tensor must have its place.

    The weights of a layer are named twice: `unet.<layer>.processor.*`, and `adapter_modules.N.*` with the layers in
    the order down, up, mid and N counting self-attentions too. EditError for anything unknown or missing.
    """
    branch, numbered, unknown = Branch(), {}, []
    for name, value in state.items():
        first, _, rest = name.partition(".")
        layer, is_processor, part = rest.partition(".processor.")
        if first == "unet" and is_processor:
            branch.layers.setdefault(layer, {})[part] = value
        elif first == "unet":
            branch.unet[rest] = value
        elif first == "image_proj_model":
            branch.projection[rest] = value
        elif first == "adapter_modules" and rest.partition(".")[0].isdecimal():
            number, _, part = rest.partition(".")
            numbered.setdefault(int(number), {})[part] = value
        else:
            unknown.append(name)
    if unknown:
        raise EditError(f"{len(unknown)} of its tensors are not SwiftEdit's, for example {unknown[0]!r}.")
    _settle(branch, numbered)
    return branch


def _settle(branch: Branch, numbered: dict[int, dict[str, Tensor]]) -> None:
    """Puts the layers into order, from the numbered copies where the named ones are absent; all must be there."""
    if not branch.layers and numbered:
        names = unets.attn2_layers(branch.unet)
        if len(names) != len(numbered):
            raise EditError(
                f"It has {len(numbered)} image layers, and its UNet {len(names)} cross-attentions."
            )
        branch.layers = dict(zip(names, (numbered[n] for n in sorted(numbered)), strict=True))
    branch.layers = {name: branch.layers[name] for name in unets.ordered(branch.layers)}
    lacking = [f"{name}.{part}" for name, parts in branch.layers.items()
               for part in ("to_k_ip.weight", "to_v_ip.weight") if part not in parts]  # fmt: skip
    lacking += [
        part
        for part in ("proj.weight", "proj.bias", "norm.weight", "norm.bias")
        if part not in branch.projection
    ]
    if not branch.layers or lacking:
        what = f", for example {lacking[0]!r}" if lacking else ""
        raise EditError(f"It has no whole image branch{what}; SwiftEdit's {BRANCHES[0]} is expected.")
    pairs = zip(branch.layers.values(), (numbered[n] for n in sorted(numbered)), strict=False)
    if numbered and any(not _same(one[part], two[part]) for one, two in pairs for part in one if part in two):
        raise EditError("Its two copies of the image layers differ; the file is damaged or was edited.")


def _same(one: Tensor, two: Tensor) -> bool:
    if one.device.type == "meta" or one.data_ptr() == two.data_ptr():
        return one.shape == two.shape
    return torch.equal(one, two)


def save_unet(folder: Path, config: dict, state: dict[str, Tensor]) -> None:
    """Writes a diffusers UNet folder, each file whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(folder / f"{WEIGHTS}.safetensors", state)
    write(folder / "config.json", json.dumps(config, indent=2, sort_keys=True) + "\n")


def save_branch(folder: Path, state: dict[str, Tensor], kind: str) -> None:
    """Writes ip_adapter.safetensors and the card. state: `unet.<layer>.processor.*` and `image_proj_model.*`."""
    (folder / "ip_adapter").mkdir(parents=True, exist_ok=True)
    save_tensors(folder / "ip_adapter" / "ip_adapter.safetensors", state)
    save_card(folder, kind)


def save_card(folder: Path, kind: str) -> None:
    """Writes swiftedit.json, which says what generator a folder is for."""
    write(folder / CARD, json.dumps({"generator": generators.generator(kind).name}, indent=2) + "\n")
