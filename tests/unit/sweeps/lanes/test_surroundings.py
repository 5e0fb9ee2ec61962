"""What Ray can't take of its surroundings is one line, in seconds; or it gets something better."""

import os
import resource
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import pytest
import ray

from sweeps.lanes import surroundings
from sweeps.lanes.cluster import connected
from sweeps.lanes.surroundings import MOST_BYTES, joinable, provide_token, temporary_folder, tight_limits
from trainables.errors import UserError


@pytest.fixture(autouse=True)
def own_surroundings(monkeypatch, tmp_path):
    """No cluster, token or address of this machine's."""
    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE", "RAY_TMPDIR", "RAY_USE_TLS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))  # put back afterwards


@pytest.fixture
def grpc_port():
    """A server of gRPC, as Ray's head is one."""
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None)


@pytest.fixture
def web_port():
    """A web server, as Ray's dashboard is one."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.fixture
def silent_port(monkeypatch):
    """A server that accepts and never says a word."""
    monkeypatch.setattr(surroundings, "ANSWER_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_a_cluster_that_answers_is_joined(grpc_port):
    assert joinable(f"127.0.0.1:{grpc_port}") == f"127.0.0.1:{grpc_port}"
    assert joinable(f"ray://localhost:{grpc_port}") == f"ray://localhost:{grpc_port}"


def test_what_is_no_cluster_is_said_to_be_none(web_port, silent_port):
    for port, why in ((web_port, "a server, but no cluster's head"), (silent_port, "timed out")):
        with pytest.raises(UserError, match=f"a Ray cluster must answer there, got 127.0.0.1:{port}: {why}"):
            joinable(f"127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("http://127.0.0.1:8265", "--address: must be a cluster's address, not its dashboard's, got http://"),
        ("https://ray.example.org", "--address: must be a cluster's address, not its dashboard's"),
        (
            "127.0.0.1",
            "--address: must be HOST:PORT of the cluster's head, got 127.0.0.1; or auto; leave --address out",
        ),
        ("10.1.2.3:", "--address: must be HOST:PORT of the cluster's head, got 10.1.2.3:"),
        ("10.1.2.3:ray", "--address: must be HOST:PORT of the cluster's head"),
        ("10.1.2.3:99999", "--address: must be HOST:PORT of the cluster's head"),
        ("ray://head", "--address: must be HOST:PORT of the cluster's head"),
        ("", "--address: must be HOST:PORT of the cluster's head"),
        ("local host:6379", "--address: must be HOST:PORT of the cluster's head"),
        (f"127.0.0.1:{free_port()}", "--address: a Ray cluster must answer there, got 127.0.0.1:"),
        (f"ray://127.0.0.1:{free_port()}", "--address: a Ray cluster must answer there, got ray://127.0.0.1:"),
        ("no-such-host.invalid:6379", "--address: a Ray cluster must answer there, got no-such-host.invalid:6379: "),
    ],
)
def test_a_wrong_address_is_one_line(address, line):
    with pytest.raises(UserError) as caught:
        joinable(address)
    assert str(caught.value).startswith(line), str(caught.value)


def test_auto_is_the_cluster_of_ray_start_or_of_the_variable_and_no_other(tmp_path, monkeypatch, grpc_port):
    """A local cluster of another program's writes no such file, so that it can't be taken for one to join."""
    with pytest.raises(
        UserError, match=r"auto needs RAY_ADDRESS or a cluster of `ray start`, got none in .*; begin one"
    ):
        joinable("auto")
    (tmp_path / "ray").mkdir()
    file = tmp_path / "ray" / "ray_current_cluster"
    file.write_text(f"127.0.0.1:{grpc_port}")
    assert joinable("auto") == f"127.0.0.1:{grpc_port}"
    file.write_text(f"127.0.0.1:{free_port()}")
    with pytest.raises(UserError, match=r"a Ray cluster must answer there, got 127\.0\.0\.1:\d+, by auto: "):
        joinable("auto")
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{grpc_port}")
    assert joinable("auto") == f"127.0.0.1:{grpc_port}"
    monkeypatch.setenv("RAY_ADDRESS", "10.1.2.3")
    with pytest.raises(UserError, match=r"must be HOST:PORT of the cluster's head, got 10\.1\.2\.3, by auto"):
        joinable("auto")


def test_ray_keeps_its_own_folder_where_it_can(monkeypatch):
    monkeypatch.setenv("TMPDIR", "/tmp")
    with temporary_folder() as folder:
        assert folder is None or not os.access("/tmp/ray", os.W_OK)


@pytest.mark.parametrize("name", ["a" * 90, "ü" * 20, "relative"])
def test_a_folder_that_ray_cant_take_gives_way_to_a_short_one(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", name if name == "relative" else str(tmp_path / name))
    with temporary_folder() as folder:
        assert Path(folder).is_dir()
        assert len(os.fsencode(folder)) <= MOST_BYTES
        (Path(folder) / "session").mkdir()
    assert not Path(folder).exists()


@pytest.mark.parametrize("rays", [None, "/tmp"])
def test_a_tmpdir_too_long_for_sockets_is_a_short_one_while_the_cluster_runs(tmp_path, monkeypatch, rays):
    long = tmp_path / ("a" * 90)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    if rays:
        monkeypatch.setenv("RAY_TMPDIR", rays)
    ask = [sys.executable, "-c", "from multiprocessing import connection; connection.Listener(family='AF_UNIX')"]
    assert b"AF_UNIX path too long" in subprocess.run(ask, capture_output=True).stderr
    with temporary_folder() as folder:
        assert os.environ["TMPDIR"] == (folder or rays)
        subprocess.run(ask, check=True)
    assert os.environ["TMPDIR"] == str(long)


def test_a_folder_that_is_a_file_gives_way_and_without_any_other_it_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "file"))
    with temporary_folder() as folder:
        assert folder is not None
    monkeypatch.setattr(surroundings, "SHORT_FOLDERS", (str(tmp_path / "file"),))
    with pytest.raises(UserError, match="TMPDIR: must be a folder that can be written, of"), temporary_folder():
        pass


@pytest.mark.parametrize(
    ("home", "variables", "given"),
    [
        ("", {}, False),
        ("/proc/nope", {}, True),
        ("/proc/nope", {"RAY_AUTH_TOKEN": "theirs"}, False),
        ("/proc/nope", {"RAY_AUTH_MODE": "disabled"}, False),
        ("/proc/nope", {"RAY_AUTH_MODE": "token"}, True),
    ],
)
def test_a_home_that_cant_be_written_needs_no_token_file(monkeypatch, home, variables, given):
    if home:
        monkeypatch.setenv("HOME", home)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    before = os.environ.get("RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_TOKEN", before or "")  # put back afterwards
    provide_token()
    assert (os.environ["RAY_AUTH_TOKEN"] != (before or "")) is given


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, ("", "")),
        ({resource.RLIMIT_AS: 6 * 2**30}, ("address space limited to 6.0 GiB", "ulimit -v unlimited")),
        ({resource.RLIMIT_NOFILE: 256}, ("256 open files at most", "ulimit -n 8192")),
        ({resource.RLIMIT_NOFILE: 65536}, ("", "")),
        (
            {resource.RLIMIT_AS: 2**33, resource.RLIMIT_NPROC: 100},
            (
                "address space limited to 8.0 GiB, 100 processes and threads at most",
                "ulimit -v unlimited; ulimit -u 8192",
            ),
        ),
    ],
)
def test_limits_of_the_shell_are_named(monkeypatch, limits, expected):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limits.get(which, resource.RLIM_INFINITY), 0))
    assert tight_limits() == expected


MISMATCH = """Version mismatch: The cluster was started with:
    Ray: 2.59.0
    Python: 3.11.7
