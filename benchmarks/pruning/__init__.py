"""Steps saved and choices lost by early stopping."""
