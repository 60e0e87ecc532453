"""ICEdit: FLUX Fill completes a diptych whose right panel is the edit, with a LoRA or a routed mixture of them."""
