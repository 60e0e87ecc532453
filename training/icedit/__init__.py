"""ICEdit's training: a LoRA or a routed mixture of LoRA experts that makes FLUX.1 Fill complete edited diptychs."""
