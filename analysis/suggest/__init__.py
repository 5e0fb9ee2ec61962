"""The next sweep, from what this one showed."""
