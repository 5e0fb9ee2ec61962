"""Fixtures for tests of several packages."""

from tests.store_kit import store_url

__all__ = ["store_url"]
