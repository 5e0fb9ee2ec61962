"""Several LoRA trials on one frozen base model, one slot each."""
