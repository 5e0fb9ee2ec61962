"""The append-only record of a sweep, in a file or an object store."""
