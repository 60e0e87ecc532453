"""BlazeEdit training: autoencoder, decoder, pretraining, finetuning, distillation, map heads."""
