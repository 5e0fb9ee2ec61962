"""Fixtures for tests of several packages."""

from tests.object_store_helpers import store_url

__all__ = ["store_url"]
