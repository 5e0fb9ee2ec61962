"""The plan of kills, drawn from a seed: which processes are killed, and where. Pure.

An act is one sweep with its kills. A place is a point of `trainables.reliability.fault_injection`, for a trial and a
step. The process that reaches it dies there, or the conductor kills another one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tests.chaos.edits import EDITS
from trainables.reliability.fault_injection import OWN, Kill

# Of every trial: 80 samples, 4 a step; so few steps that each is reported.
STEPS, CHECKPOINTS = 20, (5, 10, 15, 20)

SWEEP = "chaos"
READER_SECONDS = 40.0  # a sweep takes longer
NODE, NODE_BACK = "node", "node_back"  # targets: the second node dies, and comes back


class Act(NamedTuple):
    """One sweep and its kills.

    Attributes:
        name: Name of its folder.
        trials: Number of trials.
        nodes: Nodes of a cluster that outlives the driver; 0 for one that the driver starts and that dies with it.
        wandb: `wandb.mode`.
        keep: `resources.keep_checkpoints`.
        kills: In no order: each strikes when its place is reached.
        edits: Names of edits, one after each death of a driver; see `tests.chaos.edits`.
        readers: Seconds after which the reader of a driver's stdout leaves, in turn; none: stdout is a file.
        lanes: `resources.lanes`, on one node.
        slots: `resources.trials_per_lane`.
    """

    name: str
    trials: int
    nodes: int
    wandb: str
    keep: str
    kills: list[Kill]
    edits: tuple[str, ...] = ()
    readers: tuple[float, ...] = ()
    lanes: int = 1
    slots: int = 1


class Place(NamedTuple):
    """A kind of place.

    Attributes:
        who: The kind of process that is killed, in words.
        target: The target of `Kill`.
        stage: The stage of `Kill`.
        of: Gives the subject of `Kill` for a trial's id and a step.
        steps: Steps to choose from; 0 where the stage has none.
    """

    who: str
    target: str
    stage: str
    of: Callable[[str, int], str]
    steps: tuple[int, ...] = (0,)


ANY, STATES = tuple(range(1, STEPS + 1)), CHECKPOINTS[:-1]


def _file(name: str) -> Callable[[str, int], str]:
    return lambda trial, step: name.format(trial=trial, step=step)


CURVE, ITEMS = _file("{trial}/curve.jsonl"), _file("{trial}/heldout.jsonl")
CHECKPOINT, STATE = _file("{trial}/checkpoints/step-{step}"), _file("{trial}/state/step-{step}")
PROGRESS, AREAS, END = _file("progress {trial}"), _file("areas {trial}"), _file("end {trial}")

WORKER = [
    Place("worker", OWN, "replace_due", CURVE),
    Place("worker", OWN, "append_due", CURVE, ANY),
    Place("worker", OWN, "append_done", CURVE, ANY),
    Place("worker", OWN, "append_due", ITEMS, CHECKPOINTS),
    Place("worker", OWN, "append_done", ITEMS, CHECKPOINTS),
    *(Place("worker", OWN, f"folder_{how}", CHECKPOINT, CHECKPOINTS) for how in ("unsealed", "sealed", "renamed")),
    *(Place("worker", OWN, f"folder_{how}", STATE, STATES) for how in ("unsealed", "sealed", "renamed")),
    Place("worker", OWN, "post_done", AREAS, CHECKPOINTS),
    Place("worker", OWN, "post_due", END),
    Place("worker", OWN, "post_done", END),
]


def _while_training(who: str, target: str) -> list[Place]:
    """Places at which a worker waits while another process is killed for it."""
    return [
        Place(who, target, "append_done", CURVE, ANY),
        Place(who, target, "folder_renamed", CHECKPOINT, CHECKPOINTS),
        Place(who, target, "folder_renamed", STATE, STATES),
    ]


CONTROLLER = [
    *_while_training("controller", "controller"),
    Place("controller", "controller", "replace_due", CURVE),
    Place("controller", "controller", "post_due", END),
]

DISPATCHER = [
    Place("dispatcher", "dispatcher", "post_due", PROGRESS, ANY),
    Place("dispatcher", "dispatcher", "post_due", AREAS, CHECKPOINTS),
    Place("dispatcher", "dispatcher", "post_done", AREAS, CHECKPOINTS),
    Place("dispatcher", "dispatcher", "post_due", END),
    Place("dispatcher", "dispatcher", "post_done", END),
    Place("dispatcher", "dispatcher", "ledger_written", _file("trial_ended {trial}")),
    Place("dispatcher", "dispatcher", "append_done", CURVE, ANY),
]

DRIVER = [
    *(
        Place("driver", OWN, stage, _file(f"{event} {{trial}}"))
        for event in ("trial_submitted", "trial_ended")
        for stage in ("ledger_due", "line_torn", "ledger_written")
    ),
    Place("driver", OWN, "line_torn", _file("trials.jsonl {trial}")),
    Place("driver", OWN, "ledger_written", _file("trials.jsonl {trial}")),
    Place("driver", "driver", "replace_due", CURVE),
    *_while_training("driver", "driver"),
]

# Of a driver with trials that run: it dies, and the next one resumes.
WHILE_RUNNING = [place for place in DRIVER if place.stage != "ledger_written" or "trials.jsonl" not in place.of("", 0)]

ONCE = [  # of the sweep, not of a trial
    Place("driver", OWN, "replace_due", _file(f"{SWEEP}/manifest.json")),
    Place("driver", OWN, "line_torn", _file("sweep_started")),
    Place("driver", OWN, "replace_due", _file(f"{SWEEP}/baseline.json")),
    Place("driver", OWN, "append_done", _file(f"{SWEEP}/study.log")),
    Place("driver", OWN, "replace_due", _file(f"{SWEEP}/trials.jsonl")),
    Place("driver", OWN, "ledger_due", _file("sweep_ended")),
    Place("driver", OWN, "replace_due", _file(f"{SWEEP}/leaderboard.json")),
]

NODES = _while_training("second node", NODE)

# Stages and subjects, without the trial, that the driver reaches after a trial's end is in the ledger.
RECORDED = ("ledger_written trial_ended ", "line_torn trials.jsonl ", "ledger_written trials.jsonl ")


class Draw:
    """Draws places from a seed, none twice in a sweep; `who` has the kind of process of each kill, by its name."""

    def __init__(self, seed: int) -> None:
        self._random, self.who = random.Random(seed), dict[str, str]()
        self.free()

    def free(self) -> None:
        """Begin another sweep, in which every place is free."""
        self._taken = set[tuple[str, str, int]]()

    def some(self, values: Sequence[str], count: int) -> tuple[str, ...]:
        """Draw values, none twice."""
        return tuple(self._random.sample(values, count))

    def seconds(self, most: float, count: int) -> tuple[float, ...]:
        """Draw times up to `most`."""
        return tuple(round(self._random.uniform(0, most), 1) for _ in range(count))

    def kills(self, prefix: str, trials: list[str], places: list[Place], count: int) -> list[Kill]:
        """Draw kills, as many of each kind of place as of any other while free places of it last."""
        found: list[Kill] = []
        while len(found) < count:
            for place in self._random.sample(places, len(places)):
                if len(found) < count and (kill := self._kill(f"{prefix}-{len(found) + 1}", place, trials)):
                    found.append(kill)
        return found

    def _kill(self, name: str, place: Place, trials: list[str]) -> Kill | None:
        drawn = {_key(place, trial, step): (trial, step) for trial in trials for step in place.steps}
        free = [key for key in drawn if key not in self._taken]
        if not free:
            return None
        key = self._random.choice(free)
        self._taken.add(key)
        self.who[name] = place.who
        trial, step = drawn[key]
        # A folder's name holds its step; other places of one trial differ by the step that is reached there.
        has_step = place.steps != (0,) and not place.stage.startswith("folder_")
        return Kill(name, place.target, place.stage, place.of(trial, step), step if has_step else None)


def _key(place: Place, trial: str, step: int) -> tuple[str, str, int]:
    of = place.of(trial, step)
    # Once the ledger has a trial's end the rest is not gone through again: one kill there is all there can be.
    is_recorded = f"{place.stage} {of}".replace(trial, "") in RECORDED
    return ("recorded", trial, 0) if is_recorded else (place.stage, of, step)


def displaced(prefix: str, trial: str, step: int) -> list[Kill]:
    """Kills between the removal of an older checkpoint of the same step and the new one's rename."""
    # There is an older one only where a worker was killed after it and before the training state was saved.
    return [
        Kill(f"{prefix}-1", OWN, "folder_renamed", CHECKPOINT(trial, step)),
        Kill(f"{prefix}-2", OWN, "folder_displaced", CHECKPOINT(trial, step)),
    ]


