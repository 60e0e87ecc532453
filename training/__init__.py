"""The training recipes, each runnable small on one CPU and unchanged on many GPUs."""
