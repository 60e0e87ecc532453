"""SwiftEdit (Nguyen et al. 2025): one-step inversion, self-guided mask, attention rescaling (ARaM)."""
