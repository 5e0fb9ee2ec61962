"""Whether a running trial is worth its remaining steps."""
