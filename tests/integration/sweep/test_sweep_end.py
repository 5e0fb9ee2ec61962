"""The end of a sweep as W&B and a webhook are told of it: the real client against loopback servers, and offline."""

import http.server
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from analysis.rank.leaderboard import write_leaderboard
from analysis.records.sweep import read_sweep
from analysis.report import write_report
from sweeps.notify.wandb_summary import ANSWER_COLUMNS
from tests.integration.wandb.wandb_case import KEY, REPO, sync
from tests.integration.wandb.wandb_server import WandbServer
from tests.unit.analysis.synthetic_sweep import EVIL, write_synthetic_sweep

SECRET = "T0SECRETSECRET"
ANSWER = f"answer {EVIL}"  # of the sweep's held-out items

SCRIPT = """
import sys
from pathlib import Path
from rich.console import Console
from analysis.rank.leaderboard import write_leaderboard
from sweeps.notify import wandb_summary
from sweeps.config.sweep_config import load_config
from sweeps.notify.messages import tell_now
from sweeps.phases import finish

folder, seconds = Path(sys.argv[1]), float(sys.argv[2])
wandb_summary.OPEN_SECONDS = wandb_summary.UPLOAD_SECONDS = seconds
config = load_config(folder / "sweep.yaml", [f"storage_path={folder.parent}", *sys.argv[3:]])
for failure in tell_now(config, "started", "running."):
    print(failure)
board = write_leaderboard(folder)
finish.tell(config, finish.news_of(config, "complete", board, 0.5), board, Console(soft_wrap=True))
"""


@pytest.fixture
def sweep(tmp_path_factory):
    """A sweep that has ended, with a checkpoint of its winner and a report."""
    folder = write_synthetic_sweep(tmp_path_factory.mktemp("end"), trials=4)
    board = write_leaderboard(folder)
    winner = board["winner"]
    place = folder / "trials" / winner["trial_id"] / "checkpoints" / f"step-{winner['step']}"
    place.mkdir(parents=True, exist_ok=True)
    (place / "adapter_model.safetensors").write_bytes(b"the winner's weights")
    write_report(folder, board)
    return folder


def tell(sweep: Path, *overrides: str, url: str | None = None, seconds: float = 20.0, **more: str) -> list[str]:
    """Tells of the end in a process of its own; the lines that it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    home = sweep.parent / "home"
    home.mkdir(exist_ok=True)
    environment |= {"HOME": str(home), "NETRC": str(home / "netrc"), "PYTHONPATH": str(REPO), **more}
    if url:
        environment |= {"WANDB_BASE_URL": url, "WANDB_API_KEY": KEY}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(sweep), str(seconds), *overrides],
        env=environment,
        cwd=sweep.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


def check(server: WandbServer, sweep: Path, with_texts: bool = False) -> None:
    """The server has the sweep's two runs, the artifacts whole, held-out texts where asked for, and no credential."""
    board = json.loads((sweep / "leaderboard.json").read_text())
    runs = {run.upserts[0]["jobType"]: run for run in server.runs.values()}
    assert set(runs) == {"base-model", "sweep-summary"}
    run, base = runs["sweep-summary"], runs["base-model"]
    # What a later write leaves out stays.
    about = {name: value for upsert in run.upserts for name, value in upsert.items() if value is not None}
    assert (about["groupName"], about["displayName"]) == ("synthetic", "synthetic · sweep summary")
    assert about["notes"] == read_sweep(sweep).statement
    (scores,) = base.rows("objective")
    assert (scores["step"], scores["objective"]) == (0, pytest.approx(board["baseline"]["objective"]))
    assert scores["heldout/loss"] == scores["objective"]
    assert {f"heldout/{area}/nll" for area in board["weights"]} <= set(scores)
    assert run.exit_code == 0
    told = run.summary["sweep"]
    assert (told["verdict"], told["winner"], told["state"]) == (board["verdict"], board["winner"], "complete")
    assert told["gain"]["value"] == pytest.approx(board["winner_gain"]["corrected"])
    assert told["cost"] == {"device_hours": 0.5}
    kept = server.kept.artifacts
    uploads = {path: body for path, body in server.bodies if path.startswith("/artifact/")}
    names = {"synthetic-model", "synthetic-data"}
    assert any(ANSWER in body for _, body in server.bodies) == with_texts
    if with_texts:
        (table,) = set(kept) - {*names, "synthetic-report"}
        (answers,) = (json.loads(body) for path, body in uploads.items() if path.startswith(f"/artifact/{table}/"))
        assert answers["columns"] == list(ANSWER_COLUMNS)
        assert len(answers["data"]) == 4 * 24
        assert all(row[2] and row[3] and EVIL in row[5] for row in answers["data"])
        assert uploads["/artifact/synthetic-report/report.html"] == (sweep / "report.html").read_text()
    else:
        assert set(kept) == names
    assert all(artifact.committed for artifact in kept.values())
    model = kept["synthetic-model"]
    assert (model.aliases, model.input["artifactTypeName"]) == ({"best", "latest"}, "model")
    metadata = json.loads(model.input["metadata"])
    manifest = json.loads((sweep / "manifest.json").read_text())
    assert metadata["data_sha256"] == manifest["data_sha256"]
    assert metadata["winner"] == board["winner"]
    assert uploads["/artifact/synthetic-model/adapter_model.safetensors"] == "the winner's weights"
    assert json.loads(uploads["/artifact/synthetic-data/data_sha256.json"]) == manifest["data_sha256"]
    assert KEY not in "".join(body for _, body in server.bodies)


