"""The pre-flight: everything that can be known, and refused, before a lane starts.

Reads and tokenises all data, resolves the model, counts steps, compares the space with the recommended bounds and
forecasts the disk. `sweeps.folder` gives it a place to work in.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sweeps.bounds import Bounds, recommended, recommended_point
from sweeps.config import SweepConfig
from sweeps.prepare import SetPlan, tokenise_all
from trainables.config import SCHEDULE_PARAMS, LoraConfig, with_params
from trainables.epoch import plan_epoch
from trainables.errors import UserError
from trainables.files import write_whole
from trainables.pretrained import load_tokenizer, resolve_model
from trainables.schedule import MOST_FLOOR_OF_PEAK, cap_floor, make_schedule
from trainables.weight_files import summarise_weights

PLAN_FILE = "plan.json"
CACHE_FOLDER = "cache"


@dataclass(frozen=True)
class Finding:
    """Something that a user should know before the sweep starts; it does not stop it."""

    rule: str
    severity: str
    message: str


@dataclass
class Plan:
    """What the pre-flight found.

    Attributes:
        model_path: Folder of the resolved base model.
        parameters: Parameters of the base model.
        trained_parameters: Parameters that a trial trains.
        train: The training set.
        areas: The held-out areas by name.
        samples_per_step: Sequences in an optimiser step, over all workers.
        steps: Optimiser steps of a trial.
        warmup_steps: Fewest and most steps of warm-up that the space allows.
        checkpoint_bytes: Size of one checkpoint.
        disk_bytes: What all checkpoints of the sweep need.
        seed_points: Points that the search tries first.
        findings: What the user should know.
    """

    model_path: str
    parameters: int
    trained_parameters: int
    train: SetPlan
    areas: dict[str, SetPlan]
    samples_per_step: int
    steps: int
    warmup_steps: tuple[int, int]
    checkpoint_bytes: int
    disk_bytes: int
    seed_points: list[dict[str, float]]
    findings: list[Finding] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        """Writes `plan.json` into the sweep's folder."""
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / PLAN_FILE, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Plan:
        """The plan that `write` wrote."""
        fields = json.loads((folder / PLAN_FILE).read_text(encoding="utf-8"))
        fields["train"] = SetPlan(**fields["train"])
        fields["areas"] = {name: SetPlan(**area) for name, area in fields["areas"].items()}
        fields["findings"] = [Finding(**finding) for finding in fields["findings"]]
        return cls(**fields)


def make_plan(config: SweepConfig, draft: Path) -> Plan:
    """Reads, tokenises, counts and forecasts; see `Plan`.

    Args:
        config: The sweep.
        draft: Folder for the tokenised data.
    """
    cache = draft / CACHE_FOLDER
    cache.mkdir()
    model_path = resolve_model(config.model, Path(".cache") / "models")
    weights = summarise_weights(model_path)
    tokenizer = load_tokenizer(model_path, config.model)
    train, areas = tokenise_all(config, tokenizer, cache)
    trained = weights.parameters
    if config.model.method == "lora":  # an upper estimate where not every linear layer is adapted
        trained = _largest_lora(config).r * sum(rows + columns for rows, columns in weights.linear_shapes)
    epoch = plan_epoch(train.samples, config.training, config.resources.workers_per_lane)
    _refuse_impossible_schedules(config, epoch.steps)
    low, high = config.space.ends()["warmup_fraction"]
    checkpoint_bytes = 4 * trained
    plan = Plan(
        model_path=str(model_path),
        parameters=weights.parameters,
        trained_parameters=trained,
        train=train,
        areas=areas,
        samples_per_step=epoch.samples_per_step,
        steps=epoch.steps,
        warmup_steps=(round(low * epoch.steps), round(high * epoch.steps)),
        checkpoint_bytes=checkpoint_bytes,
        disk_bytes=checkpoint_bytes * len(epoch.checkpoints) * config.search.trials,
        seed_points=_seed_points(config),
    )
    plan.findings.extend(_findings(config, plan))
    _refuse_full_disk(plan, draft)
    return plan


def _largest_lora(config: SweepConfig) -> LoraConfig:
    high = {name: ends[1] for name, ends in config.space.ends().items() if name == "lora_r"}
    return with_params(config.training, config.model.lora, high)[1]


def _refuse_impossible_schedules(config: SweepConfig, steps: int) -> None:
    """Tries the schedule at every corner of the space, so that no trial fails in the middle of a sweep.

    Raises:
        UserError: Warm-up and decay do not fit into the epoch.
    """
    ends = config.space.ends()
    for peak, warmup, floor in itertools.product(*(ends[name] for name in SCHEDULE_PARAMS)):
        params, _ = cap_floor({"peak_lr": peak, "warmup_fraction": warmup, "decay_floor": floor})
        make_schedule(params, config.training.schedule, steps)


def _seed_points(config: SweepConfig) -> list[dict[str, float]]:
    if config.search.seed_points != "recommended":
        return list(config.search.seed_points)
    ends = config.space.ends()
    user = Bounds(ends["peak_lr"], ends["decay_floor"], ends["warmup_fraction"], "the space of this sweep")
    point = recommended_point(user, config.model.method)
    return [{name: point[name] for name in SCHEDULE_PARAMS}]


def _findings(config: SweepConfig, plan: Plan) -> Iterator[Finding]:
    """Warnings about the space and the data, in the order in which they are shown."""
    bounds = recommended(config.model.method, plan.parameters)
    ends = config.space.ends()
    outside = [
        f"space.{name} {low:g} to {high:g} (recommended {best_low:g} to {best_high:g})"
        for name in SCHEDULE_PARAMS
        for (low, high), (best_low, best_high) in [(ends[name], getattr(bounds, name))]
        if low < best_low or high > best_high
    ]
    if outside:
        text = f"the search leaves the recommended bounds: {', '.join(outside)}; their source: {bounds.source}"
        yield Finding("beyond_recommended", "warning", text)
    if ends["decay_floor"][1] > MOST_FLOOR_OF_PEAK * ends["peak_lr"][0]:
        text = (
            f"a draw can have its floor above {MOST_FLOOR_OF_PEAK:g} of its peak, where the LR would hardly decline; "
            "such a trial uses that fraction of its peak as floor, and both values are recorded"
        )
        yield Finding("floor_near_peak", "info", text)
    if not 2 <= config.training.batch_size <= 16:
        text = f"training.batch_size={config.training.batch_size} leaves the recommended 2 to 16 sequences"
        yield Finding("batch_size", "warning", text)
    for where, data in {"data.train": plan.train, **{f"heldout.areas.{k}": v for k, v in plan.areas.items()}}.items():
        if data.dropped:
            text = f"{where}: {len(data.dropped)} samples longer than max_tokens={config.data.max_tokens} are left out"
            yield Finding("too_long", "warning", text)


def _refuse_full_disk(plan: Plan, draft: Path) -> None:
    free = shutil.disk_usage(draft).free
    if plan.disk_bytes > free:
        raise UserError(
            "storage_path",
            "must have room for the checkpoints of all trials",
            f"{free / 1e9:.1f} GB free, {plan.disk_bytes / 1e9:.1f} GB needed",
            "free some, or lower search.trials or the number of training.checkpoints_at",
        )
