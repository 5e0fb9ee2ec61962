"""`python -m sweeps.serve`: the first start prints a token, one service a storage, mistakes are one line."""

import os
import re
import signal
import socket
import subprocess
import sys

import httpx
import pytest

from sweeps.serve import main
from tests.unit.sweeps.service.conftest import ROOT

PATIENCE_SECONDS = 60


def started(storage):
    command = [sys.executable, "-m", "sweeps.serve", str(storage), "--port", "0"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    lines = []
    while not lines or "http://" not in lines[-1]:
        lines.append(process.stdout.readline())
        assert lines[-1], "the service has ended"
    return process, lines, re.search(r"http://\S+", lines[-1])[0]


def test_the_service_starts_prints_one_token_and_answers_with_it_alone(tmp_path):
    process, lines, url = started(tmp_path)
    try:
        token = lines[0].split(": ")[1].strip()
        assert token.startswith("admin.")
        assert httpx.get(f"{url}/health").status_code == 200
        assert httpx.get(f"{url}/sweeps").status_code == 401
        assert httpx.get(f"{url}/sweeps", headers={"authorization": f"Bearer {token}"}).json() == []
        assert main([str(tmp_path), "--port", "0"]) == 2  # the storage has its service
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_SECONDS)
    assert token not in "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())


def test_a_user_is_added_once(tmp_path, capsys):
    assert main([str(tmp_path), "--add-user", "ada"]) == 0
    assert capsys.readouterr().out.startswith("ada.")
    for name in ("ada", "../x", "a.b"):
        assert main([str(tmp_path), "--add-user", name]) == 2
        assert capsys.readouterr().err.startswith("error: --add-user: must be a ")
    assert os.listdir(tmp_path / ".service") == ["users.yaml"]


MISTAKES = {
    "a URL": ["s3://bucket/x"],
    "a port that is taken": ["{storage}", "--port", "{taken}"],
    "no port": ["{storage}", "--port", "70000"],
    "another machine's address": ["{storage}", "--host", "192.0.2.1"],
    "a file": ["{file}"],
    "Kueue without an image": ["{storage}", "--scheduler", "kueue", "--claim", "pool"],
    "Kueue without a volume": ["{storage}", "--scheduler", "kueue", "--image", "me/it:1"],
    "no time of Slurm's": ["{storage}", "--scheduler", "slurm", "--time", "soon"],
    "less time than the grace": ["{storage}", "--scheduler", "slurm", "--time", "4"],
}


@pytest.mark.parametrize("arguments", MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_one_line(tmp_path, capsys, arguments):
    (tmp_path / "file").write_text("")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        places = {"storage": tmp_path / "s", "file": tmp_path / "file", "taken": taken.getsockname()[1]}
        assert main([one.format(**places) for one in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
