"""Weights in other formats, written once as safetensors."""
