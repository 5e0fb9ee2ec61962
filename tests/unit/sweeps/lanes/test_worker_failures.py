"""The line under which a trial fails whose worker raised within a pass."""

import pytest
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback

from sweeps.lanes.worker_failures import said


def raised(line):
    return UserExceptionWithTraceback(RuntimeError(line), f"Traceback:\n  File x\nRuntimeError: {line}\n")


@pytest.mark.parametrize(
    ("errors", "line"),
    [
        ({1: raised("memory ran out")}, "worker 1: RuntimeError: memory ran out"),
        ({1: raised("b"), 0: raised("a")}, "worker 0: RuntimeError: a; worker 1: RuntimeError: b"),
        ({0: ConnectionError("the actor died")}, ""),
        ({0: raised("")}, "worker 0: RuntimeError:"),
        ({}, ""),
    ],
)
def test_the_last_line_of_what_each_worker_raised(errors, line):
    assert said(errors) == line
