"""A folder in an object store: what is written is read, conditions hold, and trouble is told in a line."""

import http.server
import logging
import socket
import threading

import pytest

from tests.object_store_helpers import KEYS
from trainables.errors import UserError
from trainables.storage.object_store import Remote, StoreError, check_url


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("s3://bucket/sweeps/one", None),
        ("gs://bucket/sweeps/", None),
        ("s3://bucket", None),
        ("s3://", "must be a folder"),
        ("az://bucket/sweeps", "must be a folder"),
        ("https://host/bucket", "must be a folder"),
        ("s3://bucket/../other", "must be a folder"),
        ("s3://bucket/a//b", "must be a folder"),
        ("s3://key:secret-value@bucket/sweeps", "must hold no credential"),
        ("s3://bucket/sweeps?X-Amz-Signature=0123456789", "must hold no credential"),
    ],
)
def test_only_a_folder_in_a_store_is_a_url_and_no_credential(url, wrong):
    if wrong is None:
        assert check_url(url, "DIR") == url.rstrip("/")
        return
    with pytest.raises(UserError, match=wrong) as caught:
        check_url(url, "DIR")
    assert "secret-value" not in str(caught.value)
    assert "0123456789" not in str(caught.value)


def test_what_is_written_is_read(store_url, tmp_path):
    remote, large = Remote(store_url), tmp_path / "large"
    large.write_bytes(bytes(range(256)) * 40_000)  # more than one part
    remote.put("a/large", large)
    remote.put("a/b/small.json", b"{}")
    assert remote.get("a/b/small.json") == b"{}"
    assert remote.get("a/b/none") is None
    assert list(remote.listed()) == ["a/b/small.json", "a/large"]
    assert list(remote.listed("a/b")) == ["a/b/small.json"]
    assert remote.fetch("a/large", tmp_path / "new" / "large")
    assert (tmp_path / "new" / "large").read_bytes() == large.read_bytes()
    assert remote.fetch("a/none", tmp_path / "none") is None
    assert not (tmp_path / "none").exists()
    remote.drop("a/b")
    assert list(remote.listed()) == ["a/large"]


def test_of_two_that_create_an_object_one_does(store_url):
    remote = Remote(store_url)
    assert remote.create("lock", b"mine")
    assert remote.create("lock", b"theirs") is None
    assert remote.create("lock", b"mine"), "as when the answer was lost, and the request is retried"
    assert remote.get("lock") == b"mine"


def test_a_version_is_replaced_once(store_url):
    remote = Remote(store_url)
    first = remote.create("lock", b"one")
    second = remote.replace("lock", b"two", first)
    assert second
    assert remote.replace("lock", b"three", first) is None
    assert remote.replace("lock", b"three", second)
    assert remote.replace("none", b"one", first) is None


@pytest.mark.usefixtures("store_url")
def test_a_bucket_that_is_missing_is_told_at_once():
    for ask in (lambda r: r.get("x"), lambda r: r.put("x", b"1"), lambda r: r.create("x", b"1"), lambda r: r.listed()):
        with pytest.raises(StoreError, match=r"^s3://nobody/x: must lie in a bucket that exists, got .*NoSuchBucket"):
            ask(Remote("s3://nobody/x"))


class Troubled(http.server.BaseHTTPRequestHandler):
    """Answers with the statuses that its server was given, one a request, then 200."""

    def do_PUT(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        self.server.asked += 1
        self.send_response(status)
        self.send_header("ETag", '"tag"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def store_at(monkeypatch, port):
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def troubled(monkeypatch):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Troubled)
    server.statuses, server.asked = [], 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    store_at(monkeypatch, server.server_port)
    yield server
    server.shutdown()


def test_a_store_in_trouble_is_asked_again_and_the_user_is_told(troubled, caplog):
    troubled.statuses = [503, 500, 429]
    with caplog.at_level(logging.WARNING):
        Remote("s3://bucket/x", patience_seconds=30).put("a", b"1")
    assert troubled.asked == 4
    said = [record.getMessage() for record in caplog.records]
    begun = [text.partition(" (")[0] for text in said]
    assert begun == ["s3://bucket/x does not answer", "s3://bucket/x answers again"]
    assert "status 503" in said[0]


def test_a_store_that_denies_access_is_not_asked_again(troubled):
    troubled.statuses = [403] * 5
    with pytest.raises(StoreError, match="must be open to you, got status 403; check the credentials"):
        Remote("s3://bucket/x").put("a", b"1")
    assert troubled.asked == 1


def test_patience_ends_in_one_line_and_is_not_spent_twice(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        store_at(monkeypatch, free.getsockname()[1])
    pauses = []
    monkeypatch.setattr("trainables.storage.object_store.time.sleep", pauses.append)
    remote = Remote("s3://bucket/x", patience_seconds=0.2)
    for _ in range(2):
        with pytest.raises(StoreError, match=r"^s3://bucket/x: must answer within 0 seconds") as caught:
            remote.put("a", b"1")
        assert len(str(caught.value).splitlines()) == 1
        waited, pauses[:] = len(pauses), []
    assert waited == 0, "once it has given up it asks once"
