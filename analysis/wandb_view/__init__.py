"""The sweep's workspace and report in Weights & Biases."""
