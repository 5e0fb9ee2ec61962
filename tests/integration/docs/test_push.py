"""`--push`, with the hub's own client against a loopback server that takes repositories and commits."""

import base64
import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
TOKEN = "hf_" + "a1B2" * 9
SCRIPT = """
import sys
from pathlib import Path
from analysis.cli import run
from analysis.export.hub import check_push, push

def command():
    check_push(sys.argv[2])
    print(push(Path(sys.argv[1]), sys.argv[2]))
    return 0

sys.exit(run(command))
"""


class Hub(http.server.BaseHTTPRequestHandler):
    """Knows three calls: make a repository, ask how files are sent (all in the commit), commit."""

    refuses = False
    got: list

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"] or 0))
        self.got.append((self.path, self.headers["authorization"], body))
        if self.refuses:
            return self.answer(403, {"error": "no"})
        if self.path == "/api/repos/create":
            return self.answer(200, {"url": f"http://{self.headers['host']}/me/demo"})
        if "/preupload/" in self.path:
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            return self.answer(200, {"files": files})
        url = f"http://{self.headers['host']}/me/demo/commit/" + "0" * 40
        return self.answer(200, {"commitUrl": url, "commitOid": "0" * 40, "hookOutput": "", "success": True})

    def do_GET(self):
        self.answer(200, {"sha": "0" * 40, "id": "me/demo", "siblings": []})

    def answer(self, status, content):
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        """Keeps the test output clean."""


@pytest.fixture(params=[False, True], ids=["accepts", "refuses"])
def hub(request):
    handler = type("Handler", (Hub,), {"refuses": request.param, "got": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield handler, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def run(folder, repo, home, **more):
    known = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    environment = known | {"HOME": str(home), "HF_HOME": str(home / "hf"), "PYTHONPATH": str(ROOT)} | more
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), repo],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_folder_goes_to_a_private_repository_as_one_commit(hub, tmp_path):
    handler, url = hub
    folder = tmp_path / "out"
    folder.mkdir()
    files = {"README.md": b"# card", "adapter_model.safetensors": b"\x00weights", "reproduce.yaml": b"name: x"}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    done = run(folder, "me/demo", tmp_path, HF_ENDPOINT=url, HF_TOKEN=TOKEN)
    assert TOKEN not in done.stdout + done.stderr
    if handler.refuses:
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: --push me/demo: must be accepted by the hub, got ")
        assert sorted(path.name for path in folder.iterdir()) == sorted(files)
        return
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().startswith(url)
    made = json.loads(handler.got[0][2])
    assert (handler.got[0][0], made["name"], made["visibility"]) == ("/api/repos/create", "demo", "private")
    assert {who for _, who, _ in handler.got} == {f"Bearer {TOKEN}"}
    (commit,) = [body for path, _, body in handler.got if "/commit/" in path]
    lines = [json.loads(line) for line in commit.splitlines()]
    sent = {x["value"]["path"]: base64.b64decode(x["value"]["content"]) for x in lines if x["key"] == "file"}
    assert sent == files


@pytest.mark.parametrize(
    ("repo", "token", "error"),
    [
        ("me/demo", {}, "error: --push: needs a token of the hub, got none; run `hf auth login`, or set HF_TOKEN"),
        ("a/b/c", {"HF_TOKEN": TOKEN}, "error: --push: must be OWNER/NAME, got a/b/c; name a repository of yours"),
    ],
)
def test_a_push_that_cannot_begin_is_one_line(tmp_path, repo, token, error):
    done = run(tmp_path, repo, tmp_path, **token)
    assert (done.returncode, done.stderr.splitlines()) == (2, [error])
