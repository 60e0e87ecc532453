"""Builds training triplets (source, instruction, result) as EditMGT's appendix A.1 does, in four stages."""
