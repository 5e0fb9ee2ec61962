"""The parts of the report, one module each: `section` turns the material into a `Section`, or None."""
