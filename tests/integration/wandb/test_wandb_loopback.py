"""The tracker with the real W&B client, offline and against a loopback server."""

import os
import textwrap
from pathlib import Path

from tests.integration.wandb.wandb_case import KEY, assert_whole_trial, case, sync
from tests.integration.wandb.wandb_server import WandbServer


def test_offline_without_a_key_and_sync_later(tmp_path: Path) -> None:
    script = """
    for trial in ("t0", "t1", "t2"):
        t = tracker()
        head(t, trial)
        tail(t)
        assert t.wait(20)
    close_service()
    say(in_calls=in_calls, left=service_pids())
    """
    folder = tmp_path / "out"
    with case(folder, script) as running:
        running.end()
    assert running.warnings == []
    assert running.facts["left"] == []
    assert running.facts["in_calls"] < 0.5
    runs = sorted((folder / "wandb").glob("offline-run-*"))
    assert len(runs) == 3
    assert list(runs[0].glob("*.wandb"))
    with WandbServer() as server:
        sync(server, runs[0])
        (run,) = server.runs.values()
    assert_whole_trial(run)
    assert run.exit_code == 0


def test_online_run_arrives_and_a_second_attempt_continues_it(tmp_path: Path) -> None:
    packed = """
    first, second = tracker(), tracker()
    head(first)
    head(second, "t1")
    tail(first)
    tail(second, "failed")
    close_service()
    """
    again = """
    t = tracker()
    head(t)
    close_service()
    """
    folder = tmp_path / "out"
    with WandbServer() as server:
        with case(folder, packed, server.url) as running:
            running.end()
        assert running.warnings == []
        runs = {run.upserts[0]["displayName"].rpartition(" · ")[2]: run for run in server.runs.values()}
        assert_whole_trial(runs["t0"])
        assert_whole_trial(runs["t1"], "failed")
        assert (runs["t0"].exit_code, runs["t1"].exit_code) == (0, 1)
        start = runs["t0"].upserts[0]
        assert (start["displayName"], start["jobType"], start["notes"]) == ("sweep · 1.0e-3 · t0", "search", "why")
        objective = runs["t0"].rows("objective")
        assert [(row["step"], row["objective"], row["heldout/loss"]) for row in objective] == [(3, 1.0, 1.0)]
        assert (start["project"], start["groupName"], start["tags"]) == ("llm-sweeps", "sweep", ["tag"])
        with case(folder, again, server.url) as running:
            running.end()
        assert running.warnings == []
        assert len(server.runs) == 2
        curve = runs["t0"].rows("train/loss")
        assert [row["step"] for row in curve] == [1, 2, 3, 1, 2]
        assert [row["_step"] for row in curve] == sorted({row["_step"] for row in curve})
        assert runs["t0"].exit_code == 1  # closed before it had finished
        told = "".join(path + body for path, body in server.bodies)
    assert KEY not in told
    assert str(os.environ.get("PATH")) not in told
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def test_auto_mode_asks_nobody(tmp_path: Path) -> None:
    script = """
    import wandb
    from trainables.tracking.wandb_client import resolve_mode, set_up
    host, netrc = "https://wandb.example", os.environ["NETRC"]
    cases = [{}, {"WANDB_API_KEY": KEY}, {"WANDB_API_KEY": KEY, "WANDB_MODE": "offline"}, {"WANDB_MODE": "disabled"}]
    modes = []
    for variables in cases:
        os.environ |= variables | {"WANDB_BASE_URL": host}
        set_up()
        modes.append(resolve_mode("auto"))
        for name in variables:
            del os.environ[name]
        wandb.teardown()
    for machine in ("wandb.example", "elsewhere.example"):
        with open(netrc, "w") as file:
            file.write(f"machine {machine} login user password {KEY}")
        set_up()
        modes.append(resolve_mode("auto"))
        wandb.teardown()
    say(modes=modes)
    """
    with case(tmp_path / "out", f"KEY = {KEY!r}\n" + textwrap.dedent(script)) as running:
        running.end()
    assert running.facts["modes"] == ["offline", "online", "offline", "disabled", "online", "offline"]
    assert running.warnings == []


def test_inherited_service_and_missing_home_do_no_harm(tmp_path: Path) -> None:
    script = """
    os.environ["WANDB_SERVICE"] = "of-another-host"
    os.environ["HOME"] = "/dev/null/home"
    t = tracker()
    head(t)
    tail(t)
    close_service()
    say(off=t.off)
    """
    with case(tmp_path / "out", script) as running:
        running.end()
    assert running.facts == {"off": False}  # W&B itself may say that it has no folder for its log
    assert len(list((tmp_path / "out" / "wandb").glob("offline-run-*"))) == 1
