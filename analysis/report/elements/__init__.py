"""What the report's sections are made of."""
