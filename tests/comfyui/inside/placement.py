"""A pretended GPU: tensors moved to it are computed on the CPU, and mixing them with CPU tensors is an error as there.

It checks where tensors are, and nothing else of a GPU. `python swiftedit.py … gpu` or `… gpu-only` starts with it.
"""

import torch
from torch.overrides import TorchFunctionMode

GPU = torch.device("cuda", 0)
MIXES = {"copy_", "__setitem__", "__getitem__"}  # torch lets these cross between devices
ASKS = {
    "size", "dim", "__len__", "numel", "stride", "is_floating_point", "element_size", "__repr__", "__format__", "item",
    "__bool__", "__float__", "__int__", "tolist", "type", "is_complex", "untyped_storage", "data_ptr",
    "_has_compatible_shallow_copy_type",
}  # fmt: skip


def there(tensor: torch.Tensor) -> bool:
    return tensor.__dict__.get("_there", False)


def inside(value):
    """Every tensor in nested arguments."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from inside(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from inside(part)


def marked(value, flag: bool):
    for tensor in inside(value):
        tensor._there = flag
    return value


def is_gpu(device) -> bool:
    return torch.device(device).type == "cuda"


class Pretended(TorchFunctionMode):
    """While it is entered, every call of torch keeps account of where its tensors are."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), getattr(function, "__name__", str(function))
        owner = getattr(function, "__self__", None)
        if name == "__get__":
            return self._attribute(function, owner, args, kwargs)
        if name == "__set__":
            out = function(*args, **kwargs)
            if owner is torch.Tensor.data:
                args[0]._there = there(args[1])
            return out
        if name in ("to", "cpu", "cuda") and args and isinstance(args[0], torch.Tensor):
            return self._moved(function, name, args, kwargs)
        return self._called(function, name, args, kwargs)

    def _attribute(self, function, owner, args, kwargs):
        if owner is torch.Tensor.device:
            return GPU if there(args[0]) else function(*args)
        if owner is torch.Tensor.is_cuda:
            return there(args[0])
        out = function(*args, **kwargs)
        return marked(out, there(args[0])) if isinstance(out, torch.Tensor) else out

    def _moved(self, function, name, args, kwargs):
        tensor, target, rest = args[0], {"cpu": False, "cuda": True}.get(name), []
        for value in args[1:]:
            if isinstance(value, torch.device | str):
                target, value = is_gpu(value), "cpu"
            elif isinstance(value, torch.Tensor):
                target = there(value)
            rest.append(value)
        for key in ("device", "other"):
            value = kwargs.get(key)
            if value is not None:
                target = there(value) if isinstance(value, torch.Tensor) else is_gpu(value)
                if key == "device":
                    kwargs[key] = "cpu"
        out = tensor.detach() if name == "cuda" else function(tensor, *rest, **kwargs)
        target = there(tensor) if target is None else target
        if out is tensor and target != there(tensor):
            out = tensor.detach()
        out._there = target
        return out

    def _called(self, function, name, args, kwargs):
        device, found = kwargs.get("device"), [*inside(args), *inside(kwargs)]
        if device is not None and not isinstance(device, torch.Tensor):
            flag = is_gpu(device)
            if torch.device(device).type != "meta":
                kwargs["device"] = "cpu"
            return marked(function(*args, **kwargs), flag)
        places = {there(t) for t in found if t.dim() > 0 or there(t)}
        if name == "numpy" and True in places:
            raise TypeError("can't convert cuda tensor to numpy")
        if len(places) > 1 and name not in MIXES | ASKS:
            shapes = [(tuple(t.shape), "gpu" if there(t) else "cpu") for t in found]
            raise RuntimeError(f"{name}: tensors on two devices: {shapes}")
        out = function(*args, **kwargs)
        if name in ("copy_", "__setitem__"):
            return out
        if name == "__getitem__":
            return marked(out, there(args[0]))
        return marked(out, True in places) if places else out


def enter(gpu_only: bool) -> None:
    """Makes ComfyUI believe in the GPU, with all memory it wants, and starts keeping account."""
    import comfy.model_management as management

    def gpu():
        return GPU

    def cpu():
        return torch.device("cpu")

    for name in ("get_torch_device", "text_encoder_device", "vae_device"):
        setattr(management, name, gpu)
    for name in ("unet_offload_device", "text_encoder_offload_device", "vae_offload_device"):
        setattr(management, name, cpu)
    management.intermediate_device = gpu if gpu_only else cpu
    management.get_free_memory = lambda dev=None, torch_free_too=False: (8e10, 8e10) if torch_free_too else 8e10
    management.get_total_memory = lambda *a, **k: 8e10
    management.soft_empty_cache = lambda *a, **k: None
    management.should_use_fp16 = management.should_use_bf16 = lambda *a, **k: False
    management.vae_dtype = management.text_encoder_dtype = lambda *a, **k: torch.float32
    management.vram_state, management.cpu_state = management.VRAMState.NORMAL_VRAM, management.CPUState.GPU
    Pretended().__enter__()
