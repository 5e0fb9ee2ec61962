"""Speed of the data audit."""
