"""What the tracker does when W&B's server, its own process fails, with the real W&B client."""

from pathlib import Path
from typing import Any

import pytest
from tests.integration.wandb.wandb_case import case, sync
from tests.integration.wandb.wandb_server import WandbServer


@pytest.mark.parametrize("behaviour", ["fail", "refuse", "hang", "gone"])
def test_server_that_breaks_at_the_start(tmp_path: Path, behaviour: Any) -> None:
    script = """
    t, started = tracker(), clock()
    head(t)
    tail(t)
    close_service()
    say(seconds=clock() - started, in_calls=in_calls, off=t.off)
    """
    with WandbServer() as server:
        url = server.url
        if behaviour == "gone":
            server.close()
        else:
            server.behaviour = behaviour
        with case(tmp_path / "out", script, url, timeout_seconds=1.5) as running:
            running.end()
    (warning,) = running.warnings
    assert warning.startswith("WARNING W&B: trial t0 is written offline, for W&B could not be opened online: ")
    assert not running.facts["off"]
    assert running.facts["in_calls"] < 1.0
    assert running.facts["seconds"] < 20
    (run_folder,) = (tmp_path / "out" / "wandb").glob("offline-run-*")
    assert warning.endswith(f"wandb sync --include-online {run_folder}")
    with WandbServer() as server:
        sync(server, run_folder)
        (run,) = server.runs.values()
    assert [row["step"] for row in run.rows("train/loss")] == [1, 2, 3]


@pytest.mark.parametrize("behaviour", ["fail", "hang", "gone"])
def test_server_that_breaks_later(tmp_path: Path, behaviour: Any) -> None:
    script = """
    t = tracker()
    head(t)
    while t._run is None:
        time.sleep(0.02)
    meet(1)
    started = clock()
    for step in range(3, 1000):
        call(t.steps, records(step))
    call(t.finish, "complete", {})
    close_service()
    say(seconds=clock() - started, in_calls=in_calls, left=service_pids())
    """
    folder = tmp_path / "out"
    with WandbServer() as server, case(folder, script, server.url, timeout_seconds=2.0) as running:
        running.reach(1)
        if behaviour == "gone":
            server.close()
        else:
            server.behaviour = behaviour
        running.go()
        running.end()
    (warning,) = running.warnings
    (run_folder,) = (folder / "wandb").glob("run-*")
    assert warning.endswith(f"wandb sync --include-online {run_folder}")
    assert running.facts["left"] == []
    assert running.facts["in_calls"] < 2.0
    assert running.facts["seconds"] < 25
    if behaviour == "gone":
        with WandbServer() as server:
            sync(server, run_folder)
            (run,) = server.runs.values()
        assert [row["step"] for row in run.rows("train/loss")] == list(range(1, 1000))


def test_an_upload_that_fails_for_good_is_one_warning_and_no_interrupt(tmp_path: Path) -> None:
    # By default uploads and looks for a stop come every 15 s each: the stop would be seen after 30 s.
    script = """
    os.environ["WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL"] = "1"
    t = tracker()
    head(t)
    while t._run is None:
        time.sleep(0.02)
    meet(1)
    for step in range(3, 450):
        call(t.steps, records(step))
        time.sleep(0.1)
        if t._warned:
            break
    tail(t)
    close_service()
    say(off=t.off)
    """
    with WandbServer() as server, case(tmp_path / "out", script, server.url, timeout_seconds=5.0) as running:
        running.reach(1)
        server.behaviour = "refuse"
        running.go()
        running.end()
    (warning,) = running.warnings
    (run_folder,) = (tmp_path / "out" / "wandb").glob("run-*")
    assert warning.startswith("WARNING W&B: trial t0 goes on although W&B asks for a stop (its stop button, or an upload")
    assert warning.endswith(f"wandb sync --include-online {run_folder}")
    assert running.facts == {"off": False}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for the service in /proc")
def test_a_client_that_dies_costs_the_tracking_only(tmp_path: Path) -> None:
    script = """
    t = tracker()
    head(t)
    while t._run is None:
        time.sleep(0.02)
    (service,) = service_pids()
    os.kill(service, 9)
    while service_pids(zombies=False):
        time.sleep(0.02)
    import optuna  # W&B hooks into this import, and with a dead service its hook raises
    tail(t)
    assert t.wait(20)
    later, started = tracker(), clock()
    head(later, "t1")
    tail(later)
    assert later.wait(20)
    close_service()
    say(off=[t.off, later.off], seconds=clock() - started, in_calls=in_calls)
    """
    with WandbServer() as server, case(tmp_path / "out", script, server.url) as running:
        running.end()
    assert [line[: line.index(" is no")] for line in running.warnings] == [f"WARNING W&B: trial {t}" for t in ("t0", "t1")]
    assert running.facts["off"] == [True, True]
    assert running.facts["seconds"] < 20
    assert running.facts["in_calls"] < 1.0
