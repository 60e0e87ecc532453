"""Progress and interruption: ComfyUI's bar on a server, a listener's in the headless runner, nothing otherwise."""

from collections.abc import Callable

from .devices import in_comfyui

_listener: Callable[[int, int], None] | None = None


def set_listener(listener: Callable[[int, int], None] | None) -> None:
    """Who hears `(done, total)` when there is no ComfyUI; None for nobody."""
    global _listener
    _listener = listener


def reporter() -> Callable[[int, int], None]:
    """A callback(done, total) for a long run; raises ComfyUI's own interruption when the user has cancelled."""
    return _server_reporter() if in_comfyui() else _tell


def _tell(done: int, total: int) -> None:
    if _listener is not None:
        _listener(done, total)


def _server_reporter() -> Callable[[int, int], None]:
    import comfy.model_management
    import comfy.utils

    bar = comfy.utils.ProgressBar(1)

    def report(done: int, total: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        bar.update_absolute(done, total)

    return report
