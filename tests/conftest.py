"""Settings of every test run."""

import os
from pathlib import Path

import pytest

REAL_SWEEPS = [Path(__file__).parent / name for name in ("integration", "chaos")]
WITHOUT_RAY = {"test_architectures", "test_ddp", "test_push", "test_report_browser", "test_acts"}

if "PYTEST_XDIST_WORKER" in os.environ:
    # Several workers share the cores: more threads than cores make torch slower. Torch reads this when it is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(tryfirst=True)  # xdist reads the marks in the same hook
def pytest_collection_modifyitems(items):
    """Keeps all tests of real sweeps on one xdist worker: two Ray clusters at once starve each other on two cores."""
    for item in items:
        if item.path.stem not in WITHOUT_RAY and any(folder in item.path.parents for folder in REAL_SWEEPS):
            item.add_marker(pytest.mark.xdist_group("ray"))
