"""What stands in the place of a loaded model's own layers."""
