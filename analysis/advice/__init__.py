"""What a sweep's evidence asks of the next sweep."""
