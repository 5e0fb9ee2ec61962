"""The base model: where it comes from, how it is loaded, how its forward pass runs."""
