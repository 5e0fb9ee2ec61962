"""Output never fails a command: a reader that leaves, a full disk, an encoding, markup in a user's text."""

import io
import os
import subprocess
import sys

import pytest

from analysis.cli import local_path
from analysis.terminal import Guarded, guarded_streams, lost_streams
from trainables.errors import UserError

SCRIPT = """
import sys
from rich.console import Console
from analysis.terminal import guarded_streams, lost_streams, show_plainly
show_plainly()
with guarded_streams():
    console = Console(markup=False, emoji=False, highlight=False)
    for number in range(int(sys.argv[1])):
        console.print(f"line {number} [/b] :smile: Δ … r\\u00e4um")
    print("the end is reached", lost_streams(), file=sys.stderr)
"""


def ran(*, stdout, lines=1, **environment):
    """Runs the script with what its stdout is; the process."""
    command = [sys.executable, "-c", SCRIPT, str(lines)]
    env = {**os.environ, **environment}
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, env=env, check=False)


def test_a_reader_that_leaves_ends_nothing():
    reading, writing = os.pipe()
    os.close(reading)
    done = ran(stdout=writing, lines=5000)
    os.close(writing)
    assert (done.returncode, done.stderr.count("\n")) == (0, 2)
    assert "warning: stdout can't be written any more (Broken pipe): the sweep goes on" in done.stderr
    assert "the end is reached {'stdout': 'Broken pipe'}" in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_behind_stdout_ends_nothing():
    with open("/dev/full", "w") as full:
        done = ran(stdout=full)
    assert done.returncode == 0
    assert "No space left on device" in done.stderr


def test_what_an_encoding_lacks_is_shown_in_plain_characters():
    done = ran(stdout=subprocess.PIPE, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout) == (0, "line 0 [/b] :smile: d  ... r\\xe4um\n")
    assert "Traceback" not in done.stderr


class Failing(io.StringIO):
    """A stream that fails at every write, and counts them."""

    def __init__(self, error):
        super().__init__()
        self.error, self.writes = error, 0

    def write(self, text):
        self.writes += 1
        raise self.error


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (OSError(5, "Input/output error"), "Input/output error"),
        (BrokenPipeError(32, "Broken pipe"), "Broken pipe"),
        (ValueError("I/O operation on closed file"), "I/O operation on closed file"),
        (UnicodeEncodeError("ascii", "ä", 0, 1, "ordinal not in range"), "'ascii' codec can't encode"),
    ],
)
def test_a_stream_that_fails_is_turned_off_once(monkeypatch, error, why):
    failing = Failing(error)
    monkeypatch.setattr(sys, "stdout", failing)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with guarded_streams():
        print("one")
        print("two", flush=True)
        assert lost_streams()["stdout"].startswith(why)
    assert failing.writes == 1
    assert sys.stdout is failing
    assert sys.stderr.getvalue().count("\n") == 1


def test_a_program_without_streams_prints_into_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    with guarded_streams():
        print("one")
        assert not lost_streams()


def test_a_guarded_stream_is_what_it_guards_otherwise():
    stream = io.StringIO()
    guarded = Guarded(stream, "stdout")
    guarded.writelines(["a", "b"])
    assert (stream.getvalue(), guarded.isatty(), guarded.lost) == ("ab", False, "")


@pytest.mark.parametrize("url", ["s3://bucket/x", "gs://bucket", "https://example.org/x", "file:///tmp/x"])
def test_an_output_that_is_a_url_is_refused(url):
    with pytest.raises(UserError, match="--to: must be a path of this machine, got"):
        local_path(url, "--to")


def test_an_output_below_the_home_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert str(local_path("~/out", "--to")) == "/home/me/out"
    assert str(local_path("a b/out", "--to")) == "a b/out"
