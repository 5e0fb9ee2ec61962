"""Audit a sweep's data line by line before training.

Start at `trainables.data.audit.audit`; `trainables.config.defect_rules` holds the table of rules.
"""
