"""Text for terminals and files: tables, plots, CSV, number formats."""
