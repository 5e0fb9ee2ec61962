"""What a GPU gives: parity, speed, stalls and memory, in minutes, on what is installed there."""
