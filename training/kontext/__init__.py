"""FLUX.1 Kontext's training (§3, A.1, A.2): rectified flow, guidance distillation, adversarial distillation."""
