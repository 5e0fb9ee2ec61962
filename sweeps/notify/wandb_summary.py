"""The sweep's own runs in W&B, written when it has ended: verdict, artifacts and alert; the base model's scores."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from analysis.export.checkpoint_choice import checkpoint_folder, choose
from analysis.output.leaderboard import Leaderboard
from analysis.records.lineage import plain_name
from analysis.records.sweep import Sweep, read_sweep
from analysis.report.elements.material import read_material
from analysis.report.sections.items import read_pairs, texts_of
from trainables.config.sections import WandbArtifactsConfig, WandbConfig
from trainables.errors import UserError
from trainables.redaction import redact
from trainables.storage.layout import MANIFEST_FILE, REPORT_FILE
from trainables.tracking import wandb_client
from trainables.tracking.run_facts import area_row, mean_row

OPEN_SECONDS = 20.0
UPLOAD_SECONDS = 600.0  # for one artifact; what takes longer stays on disk, for `wandb sync`

SUMMARY = "sweep-summary"  # job type of the sweep's run
IDENTITIES = {SUMMARY: "summary"}  # of runs by job type, where earlier versions had another
ANSWER_COLUMNS = (
    *("area", "id", "prompt", "expected", "base answer", "best answer"),
    *("outcome", "base loss", "best loss", "best answer cut"),
)

News = dict[str, Any]


def record_end(config: WandbConfig, folder: Path, news: News, board: Leaderboard | None) -> str | None:
    """Writes the sweep's run, with the news as its summary, and a run of the base model with its scores at step 0.

    Where the config asks for them: an alert, and as artifacts the winner's checkpoint with the alias `best`, the hashes
    of the data (never the data), `report.html` with a table of held-out items and answers.

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


def alert(config: WandbConfig, folder: Path, sweep: str, news: News) -> str | None:
    """Sends an alert of the sweep's run, which the end goes on with; nothing where W&B is offline.

    A sweep without a folder, one that waits in a queue, has no run yet: its alert is of a run of its own.

    Args:
        config: The sweep's W&B section.
        folder: The sweep's folder.
        sweep: The sweep's name.
        news: As from `sweeps.notify.messages.news_of_event`.

    Returns:
        What went wrong, in a line; None if nothing did.
    """
    try:
        wandb_client.set_up()
        if wandb_client.resolve_mode(config.mode) != "online":
            return None
        job_type = SUMMARY if folder.is_dir() else "queued"
        identity, more = IDENTITIES.get(job_type, job_type), {"name": _run_name(sweep, job_type), "job_type": job_type}
        with TemporaryDirectory() as apart:
            # A queued sweep has no folder yet, and must find none when it starts.
            place = folder if folder.is_dir() else Path(apart)
            run, why = wandb_client.open_run(config, sweep, identity, place, OPEN_SECONDS, lambda: None, **more)
            try:
                if not why:
                    run.alert(title=f"{sweep}: {news['event']}"[:63], text=news["text"])
            finally:
                run.finish()
        return f"it could not be opened online: {why}" if why else None
    except Exception as error:  # noqa: BLE001 - no error of W&B's may reach the sweep
        return redact(" ".join(f"{type(error).__name__}: {error}".split()))


def _write(
    config: WandbConfig, folder: Path, news: News, board: Leaderboard | None, lost: Callable[[str], None]
) -> None:
    sweep = read_sweep(folder)
    offline: dict[str, str] = {}  # why runs are offline, by their folders
    if sweep.baseline:
        with _opened(config, news, folder, "base-model", offline, lost) as run:
            means = mean_row(sweep.baseline, sweep.weights, sweep.measure)
            run.config.update({"model": (sweep.config.get("model") or {}).get("name"), "kind": "base-model"})
            # An earlier end of the sweep has written the row: one that is logged again stands twice.
            if not run.resumed and len([*(folder / "wandb").glob(f"*-{run.id}")]) == 1:
                run.log({**area_row(0, sweep.baseline, None), **means})
    with _opened(config, news, folder, SUMMARY, offline, lost) as run:
        run.summary.update({"sweep": news})
        if config.artifacts.report and board and (table := answers(folder, board)):
            run.log({"heldout/answers": table})
        for artifact, aliases in _artifacts(config.artifacts, sweep, news, board):
            logged = run.log_artifact(artifact, aliases=aliases)
            if not run.offline:
                # Raises if the upload failed; `finish` would not.
                logged.wait(int(UPLOAD_SECONDS))
        if config.alert:
            run.alert(title=f"{news['sweep']}: {news['state']}"[:63], text=news["text"])  # W&B takes 64 characters
    if offline:
        why, sync = next(iter(offline.values())), f"wandb sync {shlex.join(offline)}"
        lost(f"it is written offline, for it could not be opened online: {why}; upload it: {sync}")


