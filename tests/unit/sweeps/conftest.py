"""A small config, as a file and loaded."""

import pytest
import yaml

from sweeps.config.sweep_config import load_config
from tests.unit.sweeps.helpers import SMALL


@pytest.fixture
def small(tmp_path):
    """The file of a small config."""
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    return path


@pytest.fixture
def load(small, tmp_path):
    """Loads a small config with overrides; its sweeps lie in `tmp_path`."""
    return lambda *overrides: load_config(small, [f"storage_path={tmp_path}", *overrides])
