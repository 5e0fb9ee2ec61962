"""The pre-flight: everything that can be known, and refused, before a lane starts."""

from __future__ import annotations

import errno
import itertools
import json
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sweeps.config.pausing import PAUSE_AT, trials_to_finish
from sweeps.config.sections import SUBSET_FRACTIONS
from sweeps.config.space import Choices, Range
from sweeps.config.sweep_config import SweepConfig
from sweeps.folder.identity import check_parent
from sweeps.plan.cost_forecast import DEVICES, Forecast, ModelShape, Work, forecast
from sweeps.plan.datasets import Prepared, SetPlan, prepare_data
from sweeps.plan.findings import (
    Finding,
    distinct_findings,
    epoch_findings,
    metric_findings,
    objective_findings,
    space_findings,
    template_findings,
    tracking_findings,
    tracking_mistakes,
    unexplained,
    warm_start_mistakes,
)
from sweeps.plan.lr_bounds import Bounds, recommended_point
from sweeps.plan.lr_scale import centre, factor, followed_bounds
from sweeps.plan.memory import Fit, largest_trial
from sweeps.plan.model_check import ModelCheck
from sweeps.plan.model_facts import inspection
from trainables.config.hyperparameters import SCHEDULE_PARAMS, with_params
from trainables.config.sections import Params
from trainables.data.epoch import Epoch, plan_epoch
from trainables.data.tokenization import ShownSample
from trainables.errors import UserError
from trainables.models.pretrained import load_tokenizer, resolve_model
from trainables.models.safetensors_files import read_json
from trainables.optim.lr_schedule import cap_floor, make_schedule
from trainables.storage.atomic import write_whole
from trainables.storage.layout import CACHE_FOLDER, PLAN_FILE
from trainables.storage.object_store import is_url

BATCH = ("batch_size", "gradient_accumulation")  # what a step's samples follow from
MODELS_CACHE = Path(".cache") / "models"
CPU_PROBE_SIZE = 1024
CPU_UTILIZATION = 0.7  # of a large matrix product's speed; ours, from steps of the demo model


@dataclass
class Plan:
    """Results of the pre-flight; what `plan.json` holds."""

    model_path: str  # folder of the resolved base model
    parameters: int
    trained_parameters: int
    train: SetPlan
    areas: dict[str, SetPlan]
    audit: dict[str, Any]  # of "train" and each of "areas": lines, kept samples, line numbers by rule
    reality: dict[str, Any]  # `trainables.data.independence.examine.AreaReport` by area
    samples_per_step: int  # sequences of an optimizer step, over all workers; with the batch of `training`, if allowed
    steps: int  # optimizer steps of such a trial
    warmup_steps: tuple[int, int]  # fewest and most that the space allows
    decay_steps: tuple[int, int]
    padding: float  # fraction of padded batches over the epoch; trials don't compute it
    forecast: Forecast
    seed_points: list[Params]  # tried first
    tags: dict[str, Any] = field(default_factory=dict)  # samples and contexts by tag, of "data.train" and each area
    recommended: dict[str, Any] = field(default_factory=dict)  # range of each LR hyper-parameter, and their "source"
    findings: list[Finding] = field(default_factory=list)
    failures: list[UserError] = field(default_factory=list)  # why the sweep can't start
    # Fewest and most over the space, where it moves the batch; None in plans of earlier versions.
    samples_per_step_ends: tuple[int, int] | None = None
    steps_ends: tuple[int, int] | None = None
    shown: list[ShownSample] = field(default_factory=list)  # the first training samples as the model sees them
    fit: Fit | None = None  # into the device that was named; None where none was

    @property
    def data_forms(self) -> dict[str, dict[str, int]]:
        """Number of samples of each form (as in `data.format`), by setting; empty in plans of earlier versions."""
        sets = {"data.train": self.audit["train"], **self.audit["areas"]}
        return {name: found.get("forms", {}) for name, found in sets.items()}

    def as_json(self) -> str:
        """The text of `plan.json`, without the line's end."""
        return json.dumps({**asdict(self), "failures": [str(error) for error in self.failures]}, indent=2)

    def write(self, folder: Path) -> None:
        """Writes `plan.json` into the sweep's folder."""
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / PLAN_FILE, self.as_json() + "\n")

    @classmethod
    def read(cls, folder: Path) -> Plan:
        """Reads the plan of a sweep that could start, thus without failures."""
        fields = json.loads((folder / PLAN_FILE).read_text(encoding="utf-8"))
        fields["train"] = SetPlan(**fields["train"])
        fields["areas"] = {name: SetPlan(**area) for name, area in fields["areas"].items()}
        fields["forecast"] = Forecast(**fields["forecast"])
        fields["fit"] = Fit(**fit) if (fit := fields.get("fit")) else None
        fields["findings"] = [Finding(**finding) for finding in fields["findings"]]
        fields["shown"] = [ShownSample(*shown) for shown in fields.get("shown", [])]
        return cls(**fields)


