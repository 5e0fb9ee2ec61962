"""Building blocks, style and input of the report's sections."""
