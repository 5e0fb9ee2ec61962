"""The process's side of W&B: its client made quiet, runs opened in it, the client closed.

Public API of `wandb` only. The import costs about a second, so it happens when the first run is opened.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import logging
import os
import secrets
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from trainables.config.sections import WandbConfig

if TYPE_CHECKING:
    from wandb import Run, Settings

Mode = Literal["auto", "online", "offline", "disabled"]

# Each would put all trials into one run, or into a run of W&B's own sweeps: `wandb agent` sets the first two.
OF_ANOTHER_RUN = ("WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH", "WANDB_RUN_ID", "WANDB_RESUME")
REACH_SECONDS = 5.0  # for the first answer of W&B's server
_ID_LENGTH = 32

_log = logging.getLogger(__name__)


def open_run(
    section: WandbConfig,
    sweep: str,
    identity: str,
    folder: Path,
    timeout_seconds: float,
    stop_asked: Callable[[], None],
    **arguments: Any,
) -> tuple[Run, str]:
    """Opens a run, or continues the one that has the same sweep, folder and identity: offline where online fails.

    Args:
        section: The sweep's W&B section. Mode "auto" is resolved by `resolve_mode`.
        sweep: The sweep's name, which groups its runs.
        identity: What the run is of, unique in the sweep: a trial's id, or "summary".
        folder: The sweep's folder; W&B writes to `wandb/` in it.
        timeout_seconds: Longest time for opening the run, and for uploading the rest of it in `run.finish`.
        stop_asked: Called once, from any thread, when the run's stop button is pressed or an upload fails for good.
        arguments: More arguments of `wandb.init`.

    Returns:
        The run, and why it is offline although it should be online; empty where it is as it should be.

    Raises:
        Exception: Any error of W&B, `wandb.Error` for most.
    """
    set_up()
    mode, why = _mode(section.mode)
    # Before W&B tries for itself: it holds the id of a run that it could not open until the process ends.
    why = why or (unreachable(min(timeout_seconds, REACH_SECONDS)) if mode == "online" else "")
    common = section, sweep, folder, timeout_seconds, stop_asked
    if mode == "online" and not why:
        try:
            return _opened(*common, identity=identity, mode=mode, **arguments), ""
        except Exception as error:  # noqa: BLE001 - whatever W&B's server does, the rows are to be on the disk
            why, identity = f"{type(error).__name__}: {error}", f"{identity}, offline"
    return _opened(*common, identity=identity, mode="offline" if why else mode, **arguments), why


def unreachable(timeout_seconds: float) -> str:
    """Why W&B's server does not answer within some seconds; empty if it does, whatever its answer."""
    import wandb

    try:
        with urllib.request.urlopen(str(wandb.setup().settings.base_url), timeout=timeout_seconds):
            return ""
    except urllib.error.HTTPError as error:
        error.close()
        return ""
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        # A server whose certificate only W&B's own settings trust does answer.
        return "" if isinstance(reason, ssl.SSLError) else str(reason) or type(error).__name__


def missing_key() -> str:
    """Why W&B has no API key that can be used; empty where it has one. Asks no server."""
    set_up()
    import wandb

    try:
        # Of a process that is offline W&B says that it has no key.
        wandb.setup(settings=wandb.Settings(silent=True, console="off", mode="online"))
        return "" if wandb.login(prompt=False, verify=False) else "none"
    except Exception as error:  # noqa: BLE001 - W&B has several errors for a key that can't be one
        return f"one that can't be used: {error}"


def _opened(
    section: WandbConfig,
    sweep: str,
    folder: Path,
    timeout_seconds: float,
    stop_asked: Callable[[], None],
    *,
    identity: str,
    mode: Literal["online", "offline", "disabled"],
    **arguments: Any,
) -> Run:
    import wandb

    place = folder / "wandb"
    place.mkdir(parents=True, exist_ok=True)  # else W&B would write to the system's temporary folder
    run_id = hashlib.sha256("\n".join((sweep, folder_id(place), identity)).encode()).hexdigest()[:24]
    run = wandb.init(
        mode=mode,
        settings=_settings(timeout_seconds, stop_asked),
        project=section.project,
        entity=section.entity,
        tags=section.tags,
        group=sweep,
        id=run_id,
        dir=str(folder),
        reinit="create_new",  # a lane trains several trials at once, each with its run
        resume="allow",
        **arguments,
    )
    # W&B hooks into the imports of known libraries, to report them. With a dead W&B such an import would fail, and
    # the trial with it.
    sys.meta_path[:] = [finder for finder in sys.meta_path if not type(finder).__module__.startswith("wandb.")]
    return run


