"""The search and the pruner decide with numbers only: a driver that loads torch for them wastes seconds and memory."""

import pkgutil
import subprocess
import sys

import pytest

import sweeps.pruning
import sweeps.search


@pytest.mark.parametrize("package", [sweeps.search, sweeps.pruning], ids=lambda package: package.__name__)
def test_no_module_of_these_folders_loads_torch(package):
    modules = [f"{package.__name__}.{found.name}" for found in pkgutil.iter_modules(package.__path__)]
    assert modules
    program = f"import sys, {', '.join(modules)}; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr
