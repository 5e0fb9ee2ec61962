import pytest
import yaml

from tests.unit.sweeps.config.test_sweep_config import SMALL


@pytest.fixture
def small(tmp_path):
    """The file of a small config."""
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    return path
