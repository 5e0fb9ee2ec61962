"""The sections that are text and tables: each module's `section` turns the material into a `Section`, or None."""
