"""The five systems in pure PyTorch, and what they share. Imports nothing from the rest of the pack."""