def make_plan(config: SweepConfig, draft: Path) -> Plan:
    """Resolves the model, audits and tokenizes all data into the folder `draft`, counts steps and forecasts costs.

    Raises:
        UserError, UserErrors: There can be no plan: a file or the model cannot be read, nothing is left to train on,
            or the LR schedule does not fit the epoch. Mistakes in lines and bounds are in `Plan.failures`.
    """
    (draft / CACHE_FOLDER).mkdir()
    model_path = _resolved_model(config)
    with inspection(model_path, config, MODELS_CACHE) as inspected:
        tokenizer = load_tokenizer(model_path, config.model)
        data = prepare_data(config, tokenizer, draft / CACHE_FOLDER)
        facts = inspected()
    check = ModelCheck(config, facts, data, draft / CACHE_FOLDER, len(tokenizer))
    small, epoch, large = _epochs(config, data.train.samples)
    _refuse_impossible_schedules(config, _fewest_steps(config, data.train.samples))
    trained = max((adapter.trained for adapter in facts.adapters), default=facts.parameters)
    in_4_bits = facts.quantizable if config.model.quantize else 0
    shape = ModelShape.of(facts.parameters, trained, read_json(model_path / "config.json"), in_4_bits)
    warmup = config.space.ends()["warmup_fraction"]
    warmup_steps = round(warmup[0] * large.steps), round(warmup[1] * small.steps)
    plan = Plan(
        model_path=str(model_path),
        parameters=facts.parameters,
        trained_parameters=trained,
        train=data.train,
        areas=data.areas,
        audit=data.audit.to_json(),
        reality=data.reality,
        samples_per_step=epoch.samples_per_step,
        steps=epoch.steps,
        warmup_steps=warmup_steps,
        decay_steps=(large.steps - round(warmup[1] * large.steps), small.steps - round(warmup[0] * small.steps)),
        samples_per_step_ends=(small.samples_per_step, large.samples_per_step),
        steps_ends=(large.steps, small.steps),
        padding=data.padding,
        forecast=_forecast(config, data, epoch, shape),
        seed_points=_seed_points(config),
        shown=data.shown,
        tags=data.tags,
        recommended=asdict(followed_bounds(config, facts.parameters)),
        failures=_failures(check),
    )
    plan.findings += [
        *_findings_before_the_model(config, data),
        *check.findings(),
        *space_findings(config, plan.parameters),
        *epoch_findings(config, large.steps, warmup_steps[0]),
        *distinct_findings(config, data.train.samples),
    ]
    if not is_url(config.storage_path):
        _refuse_full_disk(plan, config)
    return plan


def _failures(check: ModelCheck) -> list[UserError]:
    """All mistakes that keep the sweep from starting."""
    config, parameters = check.config, check.facts.parameters
    return [
        *unexplained(config, parameters),
        *check_parent(config),
        *tracking_mistakes(config),
        *warm_start_mistakes(config),
        *check.data.audit.failures(),
        *check.mistakes(),
    ]


def _findings_before_the_model(config: SweepConfig, data: Prepared) -> list[Finding]:
    clusters = {name: area["power"]["clusters"] for name, area in data.reality.items()}
    about_config = [*objective_findings(config), *template_findings(config), *tracking_findings(config)]
    return [*about_config, *metric_findings(config, clusters), *data.findings]


def _forecast(config: SweepConfig, data: Prepared, epoch: Epoch, shape: ModelShape) -> Forecast:
    speeds = {"this machine's CPUs": CPU_UTILIZATION * cpu_flops(), **DEVICES}
    return forecast(shape, _work(config, data, epoch), largest_trial(config)[0], config.model.method, speeds)


def _resolved_model(config: SweepConfig) -> Path:
    try:
        return resolve_model(config.model, MODELS_CACHE)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EROFS) or MODELS_CACHE.parts[0] not in str(error.filename):
            raise
        rule = "must be writable: base models that are made or converted are kept below the current folder"
        raise UserError(str(MODELS_CACHE.absolute()), rule, error.strerror, "start in a folder of your own") from None


