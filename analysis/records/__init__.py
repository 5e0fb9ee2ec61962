"""A sweep's folder as typed records."""
