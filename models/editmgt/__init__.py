"""EditMGT (2025): a masked generative transformer that edits pictures as discrete tokens, on Meissonic."""
