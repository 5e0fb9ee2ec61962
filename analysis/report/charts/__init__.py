"""The sections that are pictures: each module's `section` turns the material into a `Section`, or None."""
