"""Packed trials against trials one after another."""
