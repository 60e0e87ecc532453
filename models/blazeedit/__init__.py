"""BlazeEdit: an encoder of image and mask, a U-ViT denoiser and a light decoder (papers: BlazeEdit)."""