def _settings(timeout_seconds: float, stop_asked: Callable[[], None]) -> Settings:
    import wandb

    settings = {
        "silent": True,
        "console": "off",
        "init_timeout": timeout_seconds,
        "finish_timeout": timeout_seconds,
        "finish_timeout_raises": True,
        # By default a stop interrupts the process, which trains other trials too. W&B copies its settings deeply:
        # it leaves a function as it is, but not a method's object.
        "stop_fn": lambda: stop_asked(),
        "stop_on_fatal_error": True,
        # Machine, packages and git cost 0.07 s of 0.085 s a run; the sweep's manifest has them.
        **dict.fromkeys(("symlink", "save_code", "x_save_requirements"), False),
        **dict.fromkeys(("disable_code", "disable_git", "x_disable_meta", "x_disable_stats"), True),
    }
    # Settings that begin with x_ may go with a version of W&B: that costs time, not the run.
    known = {name: value for name, value in settings.items() if name in wandb.Settings.model_fields}
    return wandb.Settings(**known)


def resolve_mode(mode: Mode) -> Literal["online", "offline", "disabled"]:
    """Settles "auto": what the environment or `wandb offline` says, else online where an API key is known."""
    if mode != "auto":
        return mode
    import wandb

    if wandb.login(prompt=False, verify=False):  # never where W&B is offline or disabled
        return "online"
    return "disabled" if wandb.setup().settings.mode == "disabled" else "offline"


def _mode(mode: Mode) -> tuple[Literal["online", "offline", "disabled"], str]:
    """As `resolve_mode`; offline, and why, where W&B refuses the key that it finds."""
    try:
        return resolve_mode(mode), ""
    except Exception as error:  # noqa: BLE001 - W&B has several errors for a key that can't be one
        os.environ.pop("WANDB_API_KEY", None)  # else the run is not opened offline either
        return "offline", f"{type(error).__name__}: {error}"


def refused_variables() -> list[tuple[str, str]]:
    """W&B's environment variables of which it does not take the value, and why: no run can be opened with one."""
    import wandb

    found = []
    for name in sorted(name for name in os.environ if name.startswith("WANDB_") and name not in OF_ANOTHER_RUN):
        try:
            wandb.Settings().update_from_env_vars({name: os.environ[name]})
        except (ValueError, wandb.Error) as error:  # pydantic's is a ValueError
            details = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            found.append((name, details))
    return found


def set_up() -> None:
    """Loads W&B such that it neither prints, asks, nor reports its own use."""
    for name in OF_ANOTHER_RUN:
        os.environ.pop(name, None)
    if "wandb" not in sys.modules:
        os.environ.pop("WANDB_SERVICE", None)  # inherited: the client of another process, maybe of another host
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # else leaving the process may wait for its server
    import wandb

    # Its log file in each run's folder turns into a traceback for every line once the disk is full.
    logging.getLogger("wandb").setLevel(logging.CRITICAL)
    wandb.setup(settings=wandb.Settings(silent=True, console="off"))


def tear_down(timeout_seconds: float) -> None:
    """Closes the client, if this process has opened it; a warning says if that takes too long."""
    if "wandb" not in sys.modules:
        return
    thread = threading.Thread(target=_tear_down, name="wandb-teardown", daemon=True)
    thread.start()
    thread.join(timeout_seconds)
    if thread.is_alive():
        _log.warning("W&B's service did not end in %.0f s; it will end with this process", timeout_seconds)


def _tear_down() -> None:
    import wandb

    with contextlib.suppress(Exception, SystemExit):  # W&B exits when its service has failed; there is nothing to save
        wandb.teardown()


def folder_id(folder: Path, timeout_seconds: float = 5.0) -> str:
    """The folder's own random id, made by the first process that asks. It stays if the folder is moved.

    Raises:
        OSError: The folder can't be written or read.
        ValueError: The file that holds the id is not complete.
    """
    path = folder / "folder-id"
    try:
        with path.open("x") as file:
            file.write(secrets.token_hex(_ID_LENGTH // 2))
    except FileExistsError:
        deadline = time.monotonic() + timeout_seconds  # another lane may be between the creation and the write
        while path.stat().st_size < _ID_LENGTH and time.monotonic() < deadline:
            time.sleep(0.02)
    text = path.read_text()
    if len(text) != _ID_LENGTH:
        raise ValueError(f"{path} must hold {_ID_LENGTH} characters, got {len(text)}; delete it")
    return text