def _run_name(sweep: str, job_type: str) -> str:
    return f"{sweep} · {job_type.replace('-', ' ')}"


@contextmanager
def _opened(
    config: WandbConfig,
    news: News,
    folder: Path,
    job_type: str,
    offline: dict[str, str],
    lost: Callable[[str], None],
) -> Iterator[Any]:
    """One of the sweep's own runs, closed at the end of the block."""
    name, identity = _run_name(news["sweep"], job_type), IDENTITIES.get(job_type, job_type)
    about = {"name": name, "job_type": job_type, "notes": news["objective"] or None}
    run, why_offline = wandb_client.open_run(
        config, news["sweep"], identity, folder, OPEN_SECONDS, lambda: lost("an upload failed for good"), **about
    )
    if why_offline:
        offline[str(run.sync_dir)] = why_offline
    try:
        yield run
    finally:
        run.finish(exit_code=int(job_type == SUMMARY and news["state"] == "failed"))


def answers(folder: Path, board: Leaderboard) -> Any:
    """The held-out items with the base model's and the winner's answers, as a W&B table; None where nothing won."""
    import wandb

    material = read_material(folder, board)
    pairs = read_pairs(material)
    texts = texts_of(material, pairs)
    rows = []
    for base, best, change in ((pair.base, pair.winner, pair.change) for pair in pairs):
        prompt, expected = texts.get((base.area, base.id), (None, None))
        rows.append(
            [base.area, base.id, prompt, expected, base.answer, best.answer, change, base.nll, best.nll, best.cut]
        )
    return wandb.Table(columns=list(ANSWER_COLUMNS), data=rows) if rows else None


def _artifacts(
    wanted: WandbArtifactsConfig, sweep: Sweep, news: News, board: Leaderboard | None
) -> list[tuple[Any, list[str]]]:
    """Each artifact with its aliases, `latest` aside."""
    import wandb

    found, folder = [], sweep.folder
    hashes, name = _data_hashes(folder), plain_name(news["sweep"])  # W&B takes no other characters
    if wanted.checkpoint and board and board["winner"]:
        metadata = {"objective": news["objective"], "winner": board["winner"], "gain": news["gain"]}
        model = wandb.Artifact(f"{name}-model", "model", metadata={**metadata, "data_sha256": hashes})
        # Checkpoints never change, so W&B need not copy them before the upload.
        checkpoint = checkpoint_folder(sweep, choose(board, None, None, sweep.trials))
        model.add_dir(str(checkpoint), policy="immutable")
        found.append((model, ["best"]))
    if wanted.data_hashes:
        data = wandb.Artifact(f"{name}-data", "dataset-hashes", metadata={"sha256": hashes})
        with data.new_file("data_sha256.json") as file:
            json.dump(hashes, file, indent=1)
        found.append((data, []))
    if wanted.report and (folder / REPORT_FILE).is_file():
        report = wandb.Artifact(f"{name}-report", "report")
        report.add_file(str(folder / REPORT_FILE))
        found.append((report, []))
    return found


def _data_hashes(folder: Path) -> dict[str, str]:
    try:
        return dict(json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))["data_sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(MANIFEST_FILE, "must name the data's hashes", error, "restore the file") from error
