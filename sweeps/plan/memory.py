"""Whether a trial fits into a device's memory, by a run of its own code on tensors without data.

The run is a process of its own (`trainables.training.memory_run`), so that a plan loads no torch. Its result is cached
by the shape of the model and of the work.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps.config.errors import suggestion
from sweeps.config.sweep_config import SweepConfig
from trainables.config.hyperparameters import with_params
from trainables.config.memory_request import MemoryRequest
from trainables.config.sections import LoraConfig, TrainingConfig
from trainables.errors import UserError
from trainables.project import PROJECT_ROOT
from trainables.storage.atomic import write_whole

if TYPE_CHECKING:
    from sweeps.plan.plan import Plan

GIB = 1 << 30
# GiB that torch reports as the total memory of cards with bf16, rounded down; fewer than a name's GB.
CARDS_GIB = {
    "l4": 22.0,
    "a10g": 22.0,
    "rtx4090": 23.5,
    "a100-40gb": 39.0,
    "l40s": 44.0,
    "a100-80gb": 79.0,
    "h100": 79.0,
    "h200": 139.0,
}
# Ray's names of them, in `accelerator_type:NAME` (ray.util.accelerators). "A100" does not say which: the larger one, so
# that nothing is refused that fits.
CARDS_OF_RAY = {
    "L4": "l4",
    "A10G": "a10g",
    "A100-40G": "a100-40gb",
    "L40S": "l40s",
    "A100-80G": "a100-80gb",
    "A100": "a100-80gb",
    "H100": "h100",
    "H200": "h200",
}
# What no run without data sees, ours: the CUDA context and kernels' workspaces; and what the allocator rounds up.
CONTEXT_BYTES = int(1.5 * GIB)
FRAGMENTED = 0.05
CACHE = Path(".cache") / "memory"
NAMES = {"name", "revision"}  # of a model, which do not change its shape
SIZES = ("lora_r", "batch_size", "gradient_accumulation")  # searched values that memory depends on
MANY_WORKERS = 8  # as many cards as a node usually has
RECIPE = 1  # part of the cache's key; count up when a code change alters what a trial needs


@dataclass(frozen=True)
class Fit:
    """How a trial fits into a device.

    Attributes:
        device: The device as the user names it.
        usable_bytes: Its memory without the margin.
        needed_bytes: Peak with whole batches, all of the longest sample.
        samples: Samples of the longest kind that go through the model at once; 0 where not even one fits.
        batch_size: Samples of a whole batch.
    """

    device: str
    usable_bytes: int
    needed_bytes: int
    samples: int
    batch_size: int


def hold_against(config: SweepConfig, plan: Plan, device: str, where: str = "--device", *, margin: bool = True) -> None:
    """Compare a plan with a device: sets `plan.fit`, and adds to `plan.failures` what does not fit.

    Args:
        config: The sweep.
        plan: Its pre-flight.
        device: A name of `CARDS_GIB`, or a number of GiB.
        where: What named the device, for the errors.
        margin: Leave room for what a run without data doesn't see; without, only what can't fit at all is refused.

    Raises:
        UserError: The device is unknown, or the model's code can't run without data.
    """
    usable_bytes(device)  # a wrong name is found before anything is run
    request = make_request(config, plan)
    plan.fit = fit(request, device, margin=margin)
    plan.forecast = replace(plan.forecast, memory_bytes=plan.fit.needed_bytes)
    plan.failures += [error for error in [refusal(request, plan.fit, where)] if error]


def smallest_card(accelerators: Collection[str]) -> str | None:
    """The card with the least memory among a cluster's, as a name of `CARDS_GIB`; None where none is known here.

    Args:
        accelerators: Ray's names of the cluster's accelerator types.
    """
    exact = {name.partition("-")[0] for name in accelerators if "-" in name}  # Ray gives "A100" and "A100-40G"
    known = [CARDS_OF_RAY[name] for name in accelerators if name in CARDS_OF_RAY and name not in exact]
    return min(known, key=CARDS_GIB.__getitem__, default=None)


def usable_bytes(device: str, *, margin: bool = True) -> int:
    """Memory of a device that a trial may use.

    Args:
        device: A name of `CARDS_GIB`, or a number of GiB.
        margin: Leave room for what a run without data doesn't see.

    Raises:
        UserError: It is neither.
    """
    name = device.lower()
    try:
        gib = CARDS_GIB[name] if name in CARDS_GIB else float(name.removesuffix("gib"))
    except ValueError:
        rule = "must be the name of a card or its memory in GiB"
        raise UserError("--device", rule, device, suggestion(name, list(CARDS_GIB))) from None
    usable = int(gib * GIB * (1.0 - FRAGMENTED)) - CONTEXT_BYTES if gib < float("inf") else 0
    if not margin:
        return int(gib * GIB)
    if usable <= 0:
        raise UserError("--device", f"must have more than {CONTEXT_BYTES / GIB:g} GiB", device, "name a larger one")
    return usable


def largest_trial(config: SweepConfig) -> tuple[TrainingConfig, LoraConfig]:
    """The sections of the trial of a sweep that needs most memory and has the fewest steps."""
    high = {name: ends[1] for name, ends in config.space.ends().items() if name in SIZES}
    return with_params(config.training, config.model.lora, high)


def make_request(config: SweepConfig, plan: Plan) -> MemoryRequest:
    """What the largest trial of a sweep asks of a device."""
    training, lora = largest_trial(config)
    train, areas, heldout = plan.train, plan.areas, config.heldout
    longest_item = max(area.longest_tokens for area in areas.values())
    slots, limit = config.resources.trials_per_lane, training.micro_batch_tokens
    samples = (
        training.batch_size if limit == "auto" else max(1, min(training.batch_size, limit // train.longest_tokens))
    )
    return MemoryRequest(
        model_path=plan.model_path,
        model=config.model.model_copy(update={"lora": lora}),
        training=training,
        precision="fp32" if training.precision == "fp32" else "bf16",  # "auto" is bf16 on all of these cards
        workers=config.resources.workers_per_lane if config.resources.shards(config.model.method) else 1,
        slots=1 if slots == "auto" else slots,  # a lane that measures takes no more than fit
        samples=samples,
        sample_tokens=max(2, train.longest_tokens),
        label_share=max(train.label_tokens, 1) / train.tokens,
        scored_tokens=max(heldout.batch_tokens, longest_item),
        prompts=heldout.answer_batch_size if heldout.answers_at else 0,
        prompt_tokens=longest_item,
        answer_tokens=max(area.max_new_tokens for area in heldout.areas.values()),
    )


def needed_bytes(request: MemoryRequest) -> int:
    """Peak memory of a trial, without the margin for what no such run sees; seconds, or cached.

    Raises:
        UserError: The model's code can't run without data.
    """
    shape = (Path(request.model_path) / "config.json").read_text(encoding="utf-8")
    asked = request.model_dump(exclude={"model_path", "training"}) | {"model": request.model.model_dump(exclude=NAMES)}
    asked |= {"recomputes": request.training.gradient_checkpointing, "optimizer": request.training.optimizer}
    parts = [RECIPE, version("torch"), version("transformers"), version("peft"), shape, asked]
    file = CACHE / f"{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]}.json"
    if file.is_file():
        return max(json.loads(file.read_text(encoding="utf-8"))["peak_bytes"].values())
    command = [sys.executable, "-m", "trainables.training.memory_run"]
    path = os.pathsep.join([str(PROJECT_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        command,
        input=request.model_dump_json(),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        rule = "the model's memory must be known, but its code does not run without data"
        raise UserError("--device", rule, said[:200], "plan without --device, and try one trial on the card")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, done.stdout.splitlines()[-1] + "\n")
    return needed_bytes(request)


def fit(request: MemoryRequest, device: str, *, margin: bool = True) -> Fit:
    """How a trial fits into a device; smaller micro-batches count where the config leaves their size open."""
    usable, whole = usable_bytes(device, margin=margin), needed_bytes(request)
    samples = request.samples if whole <= usable else 0
    if not samples and request.splits and request.samples > 1:
        one = needed_bytes(_with(request, samples=1))
        if one <= usable:
            # The peak is the highest of several sums that grow with the samples: between two of its points it lies
            # below their chord.
            samples = 1 + int((request.samples - 1) * (usable - one) / (whole - one))
    return Fit(device, usable, whole, samples, request.training.batch_size)


def refusal(request: MemoryRequest, found: Fit, where: str = "--device") -> UserError | None:
    """Why a trial can't run on a device, with a remedy that was tried; None if it can. `where` named the device."""
    if found.samples:
        return None
    asked = _least(request)
    needed = needed_bytes(asked)
    what = f"{asked.samples} samples of" if asked.samples > 1 else "a sample of"
    rule = f"{what} {request.sample_tokens} tokens must fit into the memory of {found.device}"
    got = f"{needed / GIB:.1f} GiB needed, {found.usable_bytes / GIB:.1f} GiB usable"
    return UserError(where, rule, got, remedy(request, found.usable_bytes))


