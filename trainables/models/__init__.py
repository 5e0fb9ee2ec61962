"""The base model: found, loaded, run forward."""
