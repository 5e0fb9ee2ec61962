"""The sweep's own run in W&B, written when it has ended: its verdict, its artifacts, its alert."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from analysis.export.checkpoint_choice import checkpoint_folder, choose
from analysis.output.leaderboard import Leaderboard
from analysis.records.lineage import plain_name
from analysis.records.sweep import read_sweep
from trainables.config.sections import WandbConfig
from trainables.errors import UserError
from trainables.redaction import redact
from trainables.storage.layout import MANIFEST_FILE, REPORT_FILE
from trainables.tracking import wandb_client

OPEN_SECONDS = 20.0
UPLOAD_SECONDS = 600.0  # for one artifact; what takes longer stays on disk, for `wandb sync`

News = dict[str, Any]


def record_end(config: WandbConfig, folder: Path, news: News, board: Leaderboard | None) -> str | None:
    """Writes the sweep's run: the news as its summary, artifacts and an alert where the config asks for them.

    Artifacts: the winner's checkpoint with the alias `best`, the hashes of the data (never the data), `report.html`.

    Args:
        config: The sweep's W&B section; its mode is "online", "offline" or "auto".
        folder: The sweep's folder.
        news: The sweep's end, as `sweeps.phases.finish.news_of` describes it.
        board: Its leaderboard; None where no trial ended.

    Returns:
        What went wrong, in a line; None if nothing did.
    """
    lost: list[str] = []
    try:
        _write(config, folder, news, board, lost.append)
    except Exception as error:  # noqa: BLE001 - no error of W&B's may reach the sweep, which has ended well
        lost.insert(0, redact(" ".join(f"{type(error).__name__}: {error}".split())))
    finally:
        wandb_client.tear_down(OPEN_SECONDS)
    return lost[0] if lost else None


def _write(
    config: WandbConfig, folder: Path, news: News, board: Leaderboard | None, lost: Callable[[str], None]
) -> None:
    def lost_upload() -> None:
        lost("an upload failed for good")

    name = f"{news['sweep']}-summary"
    run, why_offline = wandb_client.open_run(
        config, news["sweep"], "summary", folder, OPEN_SECONDS, lost_upload, name=name, job_type="sweep-summary"
    )
    if why_offline:
        sync = f"wandb sync {shlex.quote(str(run.sync_dir))}"
        lost(f"it is written offline, for it could not be opened online: {why_offline}; upload it: {sync}")
    try:
        run.summary.update({"sweep": news})
        if config.artifacts:
            for artifact, aliases in _artifacts(folder, news, board):
                logged = run.log_artifact(artifact, aliases=aliases)
                if not run.offline:
                    # Raises if the upload failed; `finish` would not.
                    logged.wait(int(UPLOAD_SECONDS))
        if config.alert:
            run.alert(title=f"{news['sweep']}: {news['state']}"[:63], text=news["text"])  # W&B takes 64 characters
    finally:
        run.finish(exit_code=int(news["state"] == "failed"))


def _artifacts(folder: Path, news: News, board: Leaderboard | None) -> list[tuple[Any, list[str]]]:
    """Each artifact with its aliases, `latest` aside."""
    import wandb

    found = []
    hashes, name = _data_hashes(folder), plain_name(news["sweep"])  # W&B takes no other characters
    if board and board["winner"]:
        metadata = {"objective": news["objective"], "winner": board["winner"], "gain": news["gain"]}
        model = wandb.Artifact(f"{name}-model", "model", metadata={**metadata, "data_sha256": hashes})
        # Checkpoints never change, so W&B need not copy them before the upload.
        sweep = read_sweep(folder)
        checkpoint = checkpoint_folder(sweep, choose(board, None, None, sweep.trials))
        model.add_dir(str(checkpoint), policy="immutable")
        found.append((model, ["best"]))
    data = wandb.Artifact(f"{name}-data", "dataset-hashes", metadata={"sha256": hashes})
    with data.new_file("data_sha256.json") as file:
        json.dump(hashes, file, indent=1)
    found.append((data, []))
    if (folder / REPORT_FILE).is_file():
        report = wandb.Artifact(f"{name}-report", "report")
        report.add_file(str(folder / REPORT_FILE))
        found.append((report, []))
    return found


def _data_hashes(folder: Path) -> dict[str, str]:
    try:
        return dict(json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))["data_sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(MANIFEST_FILE, "must name the data's hashes", error, "restore the file") from error
