"""LoRA adapters: the weights that they change, and their initial bits."""
