"""Train several LoRA trials together on one frozen base model."""
