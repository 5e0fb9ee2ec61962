"""What early stopping saves and what it loses."""
