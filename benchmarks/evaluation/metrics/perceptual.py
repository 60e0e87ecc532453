"""LPIPS (Zhang et al. 2018) by torchmetrics on SqueezeNet, as PIE-Bench's evaluation takes it.

torchmetrics brings LPIPS's own weights; those of SqueezeNet are torchvision's file, which is never fetched here.
"""

from pathlib import Path

import numpy as np
import torch

from . import finding, missing
from .pixels import as_batch

FILE, SIZE = "squeezenet1_1*", "5 MB"
SOURCE = "download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth"
SMALLEST = 17  # px: below it SqueezeNet's poolings leave nothing


class Lpips:
    """LPIPS with SqueezeNet's features."""

    def __init__(self, models: Path | None):
        try:
            from torchmetrics.functional.image.lpips import _LPIPS
        except ImportError:
            raise missing.package("torchmetrics", "pip install -r requirements-eval.txt") from None
        hub = Path(torch.hub.get_dir()) / "checkpoints"
        path = finding.file(FILE, [*finding.places(models), hub])
        if path is None:
            raise missing.weights("SqueezeNet for LPIPS", SIZE, SOURCE, finding.home(models))
        try:
            self.network = _LPIPS(net="squeeze", pnet_rand=True)
        except ModuleNotFoundError:
            said = "install the build that belongs to your torch; ComfyUI has it"
            raise missing.package("torchvision, whose SqueezeNet LPIPS runs on,", said) from None
        self._fill(path)
        self.identity = f"{path.name} {path.stat().st_size}"

    def _fill(self, path: Path) -> None:
        """Puts the features' weights into torchmetrics' slices, which keep torchvision's numbers."""
        state = _read(path)
        own = self.network.net.state_dict()
        try:
            loaded = {name: state["features." + name.split(".", 2)[2]] for name in own}
            self.network.net.load_state_dict(loaded)
        except (KeyError, RuntimeError) as error:
            raise missing.damaged(f"SqueezeNet in {path}", str(error).splitlines()[0]) from None

    def distance(self, image: np.ndarray, truth: np.ndarray) -> float:
        """0 for equal pictures [h, w, 3]. NaN for pictures under 17 px."""
        if min(image.shape[:2]) < SMALLEST:
            return float("nan")
        with torch.inference_mode():
            return float(self.network(as_batch(image), as_batch(truth), normalize=True))


def _read(path: Path) -> dict:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, SafetensorError) as error:
        raise missing.damaged(f"SqueezeNet in {path}", str(error).splitlines()[0] or type(error).__name__) from None
    except Exception as error:  # of a file that is no archive of tensors: its own exceptions have no common base
        raise missing.damaged(f"SqueezeNet in {path}", type(error).__name__) from None
