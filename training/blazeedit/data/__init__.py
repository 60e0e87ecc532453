"""Triplets (x, m, y) for every task, from photographs, cut-outs and rendered scenes."""
