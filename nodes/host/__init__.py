"""The only place that knows ComfyUI: devices, folders, progress, interrupt, and hooks into MODEL."""
