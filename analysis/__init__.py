"""The evidence read back: ranking, export."""
