"""How often the diagnostics are right."""
