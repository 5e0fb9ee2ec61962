"""Speed, as a ratio of two sides that are measured in turn, in one command."""
