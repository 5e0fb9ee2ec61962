"""Records real loss curves, step by step and sample by sample, for the replays of the other benchmarks.

Every trial is one epoch of `trainables.training.loop` on a real model and data. Kept are only numbers: each sample's
loss in the step that trained on it, gradient norms, and the held-out items' losses along the epoch. Studies:

- `low`, `middle`, `high`: LR regimes, settings drawn at random, one sample order for all, so that trials are paired;
- `seeds`: a few settings, each with many seeds (order and adapter);
- `grid`: 16 peaks x 3 warm-ups x 2 floors, from far too low to diverging, each with 3 seeds;
- `planted`: one in twenty answers exchanged with another of its kind, several trials for each planting.

Two commands; a stopped recording continues:

    python -m benchmarks.recording prepare --model random:tiny-llama --train conf/data/demo/train.jsonl \\
        --heldout conf/data/demo/heldout/*.jsonl --limit 240 --heldout-limit 16 --to .cache/curves/tiny
    python -m benchmarks.recording record --data .cache/curves/tiny --method full --batch-size 4 \\
        --to benchmarks/data/curves_tiny.npz

The 135M model under four seeds at four LRs on all of the demo's held-out items (17 minutes on two cores):

    python -m benchmarks.recording prepare --model .cache/models/SmolLM2-135M-Instruct \\
        --train conf/data/demo/train.jsonl --heldout conf/data/demo/heldout/*.jsonl --limit 120 --max-tokens 256 \\
        --template $'{prompt}\\nAnswer: {response}' --to .cache/curves/135m
    python -m benchmarks.recording record --data .cache/curves/135m --batch-size 4 --studies seeds --seeds 4 \\
        --seeded-peaks 1.5e-4 3.56e-4 8.43e-4 2e-3 --points 0.25 0.5 1.0 --processes 2 \\
        --to benchmarks/data/seeds_135m.npz
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing as mp
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.recording.curves import GRID_PEAKS, PARAMS, PER_SET, REGIMES, load, save, stack, unstack
from benchmarks.recording.worker import work

SEEDED_PEAKS = np.geomspace(1e-4, 3e-3, 8)  # peak LRs of the study of seeds
GRID_WARMUPS = (0.03, 0.06, 0.10)
GRID_FLOORS = (1e-5, 4.5e-5)
PLANTED_PEAKS = (1.5e-4, 4e-4, 1e-3)  # peak LRs of each planting
STUDIES = ["middle", "high", "low", "seeds", "grid", "planted"]


@dataclass(frozen=True)
class Job:
    """One trial to record."""

    study: str
    data: str
    seed: int
    params: dict[str, float]

    @property
    def key(self) -> tuple[Any, ...]:
        return key(self.study, self.data, self.seed, [self.params[name] for name in PARAMS])


def key(study: str, data: str, seed: int, params: Any) -> tuple[Any, ...]:
    """Identity of a job and of its recorded trial."""
    return (str(study), str(data), int(seed), *(f"{value:.6g}" for value in params))


def main() -> None:
    options = parse()
    if options.command == "prepare":
        from benchmarks.recording.data import prepare

        prepare(options)
    else:
        record(options)


def parse() -> argparse.Namespace:
    text = str(__doc__)
    command = argparse.ArgumentParser(
        prog="python -m benchmarks.recording",
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parts = command.add_subparsers(dest="command", required=True)
    first = parts.add_parser(
        "prepare", help="tokenize JSON Lines", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    first.add_argument("--model", required=True, help="a Hugging Face id, a folder, or random:tiny-llama")
    first.add_argument("--train", required=True, help="the training samples")
    first.add_argument("--heldout", nargs="+", type=Path, required=True, help="a file an area, named like it")
    first.add_argument(
        "--template", help="a wrapper with {prompt} and {response}; by default the model's chat template"
    )
    first.add_argument("--limit", type=int, help="training samples, drawn at random")
    first.add_argument("--heldout-limit", type=int, help="items of an area, drawn at random")
    first.add_argument("--max-tokens", type=int, default=1024, help="longer samples are left out")
    first.add_argument("--plantings", type=int, default=0, help="training sets with exchanged answers")
    first.add_argument("--to", type=Path, required=True, help="the folder to write")

    then = parts.add_parser("record", help="train and keep", formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    then.add_argument("--data", type=Path, required=True, help="what `prepare` wrote")
    then.add_argument("--to", type=Path, required=True, help="the .npz file to write or to go on with")
    then.add_argument("--method", choices=["lora", "full"], default="lora")
    then.add_argument("--batch-size", type=int, default=8)
    then.add_argument("--trials", type=int, default=64, help="of each LR regime")
    then.add_argument("--seeds", type=int, default=12, help="of each setting of the study of seeds")
    then.add_argument("--seeded-peaks", nargs="+", type=float, default=SEEDED_PEAKS.tolist(), help="its peak LRs")
    then.add_argument("--studies", nargs="+", choices=STUDIES, default=["middle", "high", "low", "seeds"])
    then.add_argument("--seed", type=int, default=0, help="the sample order of the LR regimes")
    then.add_argument("--points", nargs="+", type=float, default=[0.125 * point for point in range(1, 9)])
    then.add_argument("--scale", type=float, default=1.0, help="factor on all peak LRs and floors")
    then.add_argument("--processes", type=int, default=1)
    then.add_argument("--slots", type=int, default=1, help="trials of a process side by side; more than 1 for a LoRA")
    then.add_argument("--seconds", type=float, default=1e9, help="no trial is started after this many")
    then.add_argument("--save-every", type=float, default=60.0, help="seconds between two writings of the file")
    return command.parse_args()


def record(options: argparse.Namespace) -> None:
    """Records trials that the file lacks, as far as the time allows."""
    trials = unstack(load(options.to)) if options.to.exists() else []
    done = {key(trial["study"], trial["data"], trial["seed"], trial["params"]) for trial in trials}
    plan = [job for job in make_jobs(options) if job.key not in done]
    print(f"{len(done)} trials recorded, {len(plan)} to go", flush=True)
    context = mp.get_context("spawn")  # a forked child can't use CUDA
    jobs, results = context.Queue(), context.Queue()
    for job in plan:
        jobs.put(asdict(job))
    arguments = (jobs, results, options, time.time() + options.seconds)
    workers = [context.Process(target=work, args=arguments, daemon=True) for _ in range(options.processes)]
    for worker in workers:
        worker.start()
    ended, saved_at, common = 0, time.monotonic(), None
    while ended < len(workers):
        found = results.get()
        if found is None:
            ended += 1
        else:
            trials.append(found["trial"])
            common = merged(common, found["common"], options.to)
        if common and (ended == len(workers) or time.monotonic() - saved_at > options.save_every):
            save(stack(trials, common), options.to)
            saved_at = time.monotonic()
            print(f"{len(trials)} trials, {options.to.stat().st_size / 1e6:.2f} MB", flush=True)


def merged(common: dict[str, Any] | None, found: dict[str, Any], file: Path) -> dict[str, Any]:
    """The arrays that trials share, with a row for each training set so far."""
    if common is None and file.exists():
        stored = load(file)
        common = {name: getattr(stored, name) for name in found}
    sets = {} if common is None else _by_set(common)
    sets |= _by_set(found)
    names = sorted(sets)
    lines = {name: np.stack([sets[data][name] for data in names]) for name in PER_SET}
    return {**found, **lines, "sets": tuple(names)}


def _by_set(common: dict[str, Any]) -> dict[str, dict[str, np.ndarray]]:
    return {data: {name: common[name][row] for name in PER_SET} for row, data in enumerate(common["sets"])}


def make_jobs(options: argparse.Namespace) -> list[Job]:
    """The trials, alternating between studies, so that a recording cut short holds as much of each."""
    lists = [study_jobs(study, options) for study in options.studies]
    return [job for row in itertools.zip_longest(*lists) for job in row if job]


def study_jobs(study: str, options: argparse.Namespace) -> list[Job]:
    if study in REGIMES:
        draw = np.random.default_rng([sum(map(ord, study)), options.seed])
        low, high = np.log(REGIMES[study])
        peaks = (float(np.exp(draw.uniform(low, high))) for _ in range(options.trials))
        return [Job(study, "train", options.seed, params(draw, peak, options.scale)) for peak in peaks]
    if study == "seeds":
        draw = np.random.default_rng(7)
        settings = [params(draw, float(peak), options.scale) for peak in options.seeded_peaks]
        return [Job(study, "train", seed, setting) for seed in range(options.seeds) for setting in settings]
    if study == "grid":
        return [Job(study, "train", seed, setting) for seed in range(3) for setting in grid(options.scale)]
    jobs = []
    for number, _ in enumerate(sorted(options.data.glob("planted-*.arrow"))):
        draw = np.random.default_rng([11, number])
        jobs += [Job(study, f"planted-{number}", number, params(draw, peak, options.scale)) for peak in PLANTED_PEAKS]
    return jobs


def params(draw: np.random.Generator, peak: float, scale: float) -> dict[str, float]:
    """Draws a setting: warm-up and floor from the recommended bounds, the floor below 0.8 of the peak."""
    floor = min(float(draw.uniform(4e-5, 5e-5)), 0.8 * peak)
    return {"peak_lr": peak * scale, "warmup_fraction": float(draw.uniform(0.03, 0.10)), "decay_floor": floor * scale}


def grid(scale: float) -> list[dict[str, float]]:
    """The dense grid's settings; at low peaks, floors are capped below 0.8 of the peak."""
    return [
        {
            "peak_lr": float(peak) * scale,
            "warmup_fraction": warmup,
            "decay_floor": min(floor, share * float(peak)) * scale,
        }
        for peak in GRID_PEAKS
        for warmup in GRID_WARMUPS
        for floor, share in zip(GRID_FLOORS, (0.4, 0.8), strict=True)
    ]


if __name__ == "__main__":
    main()
