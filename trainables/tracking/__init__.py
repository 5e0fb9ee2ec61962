"""Runs of trials in Weights & Biases and MLflow."""
