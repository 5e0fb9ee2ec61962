"""The experiment service under load."""
