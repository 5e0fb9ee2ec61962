"""Tokens a second, against transformers' Trainer."""
