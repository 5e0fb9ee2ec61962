import optuna
import pytest
import yaml

from sweeps.config.sweep_config import load_config
from tests.unit.sweeps.config.test_sweep_config import SMALL

optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture
def load(tmp_path):
    """Loads a small config with overrides; its sweeps lie in `tmp_path`."""
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    return lambda *overrides: load_config(path, [f"storage_path={tmp_path}", *overrides])
