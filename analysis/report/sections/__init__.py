"""The parts of the report, a module each: `section` takes the material and gives what to show, or None."""