def cpu_flops() -> float:
    """Measures the FLOP/s of this machine's CPUs in a float32 matrix product: the best of five."""
    matrix = np.ones((CPU_PROBE_SIZE, CPU_PROBE_SIZE), np.float32)
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        matrix @ matrix
        seconds.append(time.perf_counter() - started)
    return float(2 * CPU_PROBE_SIZE**3 / min(seconds))


def _work(config: SweepConfig, data: Prepared, epoch: Epoch) -> Work:
    trials = config.search.trials
    return Work(
        train_tokens=data.train.tokens,
        label_tokens=data.train.label_tokens,
        heldout_tokens=sum(area.tokens for area in data.areas.values()),
        checkpoints=len(epoch.checkpoints),
        longest_tokens=data.train.longest_tokens,
        trials=trials + config.replicates + config.more_data.trials + _retrained(config, data),
        kept=_kept(config),
        paused=trials - 1 if config.trials_pause else 0,
        stopped=trials - trials_to_finish(trials) if config.trials_pause else 0,
        pause_at=PAUSE_AT,
        slots=1 if config.resources.trials_per_lane == "auto" else config.resources.trials_per_lane,
    )


def _retrained(config: SweepConfig, data: Prepared) -> float:
    """Cost of training the winner once more on the selecting areas too, in whole trials."""
    if not config.winner.retrain:
        return 0.0
    heldout = sum(data.areas[name].tokens for name in config.heldout.weights)
    return 1 + heldout / max(1, data.train.tokens)


def _kept(config: SweepConfig) -> int | None:
    most = config.resources.keep_checkpoints
    return None if most == "all" else most + config.contenders


def _epochs(config: SweepConfig, samples: int) -> tuple[Epoch, Epoch, Epoch]:
    """A trial's epoch with the smallest batch of the space, with that of `training` if allowed, with the largest."""
    ends = {name: value for name, value in config.space.ends().items() if name in BATCH}
    own = centre(config)

    def epoch(params: Params) -> Epoch:
        training, _ = with_params(config.trial_training, config.model.lora, params)
        return plan_epoch(samples, training, config.resources.workers_per_lane)

    lowest, highest = ({name: value[end] for name, value in ends.items()} for end in (0, 1))
    return epoch(lowest), epoch({name: own[name] for name in ends}), epoch(highest)


def _fewest_steps(config: SweepConfig, samples: int) -> int:
    # Of the shortest epoch that the sweep trains.
    fewest = max(1, round(samples * min(SUBSET_FRACTIONS))) if config.more_data.subsets else samples
    return plan_epoch(fewest, largest_trial(config)[0], config.resources.workers_per_lane).steps


def _refuse_impossible_schedules(config: SweepConfig, steps: int) -> None:
    # At every corner of the space, so that no trial fails in the middle of the sweep.
    ends, choices = config.space.ends(), config.space.choices()
    moving = (*SCHEDULE_PARAMS, "decay_fraction", "schedule_shape")
    corners: Params = {name: values for name, values in {**ends, **choices}.items() if name in moving}
    for corner in itertools.product(*corners.values()):
        params, _ = cap_floor(dict(zip(corners, corner, strict=True)))
        training, _ = with_params(config.training, config.model.lora, params)
        make_schedule(params, training.schedule, steps)


def _seed_points(config: SweepConfig) -> list[Params]:
    if config.search.seed_points != "recommended":
        return list(config.search.seed_points)
    ends = config.space.ends()
    user = Bounds(ends["peak_lr"], ends["decay_floor"], ends["warmup_fraction"], "the space of this sweep")
    beside = centre(config)
    point = recommended_point(user, config.model.method, factor(config, beside))
    searched = (name for name, value in config.space.items().items() if isinstance(value, (Range, Choices)))
    return [point | {name: beside[name] for name in searched if name in beside}]


def _refuse_full_disk(plan: Plan, config: SweepConfig) -> None:
    # Where the folder will be: a plan may be made on another disk, and the storage path may have to be made yet.
    place = config.folder.absolute()
    free = shutil.disk_usage(next(one for one in (place, *place.parents) if one.exists())).free
    if plan.forecast.disk_bytes > free:
        raise UserError(
            "storage_path",
            "must have room for the checkpoints that are kept",
            f"{free / 1e9:.1f} GB free, {plan.forecast.disk_bytes / 1e9:.1f} GB needed",
            "free some, or lower resources.keep_checkpoints",
        )
