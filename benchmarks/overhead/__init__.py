"""Overhead of a trial beyond its training."""
