"""Writes a whole sweep's folder, as the command leaves it, with synthetic losses: for pages and terminals to show.

Config, plan (with the audit), ledger, trials, study and manifest are written by the sweep's own code; findings are the
diagnostics' own, on the synthetic curves. Only the losses are made up, from a bowl over the peak LR with noise.
"""

from __future__ import annotations

import json
import math
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from analysis.suspects.find import read_texts
from sweeps.config.sweep_config import SweepConfig, dump_config, load_config
from sweeps.driver.recorder import trial_record
from sweeps.folder.identity import identify
from sweeps.folder.manifest import Manifest, describe
from sweeps.ledger.ledger import Ledger, append_line
from sweeps.plan.plan import Plan, make_plan
from sweeps.search.tell import as_trials
from trainables.config.trial_spec import TrialSpec
from trainables.diagnostics import CurveMonitor
from trainables.evaluation.objective import objective
from trainables.lane.trial_files import json_line
from trainables.optim.lr_schedule import cap_floor, make_schedule
from trainables.storage.layout import CACHE_FOLDER, SWEEP_FILE, TRAIN_FILE

ROOT = Path(__file__).resolve().parents[3]
CHECKPOINTS = (0.5, 1.0)
AREAS = tuple(yaml.safe_load((ROOT / "conf" / "demo.yaml").read_text())["heldout"]["areas"])
CUT_ABOVE = 4.5  # nats a token: the base model's answers to items with a higher loss are cut
EVIL = "</script><img src=x onerror=alert(1)>"

Scores = dict[str, np.ndarray]


@dataclass(frozen=True)
class Truth:
    """What is planted."""

    best_peak_lr: float = 4e-4  # the peak LR with the greatest gain
    diverges_above: float = 1.5e-3  # the one above which trials diverge
    flat: bool = False  # the peak LR makes no difference
    falls_to_the_end: bool = False  # losses fall faster and faster until the epoch ends


def write_synthetic_sweep(
    storage: Path,
    trials: int,
    name: str = "synthetic",
    items: int = 24,
    seed: int = 0,
    truth: Truth = Truth(),
    batch_size: int = 8,
    parent: str | None = None,
) -> Path:
    """Writes `<storage>/<name>` and returns it.

    `trials` counts diverged and pruned ones too; an epoch has 208 steps at a batch size of 1, 26 at 8.
    """
    config = _config(storage, trials, name, items, batch_size)
    config.folder.mkdir(parents=True)
    plan = make_plan(config, config.folder)
    plan.write(config.folder)
    if parent:
        config = config.model_copy(update={"parent": parent})
    (config.folder / "sweep.yaml").write_text(dump_config(config))
    identity = identify(config, Ledger(config.folder))
    manifest = Manifest(config.folder, {**identity, **describe(config, plan.model_path, {"gpus": 0})})
    writer = _Writer(config, plan, np.random.default_rng(seed), truth)
    writer.baseline()
    for number in range(1, trials + 1):
        writer.trial(number)
    writer.study()
    writer.ledger.append("sweep_ended", state="complete", device_hours=0.02 * trials)
    manifest.state = "complete"
    manifest.write(ended="2026-11-23T12:00:00Z")
    return config.folder


def _config(storage: Path, trials: int, name: str, items: int, batch_size: int) -> SweepConfig:
    limits = [f"heldout.areas.{area}.limit={items}" for area in AREAS]
    return load_config(
        ROOT / "conf" / "demo.yaml",
        [
            *(f"name={name}", f"storage_path={storage}", "model.name=random:tiny-llama", "data.max_tokens=1024"),
            "data.limit=208",
            *(f"data.train={ROOT / 'conf/data/demo/train.jsonl'}", "training.checkpoints_at=[0.5,1.0]"),
            *(f"heldout.areas.{area}.path={ROOT / 'conf/data/demo/heldout' / area}.jsonl" for area in AREAS),
            *(
                f"training.batch_size={batch_size}",
                f"search.trials={trials}",
                "space.lora_r={low: 4, high: 32, log: true}",
                *limits,
            ),
            "objective='Answer questions on small financial tables </script><img src=x onerror=alert(1)>'",
        ],
    )


