"""The structure of `leaderboard.json`: losses in nats a token, intervals as [low, high], None where unknown.

Boards that earlier versions wrote lack some keys: a reader of files asks for these with `get`.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

Interval = list[float]
UNANSWERED = "no answers were generated there (heldout.answers_at)"  # a checkpoint's defect where answers decide
Figures = dict[str, Any]  # an area's means, or a checkpoint's; the user's own scorers add names that no type knows


class CheckpointName(TypedDict):
    """A checkpoint by its trial and step."""

    trial_id: str
    step: int


class SettingFigures(TypedDict):
    """A setting with its seeds; see `analysis.rank.settings.setting_figures`."""

    objective: float
    posterior: NotRequired[float | None]
    posterior_sd: NotRequired[float | None]
    gain: float | None
    gain_interval: Interval | None
    seeds: int
    replicated: bool
    diverged_replicates: int
    behind: float
    behind_interval: Interval | None
    behind_se_items: float | None
    behind_se: float | None
    behind_df: float | None
    separated: bool


class LeaderboardRow(TypedDict):
    """A setting, or a replicate within it; measures are those of the trial's lowest checkpoint."""

    rank: int | None
    tied: bool
    trial_id: str
    step: int | None
    state: str
    kind: str
    replicate_of: str | None
    seed: int | None
    params: dict[str, float]
    drawn: dict[str, float] | None
    objective: float | None
    gain: float | None
    gain_interval: Interval | None
    behind: float | None
    behind_interval: Interval | None
    token_weighted: float | None
    trimmed: float | None
    exact_match: float | None
    token_f1: float | None
    areas: dict[str, Figures]
    checkpoints: list[Figures]
    setting: SettingFigures | None
    replicates: list[LeaderboardRow]
    best: CheckpointName | None  # the setting's lowest checkpoint, which may be a replicate's
    guard_rails: dict[str, Figures]
    guard_rail: str | None
    findings: int
    cost: dict[str, float]
    steps: int | None
    steps_planned: int | None
    error: str | None


class WinnerGain(TypedDict):
    """The winner's gain, plain (optimistic) and corrected for having been selected."""

    plain: float
    plain_interval: Interval | None
    corrected: float | None
    corrected_interval: Interval | None


class Model(TypedDict):
    """The model that the settings' posteriors come from."""

    trials: int
    seeds: int  # distinct ones among the search trials
    df: int
    seed_sd: float  # of one score of the named setting, nats a token
    claims: bool  # whether differences may be claimed from it
    curve: NotRequired[list[tuple[float, float, float]]]  # LR, posterior mean and its sd, over the LRs that were tried


class SeparationMethod(TypedDict):
    """When settings count as different, and the seed variance behind it."""

    level: float
    method: str
    comparisons: int
    seed_sd: float | None
    seed_sd_unblocked: float | None
    seed_sd_single: float | None
    seed_sd_source: str
    seed_sd_df: float | None
    seed_sd_unblocked_df: float | None
    blocked_by_seed: bool
    model: NotRequired[Model | None]


class GuardRailOutcome(TypedDict):
    """The guard-rails of the winner, and the best setting that passes all."""

    allowed: dict[str, float]
    method: str
    winner: str | None
    best_passing: CheckpointName | None


class Recommended(TypedDict):
    """Whether anything beat the recommended setting; a lead is better above 0, in the metric's unit."""

    trial_id: str  # the search trial that tried it
    lead: float | None  # of the named setting over it; None where it diverged
    lead_interval: Interval | None
    worthwhile: float
    outcome: str  # "diverged", or as of `analysis.stats.worthwhile`: "best", "enough", "beaten", "unknown"


class About(TypedDict):
    """The sweep that a board is of."""

    model: str
    method: str
    lora_r: int | None
    samples: int | None  # of the training set, as kept
    steps: int | None  # of an epoch
    space: dict[str, list[float]]  # low and high of each searched range
    wall_seconds: float | None


class Leaderboard(TypedDict):
    """What `analysis.rank.leaderboard.leaderboard` returns."""

    name: str
    measure: NotRequired[dict[str, str]]  # the `metric` that decides, its `label` and the `unit` of differences
    winner: CheckpointName | None
    winner_setting: str | None
    winner_gain: WinnerGain | None
    tied: list[CheckpointName]
    verdict: str
    rows: list[LeaderboardRow]
    intervals: Figures  # of checkpoints: `level`, `method`, `resamples`, and what they leave out
    separation: SeparationMethod | None
    recommended: NotRequired[Recommended | None]  # None where the recommended point was not tried, or did not complete
    guard_rails: GuardRailOutcome | None
    beside: dict[str, Any] | None
    sealed: dict[str, Figures]
    retrained: NotRequired[Figures | None]  # `analysis.rank.sensitivity.retrained_figures`
    findings: list[dict[str, Any]]
    more_data: dict[str, Any]
    baseline: Figures
    weights: dict[str, float]
    notes: list[str]
    about: NotRequired[About]
    advice: NotRequired[list[dict[str, Any]]]  # for the next sweep: `rule`, `reason`, `changes` by dotted key
    suspects: NotRequired[dict[str, Any]]  # added by `write_leaderboard`
