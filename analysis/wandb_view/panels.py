"""A sweep's workspace and report in W&B, as `wandb-workspaces` objects; nothing is sent here.

The keys are those that `trainables.tracking` logs: a trial is a run in the group of the sweep's name. Its
hyper-parameters are its config, and `verdict` is in its summary. Intervals, ties and findings are not in W&B's data:
they come as text.
"""

from __future__ import annotations

from typing import Any

from wandb_workspaces import expr
from wandb_workspaces.reports import v2 as wr
from wandb_workspaces.workspaces import RunsetSettings, Section, Workspace

from analysis.output.formats import checkpoint, measure_of, nats, number, percent, scored, with_interval
from analysis.output.leaderboard import Leaderboard as Leaderboard
from analysis.records.sweep import Sweep

STEP, RELATIVE_LOSS, LR = "step", "train/loss_minus_base", "train/lr"
OBJECTIVE, STATE = "verdict.objective", "verdict.state"
SMOOTHING = 0.6
LISTED_TRIALS = 50  # rows of the report's table, so that the page loads; W&B's own table has all runs


def workspace(sweep: Sweep, board: Leaderboard, entity: str, project: str) -> Workspace:
    """The sweep's saved view of its project: only its runs, the best first, and a section for each question.

    Args:
        sweep: The sweep.
        board: The sweep's leaderboard.
        entity: Team or user.
        project: Project of the runs.
    """
    sections = [
        Section(name=name, panels=panels, is_open=True)
        for name, panels in (("Verdict", [wr.MarkdownPanel(markdown=summary_text(board))]), *_panels(sweep))
    ]
    runs = RunsetSettings(
        filters=[expr.Metric("Group") == sweep.name],
        order=[expr.Ordering(expr.Summary(OBJECTIVE), ascending=True)],  # NLL: lower is better
        pinned_columns=_columns(sweep),
    )
    return Workspace(entity=entity, project=project, name=sweep.name, sections=sections, runset_settings=runs)


def report(sweep: Sweep, board: Leaderboard, entity: str, project: str) -> wr.Report:
    """The sweep's report: verdict, leaderboard with intervals, plots, findings. Arguments as `workspace`."""
    runs = wr.Runset(
        entity=entity,
        project=project,
        name=sweep.name,
        filters=[expr.Metric("Group") == sweep.name],
        order=[wr.OrderBy(wr.SummaryMetric(OBJECTIVE), ascending=True)],
        pinned_columns=_columns(sweep),
    )
    blocks: list[Any] = [wr.MarkdownBlock(text=summary_text(board)), wr.H2("Leaderboard")]
    blocks.append(wr.MarkdownBlock(text=leaderboard_table(board)))
    for name, panels in _panels(sweep):
        blocks += [wr.H2(name), wr.PanelGrid(runsets=[runs], panels=panels)]
    blocks += [wr.H2("Findings"), wr.MarkdownBlock(text=findings_text(sweep, board))]
    return wr.Report(
        project=project,
        entity=entity,
        title=sweep.name[:128],  # W&B's limit
        description=sweep.statement,
        blocks=blocks,
        width="fluid",
    )


def summary_text(board: Leaderboard) -> str:
    """The verdict and the meaning of the intervals, as Markdown."""
    scope = f"\n\nIntervals hold {percent(board['intervals']['level'])}: {board['intervals']['scope']}."
    return _plain(board["verdict"]) + (_plain(scope) if board.get("intervals") else "")