def ids(trials: int) -> list[str]:
    """Ids of the trials of a search."""
    return [f"t{number:04d}" for number in range(1, trials + 1)]


def five(seed: int) -> tuple[list[Act], dict[str, str]]:
    """One sweep on two nodes with a kill of each kind of process; and the kind of process of each kill."""
    draw, names = Draw(seed), ids(2)
    kills = [
        *draw.kills("worker", names[:1], WORKER, 1),
        *draw.kills("dispatcher", names[:1], DISPATCHER, 1),
        *draw.kills("node", names[:1], NODES, 1),
        *draw.kills("controller", names[1:], CONTROLLER, 1),
        *draw.kills("driver", names[1:], DRIVER, 1),
    ]
    return [Act("five", 2, 2, "disabled", "all", [*kills, _back("back", names[0])])], draw.who


def sixty(seed: int) -> tuple[list[Act], dict[str, str]]:
    """Sweeps on a cluster that dies with its driver, on one node and on two; and the kind of process of each kill."""
    draw, acts = Draw(seed), []
    for name, nodes, wandb, keep, once in (
        ("one", 0, "offline", "all", ONCE[:4]),
        ("two", 1, "disabled", "2", ONCE[4:]),
    ):
        names = ids(5)
        draw.free()
        kills = [
            *draw.kills(f"{name}-once", names[:1], once, len(once)),
            *draw.kills(f"{name}-worker", names, WORKER, 9),
            *draw.kills(f"{name}-controller", names, CONTROLLER, 3),
            *draw.kills(f"{name}-dispatcher", names, DISPATCHER, 4),
            *draw.kills(f"{name}-driver", names, DRIVER, 2),
            *displaced(f"{name}-displaced", names[-1], 10),
        ]
        draw.who.update(dict.fromkeys((f"{name}-displaced-1", f"{name}-displaced-2"), "worker"))
        acts.append(Act(name, len(names), nodes, wandb, keep, kills))
    names = ids(5)
    draw.free()
    kills = [
        *draw.kills("nodes-worker", names, WORKER, 3),
        *draw.kills("nodes-controller", names, CONTROLLER, 3),
        *draw.kills("nodes-dispatcher", names, DISPATCHER, 3),
        *draw.kills("nodes-driver", names, DRIVER, 3),
        *(kill for trial in names[::2] for kill in draw.kills(f"nodes-node-{trial}", [trial], NODES, 1)),
    ]
    backs = [_back(f"nodes-back-{trial}", trial) for trial in names[:3:2]]
    acts.append(Act("nodes", len(names), 2, "disabled", "all", [*kills, *backs]))
    names = ids(3)
    draw.free()
    kills = draw.kills("edited-driver", names, WHILE_RUNNING, 4)
    acts.append(Act("edited", len(names), 0, "disabled", "all", kills, edits=draw.some([*EDITS], len(kills))))
    draw.free()
    kills = [*draw.kills("reader-driver", names, WHILE_RUNNING, 2), *draw.kills("reader-worker", names, WORKER, 2)]
    acts.append(Act("reader", len(names), 0, "disabled", "all", kills, readers=draw.seconds(READER_SECONDS, 3)))
    return acts, draw.who


def _back(name: str, trial: str) -> Kill:
    # The second node, if it is down, comes back before this trial's end is recorded: if a driver dies after that, no
    # other driver reaches the place.
    return Kill(name, NODE_BACK, "ledger_due", f"trial_ended {trial}")
