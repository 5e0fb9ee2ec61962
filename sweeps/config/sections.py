"""Sections of a sweep's config about the search and its resources; the others are in `trainables.config`.

The sections' docstrings are user documentation: `sweeps.config.reference` prints them.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from analysis.stats.multiple_comparisons import Looks
from sweeps.config.errors import rule
from trainables.config.sections import Section
from trainables.evaluation.objective import NLL, Measure

SUBSET_FRACTIONS = (0.25, 0.5)  # of the training samples; with the whole set three points, each twice the last

# With so few trials an offset grid had less regret than any sampler, on measured surfaces of LRs; with 8 it had more.
GRID_TRIALS = 5


class EnoughConfig(Section):
    """A score of the base model at which fine-tuning is not needed.

    Attributes:
        metric: "nll" (nats/token, at most `value`), or "exact_match", "token_f1" or another scorer (at least).
        value: The score.
        area: The held-out area that must reach it; null for the mean over all areas, by weight.
    """

    metric: str = Field(min_length=1)
    value: float
    area: str | None = None


class ObjectiveConfig(Section):
    """What the fine-tune is for.

    Attributes:
        statement: One or two sentences; they head every report. A bare string in a config means this field.
        metric: What decides: "nll" (nats/token, lower is better), or "exact_match", "token_f1" or another scorer that
            every selecting area has (shares, higher is better). The latter need answers of the base model and at the
            last checkpoint, at least (`heldout.answers_at`): only checkpoints with answers compete. Guard-rails,
            `confirm.seed_sd` and all differences are in its unit. Trials are stopped and paused by the NLL in any case.
        worthwhile: Smallest lead over the recommended setting that is worth having, in the metric's unit; null for 0.01
            (of a nat a token; of a share, one point). The verdict says first whether anything tried reaches it.
        enough: A score at which fine-tuning is not needed; null for none.
        when_enough: Where the base model reaches it: "stop" (no trial is trained) or "continue".
        domain: What the fine-tune is for, as a value of the key `domain` of samples or areas: the plan looks for it.
        source: The same for `source`.
        skill: The same for `skill`.
    """

    short_form: ClassVar = "statement"

    statement: str = Field(min_length=1)
    metric: str = Field(NLL, min_length=1)
    worthwhile: float | None = Field(None, gt=0)
    enough: EnoughConfig | None = None
    when_enough: Literal["stop", "continue"] = "stop"
    domain: str | None = Field(None, min_length=1)
    source: str | None = Field(None, min_length=1)
    skill: str | None = Field(None, min_length=1)

    @property
    def measure(self) -> Measure:
        """The metric that decides."""
        return Measure(self.metric)


class SearchConfig(Section):
    """How the space is searched.

    Attributes:
        trials: Trials in all.
        sampler: "gp" (Gaussian process), "tpe", "cmaes", "random", "grid" (evenly spaced, most levels for the peak LR),
            "qmc" (quasi-random); or "auto": "grid" for five trials or fewer without a warm start, else "gp".
        startup_trials: Quasi-random or random trials before "gp" and "tpe" begin to model.
        warm_start: Folders of earlier sweeps whose finished trials the sampler learns from, where model, method and
            data are the same.
        seed_points: "recommended" tries the recommended point first; or a list of points; [] for none.
        trial_scheduler: Who stops trials: "pause" (of six trials and more each but the first pauses after a quarter of
            its epoch, is scored there, and the best go on, at LRs that differ: half the steps); "evidence" (paired
            losses against finished trials of the same seed, aware of the LR schedule's phase); "none"; or Ray Tune's
            "asha" or "median" on the held-out objective. "pause" also stops as "evidence" does.
        seeds: Seeds in rotation: trial n is trained under seed `seed + (n - 1) % seeds`. With one seed the search finds
            what suits that seed, and can't tell how much of a score is its luck.
    """

    trials: int = Field(12, ge=1)
    sampler: Literal["auto", "gp", "tpe", "cmaes", "random", "grid", "qmc"] = "auto"
    startup_trials: int = Field(4, ge=1)
    warm_start: list[str] = Field(default_factory=list)
    seed_points: Literal["recommended"] | list[dict[str, float | str]] = "recommended"
    trial_scheduler: Literal["evidence", "pause", "none", "asha", "median"] = "pause"
    seeds: int = Field(4, ge=1, le=16)

    @property
    def chosen_sampler(self) -> str:
        """The sampler that proposes; never "auto"."""
        if self.sampler != "auto":
            return self.sampler
        return "grid" if self.trials <= GRID_TRIALS and not self.warm_start else "gp"


class ConfirmConfig(Section):
    """Replicates of the best settings, with other seeds, after the search: only seeds tell two settings apart.

    Attributes:
        budget: Replicates at most; 0 for none. "auto": 4 (two settings, two more seeds each) where `search.trials` is
            12 or more, else 0.
        rounds: Rounds at most; each trains every contender that is left with one and the same new seed.
        contenders: Settings at most that are replicated; fewer, but two, where the budget gives them less than three
            rounds. Each peak LR lies at least 0.15 decades from the others: nearer settings differ by next to nothing.
        looks: "auto" compares two contenders once, after the last round that the budget pays for, and more of them
            after each round; "every_round" compares two, too, after each round, which tells fewer gaps.
        epsilon: Nats/token; settings that are known to be nearer than this are a tie.
        alpha: Probability of calling one of two equal settings worse, over all settings and rounds; the
            leaderboard's too.
        seed_sd: Standard deviation of a setting's objective between seeds, nats/token, where it is known, as from a
            parent sweep. null: replicates measure it, and the best settings are replicated in any case.
    """

    budget: Literal["auto"] | int = "auto"
    rounds: int = Field(4, ge=1, le=4)
    contenders: int = Field(4, ge=2, le=4)
    looks: Looks = "auto"
    epsilon: float = Field(0.01, gt=0)
    alpha: float = Field(0.05, gt=0, lt=0.5)
    seed_sd: float | None = Field(None, gt=0)

    @field_validator("budget")
    @classmethod
    def is_a_number_of_replicates(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 0:
            raise rule("must be 0 or more", value, "give a number or auto")
        return value


class MoreDataConfig(Section):
    """Would more training samples help? Complete schedules on parts of the training set tell; one curve does not.

    Attributes:
        subsets: Train the winner's setting again, after the search, on a quarter of the samples and on a half that
            holds the quarter. They cost three quarters of a trial, and take no part in the ranking.
    """

    subsets: bool = False

    @property
    def trials(self) -> float:
        """Cost of the subset trials, in whole trials."""
        return sum(SUBSET_FRACTIONS) if self.subsets else 0.0


class WinnerConfig(Section):
    """What happens to the named setting after the search.

    Attributes:
        retrain: Train the named setting once more, with the winner's seed, on the training samples and the items of
            all areas that select. Only sealed areas can judge the result, so one is needed; it costs a trial and more,
            and is exported in place of the winner unless it is significantly worse there.
    """

    retrain: bool = False


class BudgetConfig(Section):
    """What the sweep may cost.

    Attributes:
        device_hours: Hours that lanes may hold their GPUs (on CPUs: their workers), all lanes together; when they are
            spent the sweep ends and ranks what it has. null for no cap.
    """

    device_hours: float | None = Field(None, gt=0)


FROM_ENVIRONMENT = "env:"  # prefix of a webhook that names an environment variable


NewsEvent = Literal["queued", "started", "finding", "budget", "waiting", "ended"]


class NotifyConfig(Section):
    """Who is told what of the sweep. `wandb.alert` sends the same news as alerts of W&B.

    Attributes:
        webhook: An address to which news are posted as JSON (at the end the verdict, the gain, the cost and the
            folder); `env:NAME` where the environment variable NAME holds it (an address that is itself a secret must
            not stand here). null for none.
        insecure: Post to http, too, beyond this machine; others on the network can read it.
        events: What is told: "queued" (it was handed to a queue), "started" (also when it is resumed), "finding" (a
            trial has a finding of severity error), "budget" (80 % of `budget.device_hours` are spent), "waiting" (it
            waits for devices), "ended".
    """

    webhook: str | None = Field(None, min_length=1)
    insecure: bool = False
    events: list[NewsEvent] = Field(["ended"])


class ResourcesConfig(Section):
    """What the sweep may use.

    Attributes:
        lanes: Trials trained at once, or "auto": what the cluster has (on CPUs one lane a node), and what nodes bring
            that join it later. On a cluster that was joined (--address) it may be more than the nodes that are up hold.
        workers_per_lane: GPUs (or CPU workers) that one trial is trained on, data-parallel.
        trials_per_lane: Trials trained side by side on one copy of the base model (LoRA), each with its own schedule
            and fate; or "auto": as many as the lane's device is measured to train faster than one after another.
        shard: Share the weights out over `workers_per_lane` (FSDP), and of a full fine-tune the gradients and AdamW's
            moments too: each worker then needs memory for its part and for one layer. "auto": wherever several workers
            share a full fine-tune; true: the frozen weights under adapters too, for a base too large for one device.
            Memory that runs out then ends the lane, which starts again with micro-batches of half the tokens; each time
            counts as a failure of the trial.
        cpus_per_worker: CPUs of each worker, or "auto".
        max_failures: How often a trial is tried again after an error or a lost worker.
        hung_after_seconds: A worker in which no step, scoring batch or write gets done for so long hangs: it is ended,
            and its trial has failed once. "auto": 50 of the trial's own steps, at least 10 minutes.
        keep_checkpoints: Keep the best checkpoint of the top N settings; "all" keeps every one. Settings that are being
            confirmed, and the best and last checkpoint of running trials, are kept too. All scores are kept and ranked.
        price_per_device_hour: What an hour of one device costs, in any currency: plan, report and the last screen then
            say the cost in money, too. null where unknown.
    """

    lanes: Literal["auto"] | int = "auto"
    workers_per_lane: int = Field(1, ge=1)
    trials_per_lane: Literal["auto"] | int = 1
    shard: Literal["auto", True, False] = "auto"
    cpus_per_worker: Literal["auto"] | int = "auto"
    max_failures: int = Field(2, ge=0)
    hung_after_seconds: Literal["auto"] | float = "auto"
    keep_checkpoints: Literal["all"] | int = 5
    price_per_device_hour: float | None = Field(None, gt=0)

    def shards(self, method: str) -> bool:
        """Whether the workers of a lane share out the weights of a trial of this `model.method`."""
        return self.shard is True or (self.shard == "auto" and method == "full" and self.workers_per_lane > 1)

    @field_validator("hung_after_seconds")
    @classmethod
    def is_some_time(cls, value: float | str) -> float | str:
        if not isinstance(value, str) and value <= 0:
            raise rule("must be above 0", value, "give seconds or auto")
        return value

    @field_validator("lanes", "trials_per_lane", "cpus_per_worker", "keep_checkpoints")
    @classmethod
    def is_positive(cls, value: int | str, info: ValidationInfo) -> int | str:
        if isinstance(value, int) and value < 1:
            word = "all" if info.field_name == "keep_checkpoints" else "auto"
            raise rule("must be 1 or more", value, f"give a positive number or {word}")
        return value

    @field_validator("trials_per_lane")
    @classmethod
    def a_trial_is_packed_or_shared_out(cls, value: int | str, info: ValidationInfo) -> int | str:
        if value != 1 and info.data.get("workers_per_lane", 1) > 1:
            raise rule("must be 1 where several workers share a trial", value, "set it, or workers_per_lane, to 1")
        return value