def remedy(request: MemoryRequest, usable: int) -> str:
    """The cheapest change of the config that makes a trial fit into so many bytes, or a card that it fits."""
    tried = [(words, needed_bytes(_least(changed))) for words, changed in _remedies(request)]
    for words, need in tried:
        if need <= usable:
            return f"set {words} ({need / GIB:.1f} GiB)"
    words, least = min([("", needed_bytes(_least(request))), *tried], key=lambda pair: pair[1])
    cards = [name for name in CARDS_GIB if usable_bytes(name) >= least]
    card = f"name a card with more memory, such as {cards[0]}" if cards else "no card that is known here holds it"
    return f"{card}{f', and set {words}' if words else ''} ({least / GIB:.1f} GiB)"


def _remedies(request: MemoryRequest) -> Iterator[tuple[str, MemoryRequest]]:
    """Changes of the config that save memory, the one that costs least first."""
    fewer = _with(request, slots=1)
    frugal = {"gradient_checkpointing": True}
    each = {"micro_batch_tokens": request.sample_tokens}
    one_by_one = f"training.micro_batch_tokens={request.sample_tokens}"
    if request.workers > 1 and request.samples > 1:
        yield one_by_one, _with_training(_with(request, samples=1), **each)
    elif not request.splits and request.samples > 1:
        yield "training.micro_batch_tokens=auto", _with_training(request, micro_batch_tokens="auto")
    if request.slots > 1:
        yield "resources.trials_per_lane=1", fewer
    if not request.training.gradient_checkpointing:
        yield "training.gradient_checkpointing=true", _with_training(request, **frugal)
        if request.slots > 1:
            both = "resources.trials_per_lane=1 training.gradient_checkpointing=true"
            yield both, _with_training(fewer, **frugal)
    if request.model.method == "lora" and not request.model.quantize:
        # Where this is the only change that helps, it is worth what it costs: other weights than the model's own.
        small = _with(request, model=request.model.model_copy(update={"quantize": "nf4"}))
        yield "model.quantize=nf4", small
        yield "model.quantize=nf4 training.gradient_checkpointing=true", _with_training(_with(small, slots=1), **frugal)
    if request.model.method == "full":
        adapters = _with(request, model=request.model.model_copy(update={"method": "lora"}))
        yield "model.method=lora, with its space of LRs,", adapters
        yield (
            "model.method=lora, with its space of LRs, and training.gradient_checkpointing=true",
            _with_training(adapters, **frugal),
        )
    if request.workers < MANY_WORKERS and not request.model.quantize:
        shared = "" if request.model.method == "full" else "resources.shard=true "
        words = f"{shared}resources.workers_per_lane={MANY_WORKERS}, a factor of the batch, {one_by_one}"
        many = _with_training(_with(request, workers=MANY_WORKERS, slots=1, samples=1), **each)
        yield words, many
        yield f"{words} training.gradient_checkpointing=true", _with_training(many, **frugal)


def _least(request: MemoryRequest) -> MemoryRequest:
    return _with(request, samples=1) if request.splits else request


def _with(request: MemoryRequest, **changes: Any) -> MemoryRequest:
    return request.model_copy(update=changes)


def _with_training(request: MemoryRequest, **changes: Any) -> MemoryRequest:
    return _with(request, training=request.training.model_copy(update=changes))
