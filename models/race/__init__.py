"""Several edits of one picture measured, ranked by a rule, and shown on one sheet."""
