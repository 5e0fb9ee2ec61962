"""What Ray needs of its surroundings: an address that answers, a short temporary folder, a token, no limits."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from trainables.errors import UserError

ANSWER_SECONDS = 5.0  # for each of: a connection to the cluster, its first bytes
HERE = "leave --address out for a local cluster"

# A socket's path has 107 bytes at most (`man 7 unix`). Ray 2.60 puts below its folder a session's name with date, time
# and process, "sockets", and as the longest name that of a part of its dashboard.
MOST_BYTES = 107 - len("/session_2026-11-30_10-44-42_123456_1234567/sockets/dash_TaskEventsHead")
# `multiprocessing`, by which the dashboard starts its parts, puts this below TMPDIR; without it Ray waits for ever.
MOST_BYTES_OF_TMPDIR = 107 - len("/pymp-12345678/listener-12345678")
SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")

# What every server of gRPC sends first: a frame of HTTP/2 of the type SETTINGS (RFC 9113, sections 3.4 and 6.5).
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
_SETTINGS, _FRAME_HEAD = 4, 9

_FEW_FILES = 1024
_LIMITS = (
    (resource.RLIMIT_AS, "address space", "ulimit -v unlimited", 2**50),
    (resource.RLIMIT_NOFILE, "open files", "ulimit -n 8192", _FEW_FILES),
    (resource.RLIMIT_NPROC, "processes and threads", "ulimit -u 8192", _FEW_FILES),
)


def joinable(address: str) -> str:
    """Checks that a Ray cluster answers at an address, in seconds; Ray itself would try for minutes.

    Args:
        address: HOST:PORT, ray://HOST:PORT, or "auto": that of RAY_ADDRESS, else of the last `ray start` here.

    Returns:
        The address; never "auto".

    Raises:
        UserError: It is no such address, or no cluster answers there.
    """
    found = _of_this_machine() if address == "auto" else address
    shown = found if found == address else f"{found}, by {address}"
    if re.match(r"https?://", found):
        remedy = f"give HOST:PORT of its head (6379 by default); {found} is for sweeps.submit"
        raise UserError("--address", "must be a cluster's address, not its dashboard's", shown, remedy)
    parts = re.fullmatch(r"(?:ray://)?(\[[0-9a-fA-F:]+\]|[^\s:/\[\]]+):(\d{1,5})", found)
    if not parts or not 0 < int(parts[2]) < 2**16:
        raise UserError("--address", "must be HOST:PORT of the cluster's head", shown, f"or auto; {HERE}")
    if why := _no_answer(parts[1].strip("[]"), int(parts[2])):
        remedy = f"see that it runs (ray status --address {found}), or {HERE}"
        raise UserError("--address", "a Ray cluster must answer there", f"{shown}: {why}", remedy)
    return found


def _of_this_machine() -> str:
    if named := os.environ.get("RAY_ADDRESS", "").strip():
        return named
    # Written by `ray start` alone: Ray would also join any local cluster that runs here, which is some program's own.
    file = Path(_temporary(), "ray", "ray_current_cluster")
    with contextlib.suppress(OSError):
        if found := file.read_text(encoding="utf-8").strip():
            return found
    remedy = f"begin one with `ray start --head`, name its HOST:PORT, or {HERE}"
    raise UserError("--address", "auto needs RAY_ADDRESS or a cluster of `ray start`", f"none in {file}", remedy)


def _no_answer(host: str, port: int) -> str:
    """Why no gRPC server answers; empty if one does."""
    try:
        with socket.create_connection((host, port), timeout=ANSWER_SECONDS) as connection:
            if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
                return ""  # speaks after a handshake only
            connection.sendall(_PREFACE)
            head = connection.recv(_FRAME_HEAD)
    except OSError as error:  # refused, no such host, no route, time is over
        return error.strerror or str(error)
    is_grpc = len(head) > 3 and head[3] == _SETTINGS
    return "" if is_grpc else "a server, but no cluster's head; the dashboard, maybe"


@contextlib.contextmanager
def temporary_folder() -> Iterator[str | None]:
    """Yields the folder for a local cluster's files: None for Ray's own, or a short one that is removed afterwards.

    Meanwhile a TMPDIR that is too long for the cluster's processes is that folder.

    Raises:
        UserError: There is no folder that Ray could use.
    """
    usual = os.path.join(_temporary(), "ray")
    if _is_usable(usual):
        with _short_tmpdir(_temporary()):
            yield None
        return
    for place in SHORT_FOLDERS:
        with contextlib.suppress(OSError):
            own = tempfile.mkdtemp(prefix="ray-", dir=place)
            break
    else:
        rule = f"must be a folder that can be written, of {MOST_BYTES} bytes at most with /ray"
        raise UserError("TMPDIR", rule, usual, "export TMPDIR=/short/path")
    try:
        with _short_tmpdir(own):
            yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)


@contextlib.contextmanager
def _short_tmpdir(folder: str) -> Iterator[None]:
    before = os.environ.get("TMPDIR", "")
    if not before or len(os.fsencode(os.path.abspath(before))) <= MOST_BYTES_OF_TMPDIR:
        yield
        return
    os.environ["TMPDIR"] = folder
    try:
        yield
    finally:
        os.environ["TMPDIR"] = before


def _temporary() -> str:
    # As Ray does.
    return os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"


def _is_usable(folder: str) -> bool:
    if len(os.fsencode(folder)) > MOST_BYTES or not os.path.isabs(folder):
        return False
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


def provide_token() -> None:
    """Gives a local cluster a token of its own where the home, in which Ray would keep one, can't be written."""
    names = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    if any(os.environ.get(name) for name in names) or os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return
    try:
        folder = Path.home() / ".ray"
        if (folder / "auth_token").exists():
            return
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK | os.X_OK)
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        writable = False
    if not writable:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def tight_limits() -> tuple[str, str]:
    """The limits of this shell under which Ray does not start, and how they are lifted; both empty where none is."""
    found = [
        (f"{name} limited to {soft / 2**30:.1f} GiB" if which == resource.RLIMIT_AS else f"{soft} {name} at most", lift)
        for which, name, lift, enough in _LIMITS
        if (soft := resource.getrlimit(which)[0]) != resource.RLIM_INFINITY and soft < enough
    ]
    return ", ".join(what for what, _ in found), "; ".join(lift for _, lift in found)
