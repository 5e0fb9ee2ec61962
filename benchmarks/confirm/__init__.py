"""How often equal settings are called different."""