This process on node 10.0.0.1 was started with:
    Ray: 2.60.0
    Python: 3.11.7
"""


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RuntimeError(MISMATCH), "--address: the cluster must run this release of Ray, got Ray 2.59.0 with"),
        (
            ConnectionError("Failed to connect to Ray cluster at x"),
            "--address: a Ray cluster must answer there, got 127.0.0.1:",
        ),
        (RuntimeError("InvalidAuthToken: no"), "--address: the cluster must accept this machine's token, got Inva"),
    ],
)
def test_what_ray_says_of_a_cluster_is_one_line(monkeypatch, grpc_port, error, line):
    def init(**_):
        raise error

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(UserError) as caught, connected(f"127.0.0.1:{grpc_port}"):
        pass
    assert str(caught.value).startswith(line), str(caught.value)


@pytest.mark.parametrize(
    ("error", "limits", "line"),
    [
        (
            Exception("The current node timed out during startup."),
            {resource.RLIMIT_AS: 2**32},
            "Ray: needs more than the limits of this shell, got address space limited to 4.",
        ),
        (Exception("The current node timed out during startup."), {}, "Ray: must be up within its 30 s"),
        (
            OSError("AF_UNIX path length cannot exceed 107 bytes: /x"),
            {},
            "Ray: must be able to start on this machine, got OSError: AF_UNIX",
        ),
        (
            FileNotFoundError(2, "No such file or directory"),
            {},
            "Ray: must be able to start on this machine, got FileNotFoundErr",
        ),
    ],
)
def test_what_keeps_a_local_cluster_from_starting_is_one_line(monkeypatch, error, limits, line):
    def init(**_):
        raise error

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limits.get(which, resource.RLIM_INFINITY), 0))
    with pytest.raises(UserError) as caught, connected(None):
        pass
    assert str(caught.value).startswith(line), str(caught.value)


def test_a_local_cluster_gets_a_short_folder_and_an_address_that_no_one_else_has(monkeypatch, tmp_path):
    given = {}
    monkeypatch.setattr(ray, "init", lambda **options: given.update(options))
    monkeypatch.setattr(ray, "shutdown", lambda: given.update(there=Path(given["_temp_dir"]).is_dir()))
    monkeypatch.setenv("TMPDIR", str(tmp_path / ("a" * 90)))
    with connected(None):
        assert Path(given["_temp_dir"]).is_dir()
    assert given["address"] == "local"
    assert given["there"], "the folder is there until Ray has ended"
    assert not Path(given["_temp_dir"]).exists()


def test_auto_names_the_cluster_to_ray(monkeypatch, grpc_port):
    given = {}
    monkeypatch.setattr(ray, "init", lambda **options: given.update(options, named=os.environ["RAY_ADDRESS"]))
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{grpc_port}")
    with connected("auto"):
        assert (given["address"], given["named"]) == ("auto", f"127.0.0.1:{grpc_port}")


def test_a_joined_clusters_workers_get_the_allocators_setting_that_a_local_ones_inherit(monkeypatch, grpc_port):
    given = {}
    monkeypatch.setattr(ray, "init", lambda **options: given.update(options))
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "expandable_segments:False")  # the user's counts
    with connected(f"127.0.0.1:{grpc_port}"):
        pass
    sent = given["runtime_env"]["env_vars"]
    assert sent == {"PYTORCH_ALLOC_CONF": "expandable_segments:False", "GOMP_SPINCOUNT": os.environ["GOMP_SPINCOUNT"]}
