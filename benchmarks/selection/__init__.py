"""Quality of the setting that the search finds."""
