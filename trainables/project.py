"""Where this project's packages lie, for processes that must import or ship them."""

from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parents[1]  # holds `PACKAGES`; the only path that depends on a module's depth
PACKAGES = ("sweeps", "trainables", "analysis")
