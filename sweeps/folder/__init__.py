"""The sweep's folder: claimed, locked, described, resumed, cleaned up."""
