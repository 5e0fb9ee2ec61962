"""How good a setting the search finds."""