def leaderboard_table(board: Leaderboard) -> str:
    """The leaderboard as a Markdown table, the base model first."""
    areas = sorted(board["weights"])
    names = sorted({name for row in board["rows"] for name in row["params"]})
    heads = [
        "rank",
        "trial",
        "state",
        "step",
        measure_of(board).label,
        "gain",
        *areas,
        *names,
    ]
    base = board["baseline"]["areas"]
    lines = [heads, ["---"] * len(heads)]
    weighed = board["baseline"].get("objective")
    first = ["base", "untouched", "", "0", scored(board, weighed), ""]
    lines.append([*first, *(nats(base.get(area, {}).get("nll")) for area in areas), *[""] * len(names)])
    for row in board["rows"][:LISTED_TRIALS]:
        rank = "" if row["rank"] is None else f"{row['rank']}{' (tied)' if row['tied'] else ''}"
        step = "" if row["step"] is None else str(row["step"])
        scores = [scored(board, row["objective"]), with_interval(row["gain"], row["gain_interval"])]
        by_area = [nats(row["areas"].get(area, {}).get("nll")) for area in areas]
        params = [number(row["params"].get(name)) for name in names]
        lines.append([rank, row["trial_id"], row["state"], step, *scores, *by_area, *params])
    left = len(board["rows"]) - LISTED_TRIALS
    more = f"\n\nAnd {left} more: `python -m analysis.rank`." if left > 0 else ""
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines) + more


def findings_text(sweep: Sweep, board: Leaderboard) -> str:
    """The diagnostics' findings on the sweep and on each trial, as a Markdown list."""
    lines = [f"- **{found['rule']}** ({found['severity']}): {_plain(found['advice'])}" for found in board["findings"]]
    for trial in sweep.trials:
        for found in trial.findings:
            where = f"{trial.trial_id} step {found['step']}"
            lines.append(f"- {where}: **{found['rule']}** ({found['severity']}): {_plain(found['advice'])}")
    if board["winner"]:
        lines.insert(0, f"- Winner: {checkpoint(board, board['winner'])}")
    return "\n".join(lines) or "None."


def _panels(sweep: Sweep) -> list[tuple[str, list[Any]]]:
    """The plots, by section."""
    areas = sorted(sweep.weights)
    space = sweep.config.get("space") or {}
    # A number in the space is a fixed value: an axis of it would be one point.
    searched = {name: bounds for name, bounds in space.items() if isinstance(bounds, dict)}
    axes = [
        wr.ParallelCoordinatesPlotColumn(metric=wr.Config(name), log=bounds.get("log") is True)
        for name, bounds in searched.items()
    ]
    goal = wr.ParallelCoordinatesPlotColumn(metric=wr.SummaryMetric(OBJECTIVE), display_name="held-out loss")
    curve: dict[str, Any] = {
        "x": STEP,
        "smoothing_type": "exponential",
        "smoothing_factor": SMOOTHING,
        "smoothing_show_original": True,
    }
    # The loss of single steps follows the samples more than the schedule; less the base model's, it is comparable.
    title = "Training loss − base model loss on the same samples, nats/token"
    return [
        (
            "Hyper-parameters",
            [wr.ParallelCoordinatesPlot(title="Searched values and objective", columns=[*axes, goal])],
        ),
        (
            "Curves",
            [wr.LinePlot(title=title, y=[RELATIVE_LOSS], **curve), wr.LinePlot(title="LR", x=STEP, y=[LR])],
        ),
        (
            "Held-out areas",
            [
                *(wr.BarPlot(title=f"{a}: gain over the base model", metrics=[f"heldout/{a}/gain"]) for a in areas),
                wr.LinePlot(title="Held-out loss over training", x=STEP, y=[f"heldout/{area}/nll" for area in areas]),
            ],
        ),
    ]


def _columns(sweep: Sweep) -> list[str]:
    params = sorted({name for trial in sweep.trials for name in trial.params})
    scores = [f"summary:heldout/{area}/{name}" for area in sorted(sweep.weights) for name in ("gain", "nll")]
    return [
        *("run:displayName", f"summary:{OBJECTIVE}", f"summary:{STATE}"),
        *scores,
        *(f"config:{name}.value" for name in params),
    ]


def _cell(text: str) -> str:
    return _plain(text).replace("|", "\\|")


def _plain(text: str) -> str:
    return text.replace("<", "&lt;")  # Markdown would take it for a tag
