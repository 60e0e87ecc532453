"""Runs a bundle with LiteRT, in place of the torch model: the pipeline cannot tell the two apart."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..blazeedit.config import BlazeEditConfig, from_dict
from ..errors import EditError
from .canvas import mirrored
from .manifest import Manifest
from .packages import first_line, litert


class Network:
    """One .tflite file: named float arrays in, named float arrays out. Loaded at its first use."""

    def __init__(self, path: Path, threads: int):
        self.path, self.threads, self.interpreter, self.lock = path, threads, None, threading.Lock()

    def __call__(self, signature: str, **inputs: Tensor) -> dict[str, Tensor]:
        """Inputs as the manifest shapes them. Returns the outputs as tensors of their own."""
        with self.lock:  # an interpreter holds one call's tensors
            if self.interpreter is None:
                self.interpreter = open_interpreter(self.path, self.threads)
            runner = self.interpreter.get_signature_runner(signature)
            arrays = {
                k: np.ascontiguousarray(v.detach().cpu().numpy(), np.float32) for k, v in inputs.items()
            }
            return {k: torch.from_numpy(np.array(v)) for k, v in runner(**arrays).items()}


def open_interpreter(path: Path, threads: int):
    """LiteRT's interpreter of a file. EditError when the file cannot be loaded."""
    try:
        return litert().Interpreter(model_path=str(path), num_threads=threads)
    except (ValueError, RuntimeError) as error:
        raise EditError(
            f"{path} is damaged or not a LiteRT model ({first_line(error)}); export it again."
        ) from None


class BundleModel:
    """A bundle with the interface of `blazeedit.model.BlazeEdit`, for pictures of at most its largest canvas.

    Pictures are [1, 3, h, w] as everywhere; what the networks make has the size of the canvas they ran on.
    """

    def __init__(self, folder: Path | str, manifest: Manifest, *, threads: int | None = None):
        self.folder, self.manifest = Path(folder), manifest
        self.sizes = manifest.sizes
        self.config = _config(manifest)
        threads = threads or torch.get_num_threads()
        self.networks = {f["name"]: Network(self.folder / f["path"], threads) for f in manifest.data["files"]}
        self.autoencoder = _Codec(self)
        self.shadow_head, self.relight_head = (
            _Head(self, name) if name in self.networks else None for name in ("shadow", "relight")
        )

    def canvas(self, height: int, width: int) -> tuple[int, int]:
        """The smallest canvas of the bundle that holds such a picture. EditError when none does."""
        side = next((s for s in self.sizes if s >= max(height, width)), None)
        if side is None:
            raise EditError(
                f"A working picture of {width}x{height} px is larger than this bundle's canvas of {self.sizes[-1]} px; "
                "export it with larger --sizes."
            )
        return side, side

    def run(self, name: str, side: int, **inputs: Tensor) -> dict[str, Tensor]:
        """One network on NCHW tensors of a canvas of `side` px; vectors stay as they are. Returns NCHW tensors."""
        arrays = {k: v.permute(0, 2, 3, 1) if v.ndim == 4 else v for k, v in inputs.items() if v is not None}
        out = self.networks[name](self.manifest.signature(name, side), **arrays)
        return {k: v.permute(0, 3, 1, 2).contiguous() for k, v in out.items()}

    def conditions(self, image: Tensor, mask: Tensor, tau: float | Tensor, guess: Tensor):
        """f_θ(concat[x, τ·m]) and the latent of the first guess, at canvas size, in one run of the encoder."""
        side = self.canvas(*image.shape[-2:])[0]
        out = self.run(
            "encoder", side, image=mirrored(image, side, side), mask=mirrored(mask, side, side)[:, None],
            tau=torch.full((1, 1), float(tau)), guess=mirrored(guess, side, side) if self.config.guess else None,
        )  # fmt: skip
        return out["features"], out.get("guess_latent")

    def denoise(self, noisy: Tensor, t: Tensor, features: Tensor, guess: Tensor | None = None) -> Tensor:
        """x0 from noisy latents [1, c, h, w] at time t [1]; the file adds its own noise, so α and σ are undone."""
        alpha, sigma = self.manifest.noise_levels(float(t[0]))
        zero = torch.zeros_like(noisy)
        latent, noise = (noisy / alpha, zero) if alpha > 0 else (zero, noisy / sigma)
        time = torch.tensor([[float(t[0]), alpha, sigma]])
        side = noisy.shape[-1] * self.manifest.data["model"]["downscale"]
        return self.run(
            "denoiser", side, latent=latent, noise=noise, time=time, features=features, guess_latent=guess
        )["latent"]


class _Codec:
    """E and D of a bundle."""

    def __init__(self, model: BundleModel):
        self.model, self.mean = (
            model,
            torch.zeros(model.config.latent_channels),
        )  # `mean.device` is where it runs

    def encode(self, image: Tensor) -> Tensor | None:
        """None for a model without a first guess: its files do not hold E."""
        if not self.model.config.guess:
            return None
        blank = torch.zeros(1, *image.shape[-2:])
        return self.model.conditions(image, blank, 0.0, image)[1]

    def decode(self, latent: Tensor) -> Tensor:
        side = latent.shape[-1] * self.model.manifest.data["model"]["downscale"]
        return self.model.run("decoder", side, latent=latent)["image"]


class _Head:
    """A gain head of a bundle."""

    def __init__(self, model: BundleModel, name: str):
        self.model, self.name = model, name

    def __call__(self, image: Tensor, signal: Tensor) -> Tensor:
        """image: [1, 3, h, w], signal = τ · m: [1, h, w]. Returns log-gain [1, 3, h, w]."""
        side, (h, w) = self.model.config.gain_size, image.shape[-2:]
        out = self.model.run(
            self.name, side, image=mirrored(image, side, side), mask=mirrored(signal, side, side)[:, None],
            tau=torch.ones(1, 1),
        )  # fmt: skip
        return out["log_gain"][..., :h, :w]


def _config(manifest: Manifest) -> BlazeEditConfig:
    """The configuration of the exported model, its working sizes cut to the bundle's largest canvas."""
    base, largest = from_dict(manifest.data["model"]["configuration"]), manifest.sizes[-1]
    sizes = {k: min(getattr(base, k), largest) for k in ("fill_size", "map_size", "sticker_size")}
    return replace(base, **sizes)
