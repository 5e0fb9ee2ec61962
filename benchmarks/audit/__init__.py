"""How fast the data audit is."""
