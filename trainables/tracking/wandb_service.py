"""The process's side of W&B: its library made quiet, its service process started, replaced and ended.

All runs of a process share one service process (`wandb-core`). `trainables.tracking` opens runs on it; together they
are the only modules that import `wandb`, but for `analysis.wandb_view`, and they do so only when a run is opened.
"""

from __future__ import annotations

import logging
import os
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from wandb import Run

Mode = Literal["auto", "online", "offline", "disabled"]

_log = logging.getLogger(__name__)
_starting = threading.RLock()
_lost_upload_listeners: list[Callable[[], None]] = []


class _Messages:
    """Takes what W&B would print. All of it goes to the debug log, and lost uploads to those who have runs open."""

    def info(self, message: str) -> None:
        _log.debug("%s", message)

    def warning(self, message: str) -> None:
        _log.debug("%s", message)
        if "uploading" in message:  # W&B reports this in words only, and not of which run
            for listener in list(_lost_upload_listeners):
                listener()

    error = warning


def open_run(
    mode: Mode,
    timeout_seconds: float,
    lost_upload: Callable[[], None],
    stop_asked: Callable[[], None],
    **arguments: Any,
) -> Run:
    """Opens a run, on a new service process if the old one has died.

    Args:
        mode: "auto" is resolved here, as `trainables.tracking.Tracker` says.
        timeout_seconds: Longest time for opening the run, and for the upload of its rest at its end.
        lost_upload: Called, from any thread and until `close_run`, when W&B has given up an upload, of this run or of
            another that is open in the process.
        stop_asked: Called, from any thread, when someone presses the run's stop button. W&B itself would interrupt the
            process, which serves other trials too.
        arguments: Of `wandb.init`.

    Returns:
        The run, open.

    Raises:
        Exception: Whatever W&B raises, `wandb.Error` for most.
    """
    set_up(arguments["dir"])  # before the first import
    import wandb
    from wandb.sdk.lib import import_hooks
    from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError

    def attempt() -> Run:
        # A function, not a method: W&B copies its settings deeply, and functions are left as they are.
        settings = {**_run_settings(timeout_seconds), "stop_fn": lambda: stop_asked()}
        return wandb.init(mode=resolve_mode(mode), settings=wandb.Settings(**settings), **arguments)

    service = os.environ.get("WANDB_SERVICE")
    try:
        run = attempt()
    except (ConnectionError, HandleAbandonedError, MailboxClosedError) as error:
        _log.info("W&B's service process has died (%s): starting another", type(error).__name__)
        _replace_service(service, arguments["dir"])
        run = attempt()
    # These hooks report to the service when a known library is imported. With a dead service that import fails, and
    # the trial with it.
    import_hooks.unregister_all_post_import_hooks()
    _lost_upload_listeners.append(lost_upload)
    return run


def close_run(run: Run, exit_code: int, lost_upload: Callable[[], None]) -> None:
    """Closes a run that `open_run` opened with the same `lost_upload`.

    Raises:
        TimeoutError: Its data was not uploaded in time.
        Exception: Whatever else W&B raises.
    """
    try:
        run.finish(exit_code=exit_code)
    finally:
        _lost_upload_listeners.remove(lost_upload)


def end_service(timeout_seconds: float) -> None:
    """Ends the service process, if this process started one; a warning says if that took too long or failed."""
    if "wandb" not in sys.modules:
        return
    thread = threading.Thread(target=_tear_down, name="wandb-teardown", daemon=True)
    thread.start()
    thread.join(timeout_seconds)
    if thread.is_alive():
        _log.warning("W&B's service did not end in %.0f s; it will end with this process", timeout_seconds)


def folder_id(folder: Path, timeout_seconds: float = 5.0) -> str:
    """The folder's own random id, made by the first process that asks and the same ever after, also if it is moved.

    Raises:
        OSError: The folder can't be written or read.
        ValueError: The file that holds the id is not complete.
    """
    path, length = folder / "folder-id", 32
    try:
        file = path.open("x")
    except FileExistsError:
        deadline = time.monotonic() + timeout_seconds  # another lane may be between the creation and the write
        while path.stat().st_size < length and time.monotonic() < deadline:
            time.sleep(0.02)
    else:
        with file:
            file.write(secrets.token_hex(length // 2))
    text = path.read_text()
    if len(text) != length:
        raise ValueError(f"{path} must hold {length} characters, got {len(text)}; delete it")
    return text


def check_room(folder: Path) -> None:
    """Writes a file of 64 KiB into the folder and removes it: W&B loses what a full disk refuses, and tells no one.

    Raises:
        OSError: The disk is full, or the folder can't be written.
    """
    with tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(bytes(65536))


def set_up(folder: str) -> None:
    """Loads W&B and starts its service, such that it neither prints, asks, nor reports its own use.

    Args:
        folder: A folder that can be written, for the service's log where the user's cache folder can't.
    """
    with _starting:
        if "wandb" not in sys.modules:
            os.environ.pop("WANDB_SERVICE", None)  # inherited: the service of another process, maybe of another host
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # else leaving the process may wait for its server
            if not _has_cache():
                os.environ["WANDB_CACHE_DIR"] = folder  # else the service logs to stderr
        import wandb

        # Its log file in each run's folder turns into a traceback for every line once the disk is full.
        logging.getLogger("wandb").setLevel(logging.CRITICAL)
        setup = wandb.setup(settings=wandb.Settings(silent=True, console="off"))
        wandb.termsetup(setup.settings, _Messages())


def _has_cache() -> bool:
    cache = Path(os.environ.get("WANDB_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    try:
        logs = cache.expanduser() / "wandb" / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        check_room(logs)
    except (OSError, RuntimeError):  # RuntimeError: there is no home folder
        return False
    return True


def _run_settings(timeout_seconds: float) -> dict[str, Any]:
    import wandb

    settings = {
        "console": "off",
        "silent": True,
        "init_timeout": timeout_seconds,
        "finish_timeout": timeout_seconds,
        "finish_timeout_raises": True,
        "stop_on_fatal_error": False,
        # Machine, packages and git cost 0.07 s of 0.085 s a run; the sweep's manifest has them.
        **dict.fromkeys(("symlink", "save_code", "x_save_requirements"), False),
        **dict.fromkeys(("disable_code", "disable_git", "x_disable_meta", "x_disable_stats"), True),
    }
    # Settings that begin with x_ are W&B's own and may go with a version of it: that costs time, not the run.
    return {name: value for name, value in settings.items() if name in wandb.Settings.model_fields}


def resolve_mode(mode: Mode) -> Literal["online", "offline", "disabled"]:
    """Settles "auto": what the environment or `wandb offline` says, else online where an API key is known."""
    if mode != "auto":
        return mode
    import wandb
    from wandb.sdk.lib import wbauth

    settings = wandb.setup().settings
    if settings.mode in ("offline", "dryrun"):
        return "offline"
    if settings.mode == "disabled":
        return "disabled"
    known = wbauth.authenticate_session(host=settings.base_url, source="llm-sweeps", prompt=False, update_session=False)
    return "online" if known else "offline"


def _replace_service(dead: str | None, folder: str) -> None:
    """Drops the connection to a dead service and starts another, once for all threads that met it."""
    with _starting:
        if os.environ.get("WANDB_SERVICE") == dead:
            _tear_down()
            set_up(folder)


def _tear_down() -> None:
    import wandb

    try:
        wandb.teardown()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - it exits when its service failed
        _log.info("W&B's service had already ended (%s: %s)", type(error).__name__, error)
