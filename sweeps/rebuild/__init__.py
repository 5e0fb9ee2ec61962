"""Restores the files of a sweep from its ledger."""