class _Writer:
    def __init__(self, config: SweepConfig, plan: Plan, rng: np.random.Generator, truth: Truth) -> None:
        self.config, self.plan, self.rng, self.truth = config, plan, rng, truth
        self.folder, self.ledger = config.folder, Ledger(config.folder)
        self.base = {area: rng.gamma(6.0, 0.45, plan.areas[area].samples) for area in config.heldout.areas}
        self.sample_base = rng.gamma(6.0, 0.45, plan.train.samples)
        texts = read_texts(self.folder / CACHE_FOLDER / TRAIN_FILE)
        self.sample_ids = list(texts)
        self.records: list[dict[str, Any]] = []
        self.summaries: dict[str, dict[str, Any]] = {}

    def baseline(self) -> None:
        self.summaries = self._items("baseline", 0, self.base)
        (self.folder / "baseline.json").write_text(json.dumps({"areas": self.summaries}))
        self.ledger.append("baseline", areas=self.summaries)

    def trial(self, number: int) -> None:
        params, drawn = cap_floor(self._draw(number))
        spec = TrialSpec(trial_id=f"t{number:04d}", seed=0, params=params, drawn=drawn)
        gain = self._gain(params["peak_lr"])
        state = "pruned" if number > 3 and gain < 0.75 and number % 3 == 0 else "complete"
        steps = self.plan.steps // 2 if state == "pruned" else self.plan.steps
        findings, done = self._curve(spec, steps, gain)
        state = "diverged" if any(finding["severity"] == "error" for finding in findings) else state
        end = {
            "state": state,
            "steps": done,
            "steps_planned": self.plan.steps,
            "samples_seen": done * self.plan.samples_per_step,
            "checkpoints": self._checkpoints(spec, done, gain) if state != "diverged" else [],
            "findings": findings,
            "cost": {"device_seconds": 2.0 * done, "wall_seconds": 2.1 * done, "evaluation_seconds": 0.5 * done},
        }
        record = trial_record({"work": {"spec": spec.model_dump()}, "attempt": 1, "end": end})
        record["predicted"] = objective(self.summaries, self.config.heldout.weights) - gain if steps != done else None
        self.ledger.append("trial_ended", trial=record, device_hours=0.02 * number)
        append_line(self.folder / "trials.jsonl", json_line(record), threading.Lock(), "trials.jsonl")
        self.records.append(record)

    def study(self) -> None:
        storage = JournalStorage(JournalFileBackend(str(self.folder / "study.log")))
        study = optuna.create_study(storage=storage, study_name=self.config.name)
        study.add_trials(as_trials(self.records, self.config, objective(self.summaries, self.config.heldout.weights)))

    def _draw(self, number: int) -> dict[str, float]:
        draw = self.rng.uniform
        if number == 1:
            return {"peak_lr": 3e-4, "warmup_fraction": 0.05, "decay_floor": 4.5e-5, "lora_r": 16}
        return {
            "peak_lr": float(math.exp(draw(math.log(5e-5), math.log(2e-3)))),
            "warmup_fraction": float(draw(0.03, 0.10)),
            "decay_floor": float(draw(4e-5, 5e-5)),
            "lora_r": int(2 ** draw(2, 5)),
        }

    def _gain(self, peak_lr: float) -> float:
        """A bell over the peak LR, as wide as a factor of four; seeds differ by 0.012 nats."""
        distance = 0.0 if self.truth.flat else math.log(peak_lr / self.truth.best_peak_lr) / math.log(4.0)
        return 1.2 * math.exp(-0.5 * distance**2) + float(self.rng.normal(0, 0.012))

    def _curve(self, spec: TrialSpec, steps: int, gain: float) -> tuple[list[Any], int]:
        schedule = make_schedule(spec.params, self.config.training.schedule, self.plan.steps)
        watch = CurveMonitor(schedule, 1.0, float(self.sample_base.mean()))
        diverges, findings, lines = spec.params["peak_lr"] > self.truth.diverges_above, [], []
        size = self.plan.samples_per_step
        for step in range(1, steps + 1):
            members = np.arange((step - 1) * size, min(step * size, len(self.sample_base)))
            done = step / self.plan.steps
            won = 1.3 * gain * (done**4 if self.truth.falls_to_the_end else 1 - math.exp(-6 * done))
            nll = np.maximum(0.01, self.sample_base[members] - won + self.rng.normal(0, 0.3, len(members)))
            if diverges and step > self.plan.steps // 3:
                nll = self.sample_base[members] + 0.8 * (step - self.plan.steps // 3)
            base, norm = self.sample_base[members], float(self.rng.gamma(4, 0.5))
            loss = float(nll.mean())
            findings += watch.update(step, loss, norm, schedule.lr(step - 1), nll.tolist(), base.tolist())
            record = {"step": step, "lr": schedule.lr(step - 1), "loss": loss, "base_loss": float(base.mean())}
            record |= {"grad_norm": norm, "clipped": norm > 1, "tokens": 5 * len(members)}
            record |= {"ids": [self.sample_ids[i] for i in members], "item_nll": nll.tolist()}
            lines.append(json_line({**record, "item_tokens": [5] * len(members), "item_base_nll": base.tolist()}))
            if any(finding["severity"] == "error" for finding in findings):
                break
        place = self.folder / "trials" / spec.trial_id
        place.mkdir(parents=True)
        (place / "curve.jsonl").write_text("".join(lines))
        ends = [*range(5, len(lines), 5), len(lines)]
        speed = [{"step": end, "tokens": 1000, "seconds": 2.0 + end / 100} for end in ends]
        (place / "speed.jsonl").write_text("".join(map(json_line, speed)))
        return [dict(finding) for finding in findings], len(lines)

    def _checkpoints(self, spec: TrialSpec, done: int, gain: float) -> list[dict[str, Any]]:
        found = []
        for share in CHECKPOINTS:
            step = round(share * self.plan.steps)
            if step <= done:
                part = gain * (0.8 if share < 1 else 1.0)
                scores = {
                    area: np.maximum(0.01, base - part * (0.6 + 0.2 * place) + self.rng.normal(0, 0.27, len(base)))
                    for place, (area, base) in enumerate(self.base.items())
                }
                path = f"trials/{spec.trial_id}/checkpoints/step-{step}"
                found.append({"step": step, "path": path, "areas": self._items(spec.trial_id, step, scores)})
        return found

    def _items(self, name: str, step: int, scores: Scores) -> dict[str, dict[str, Any]]:
        """Writes items and returns their summaries; answers are there for the base model and at the end."""
        path = self.folder / "trials" / name / "heldout.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        answered = step in (0, self.plan.steps)
        summaries = {}
        with path.open("a", encoding="utf-8") as file:
            for area, values in scores.items():
                right = (values < 1.2).astype(float)
                ids = _ids(Path(self.plan.areas[area].path), len(values))
                for (one, group), nll, hit in zip(ids, values.tolist(), right.tolist(), strict=True):
                    record = {"step": step, "area": area, "id": one, "nll": nll, "tokens": 5}
                    if answered:
                        record |= {"answer": f"answer {EVIL}", "exact_match": hit, "token_f1": hit}
                        record["cut"] = step == 0 and nll > CUT_ABOVE
                    file.write(json_line({**record, "group": group}))
                figures = {"exact_match": float(right.mean()), "token_f1": float(right.mean())}
                figures["cut_answers"] = int(step == 0) * int((values > CUT_ABOVE).sum())
                none = {"exact_match": None, "token_f1": None, "cut_answers": None}
                summaries[area] = {"nll": float(values.mean()), **(figures if answered else none), "items": len(values)}
        return summaries


def _ids(path: Path, count: int) -> list[tuple[str, str]]:
    lines = path.read_text(encoding="utf-8").splitlines()[:count]
    return [(item["id"], item.get("group", item["id"])) for item in map(json.loads, lines)]


def state_seed_sd(folder: Path, seed_sd: float) -> None:
    """Writes the spread between seeds into the sweep's config."""
    config = yaml.safe_load((folder / SWEEP_FILE).read_text())
    config["confirm"]["seed_sd"] = seed_sd
    (folder / SWEEP_FILE).write_text(yaml.safe_dump(config))
