"""`python . eval`: the papers' benchmarks, run on any workflow and scored as the papers score."""
