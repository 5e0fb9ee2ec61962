"""The typed configuration of a sweep, and the wording of its errors."""