def test_artifacts_summary_and_alert_online(sweep):
    with WandbServer() as server:
        texts = "wandb.artifacts.report=true"
        assert tell(sweep, "wandb.mode=online", "wandb.alert=true", texts, url=server.url) == []
        check(server, sweep, with_texts=True)
    (alert,) = server.kept.alerts
    assert alert["title"] == "synthetic: complete"
    assert json.loads((sweep / "leaderboard.json").read_text())["verdict"] in alert["text"]


def test_alerts_meanwhile_are_of_the_run_that_the_end_goes_on_with(sweep):
    events = "notify.events=[started,ended]"
    with WandbServer() as server:
        assert tell(sweep, "wandb.mode=online", "wandb.alert=true", events, url=server.url) == []
        check(server, sweep)
    assert [alert["title"] for alert in server.kept.alerts] == ["synthetic: started", "synthetic: complete"]


def test_offline_they_wait_for_a_sync(sweep):
    assert tell(sweep, "wandb.mode=auto") == []
    runs = (sweep / "wandb").glob("offline-run-*")
    with WandbServer() as server:
        for run in runs:
            sync(server, Path(run))
        check(server, sweep)
    assert server.kept.alerts == []  # nobody asked for one


def test_nothing_is_kept_where_it_is_switched_off(sweep):
    with WandbServer() as server:
        assert tell(sweep, "wandb.mode=disabled", "wandb.alert=true", url=server.url) == []
        assert server.bodies == []
        assert tell(sweep, "wandb.mode=online", "wandb.artifacts=false", url=server.url) == []
        assert len(server.runs) == 2
        assert server.kept.artifacts == {}


def test_a_sweep_that_ends_again_logs_the_base_models_scores_once(sweep):
    with WandbServer() as server:
        for _ in range(2):
            assert tell(sweep, "wandb.mode=online", "wandb.artifacts=false", url=server.url) == []
        (base,) = [run for run in server.runs.values() if run.upserts[0]["jobType"] == "base-model"]
        assert len(base.rows("objective")) == 1


@pytest.mark.parametrize("behaviour", ["refuse", "hang"])
def test_with_a_server_that_breaks_the_run_waits_for_a_sync(sweep, behaviour):
    with WandbServer() as server:
        server.behaviour = behaviour
        (line,) = tell(sweep, "wandb.mode=online", url=server.url, seconds=2.0)
    assert line.startswith("warning: W&B lacks the sweep's summary run, or a part of it: it is written offline, for")
    runs = list((sweep / "wandb").glob("offline-run-*"))
    named = shlex.split(line.rpartition("upload it: wandb sync ")[2])
    assert set(named) == set(map(str, runs))
    with WandbServer() as server:
        for run in named:
            sync(server, Path(run))
        check(server, sweep)


def test_a_checkpoint_that_is_gone_is_one_warning(sweep):
    for place in sweep.glob("trials/*/checkpoints"):
        shutil.rmtree(place)
    with WandbServer() as server:
        (line,) = tell(sweep, "wandb.mode=online", url=server.url)
    assert "must have a checkpoint folder" in line


def test_the_webhook_gets_the_news_and_its_address_stays_secret(sweep):
    got = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            got.append((self.path, json.loads(self.rfile.read(int(self.headers["content-length"])))))
            self.send_response(204 if len(got) == 1 else 500)
            self.end_headers()

        def log_message(self, *_):
            """Keeps the test output clean."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/services/{SECRET}"
    overrides = ("wandb.mode=disabled", "notify.webhook=env:SWEEP_HOOK")
    try:
        assert tell(sweep, *overrides, SWEEP_HOOK=url) == []
        assert tell(sweep, *overrides, SWEEP_HOOK=url) == [
            "warning: notify.webhook got no message: http://127.0.0.1/…: status 500"
        ]
    finally:
        server.shutdown()
        server.server_close()
    path, news = got[0]
    assert path.endswith(SECRET)
    board = json.loads((sweep / "leaderboard.json").read_text())
    assert (news["verdict"], news["winner"]) == (board["verdict"], board["winner"])
    assert news["gain"]["interval"] == pytest.approx(board["winner_gain"]["corrected_interval"])
    assert news["cost"] == {"device_hours": 0.5}
    assert news["folder"] == str(sweep)
    assert board["verdict"] in news["text"]
    assert SECRET not in json.dumps(news)
