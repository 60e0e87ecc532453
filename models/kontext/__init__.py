"""FLUX.1 Kontext: context images as further tokens of one sequence (paper §3), in pure PyTorch."""
