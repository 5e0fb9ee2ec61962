"""Which processes are killed, and where: a plan that a seed repeats. PURE.

An act is one sweep with its kills. A place is a stage of `trainables.reliability.fault_injection` for a trial and a
step; who dies there is the process that reaches it, or one that the conductor kills for it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

from trainables.reliability.fault_injection import OWN, Kill

STEPS, CHECKPOINTS = 20, (5, 10, 15, 20)
"""Of every trial: 80 samples, 4 a step; so few steps that each is reported."""

SWEEP = "chaos"
NODE, NODE_BACK = "node", "node_back"
"""Targets that only the act on two nodes has: the second node dies, and comes back."""


class Act(NamedTuple):
    """One sweep and its kills.

    Attributes:
        name: Of its folder.
        trials: Trials of the sweep.
        nodes: Of a cluster that outlives the driver; 0 for one that the driver starts and that dies with it.
        wandb: Mode of W&B.
        keep: `resources.keep_checkpoints`.
        kills: In no order: each strikes when its place is reached.
    """

    name: str
    trials: int
    nodes: int
    wandb: str
    keep: str
    kills: list[Kill]


class Place(NamedTuple):
    """A kind of place.

    Attributes:
        who: What is killed there, in words.
        target: Who dies, for `Kill`.
        stage: Which stage.
        of: From a trial's id and a step, what the stage is of.
        steps: Steps to choose from; 0 where the stage has none.
    """

    who: str
    target: str
    stage: str
    of: Callable[[str, int], str] = lambda trial, _: trial
    steps: tuple[int, ...] = (0,)


ANY, STATES = tuple(range(1, STEPS + 1)), CHECKPOINTS[:-1]


def _file(name: str) -> Callable[[str, int], str]:
    return lambda trial, step: name.format(trial=trial, step=step)


WORKER = [
    Place("worker", OWN, "trial_begun"),
    Place("worker", OWN, "steps_due", steps=ANY),
    Place("worker", OWN, "steps_written", steps=ANY),
    Place("worker", OWN, "items_due", steps=CHECKPOINTS),
    Place("worker", OWN, "items_written", steps=CHECKPOINTS),
    Place("worker", OWN, "folder_unsealed", _file("{trial}/checkpoints/step-{step}"), CHECKPOINTS),
    Place("worker", OWN, "folder_sealed", _file("{trial}/checkpoints/step-{step}"), CHECKPOINTS),
    Place("worker", OWN, "checkpoint_written", steps=CHECKPOINTS),
    Place("worker", OWN, "checkpoint_reported", steps=CHECKPOINTS),
    Place("worker", OWN, "folder_unsealed", _file("{trial}/state/step-{step}"), STATES),
    Place("worker", OWN, "folder_sealed", _file("{trial}/state/step-{step}"), STATES),
    Place("worker", OWN, "state_written", steps=STATES),
    Place("worker", OWN, "file_replaced", _file("{trial}/curve.jsonl")),
    Place("worker", OWN, "end_due", steps=(STEPS,)),
    Place("worker", OWN, "end_reported", steps=(STEPS,)),
]

CONTROLLER = [
    Place("controller", "controller", "steps_written", steps=ANY),
    Place("controller", "controller", "checkpoint_written", steps=CHECKPOINTS),
    Place("controller", "controller", "state_written", steps=STATES),
    Place("controller", "controller", "end_due", steps=(STEPS,)),
    Place("controller", "controller", "trial_begun"),
]

DISPATCHER = [
    Place("dispatcher", OWN, "job_leased"),
    Place("dispatcher", OWN, "progress_taken", steps=ANY),
    Place("dispatcher", OWN, "areas_arrived", steps=CHECKPOINTS),
    Place("dispatcher", OWN, "areas_taken", steps=CHECKPOINTS),
    Place("dispatcher", OWN, "end_arrived"),
    Place("dispatcher", OWN, "end_taken"),
    Place("dispatcher", "dispatcher", "ledger_written", _file("trial_ended {trial}")),
    Place("dispatcher", "dispatcher", "steps_written", steps=ANY),
]

DRIVER = [
    Place("driver", OWN, "trial_asked"),
    Place("driver", OWN, "ledger_due", _file("trial_submitted {trial}")),
    Place("driver", OWN, "line_torn", _file("trial_submitted {trial}")),
    Place("driver", OWN, "ledger_written", _file("trial_submitted {trial}")),
    Place("driver", OWN, "ledger_due", _file("trial_ended {trial}")),
    Place("driver", OWN, "line_torn", _file("trial_ended {trial}")),
    Place("driver", OWN, "ledger_written", _file("trial_ended {trial}")),
    Place("driver", OWN, "line_torn", _file("trials.jsonl {trial}")),
    Place("driver", OWN, "trial_recorded"),
    Place("driver", OWN, "trial_telling"),
    Place("driver", OWN, "trial_told"),
    Place("driver", "driver", "steps_written", steps=ANY),
    Place("driver", "driver", "checkpoint_written", steps=CHECKPOINTS),
    Place("driver", "driver", "state_written", steps=STATES),
]

ONCE = [  # of the sweep, not of a trial
    Place("driver", OWN, "cluster_joined", _file(SWEEP)),
    Place("driver", OWN, "folder_claimed", _file(SWEEP)),
    Place("driver", OWN, "line_torn", _file("sweep_started")),
    Place("driver", OWN, "file_replaced", _file(f"{SWEEP}/baseline.json")),
    Place("driver", OWN, "study_emptied", _file(SWEEP)),
    Place("driver", OWN, "file_replaced", _file(f"{SWEEP}/trials.jsonl")),
    Place("driver", OWN, "sweep_ending", _file(SWEEP)),
    Place("driver", OWN, "file_replaced", _file(f"{SWEEP}/leaderboard.json")),
    Place("worker", OWN, "lane_joined", _file("lane-0")),
]

STARTING = [  # the driver dies while a worker starts, which lives on for a while
    Place("driver", "driver", "lane_joined", _file("lane-1")),
]

NODES = [
    Place("second node", NODE, "steps_written", steps=ANY),
    Place("second node", NODE, "checkpoint_written", steps=CHECKPOINTS),
    Place("second node", NODE, "state_written", steps=STATES),
]


RECORDED = {
    ("ledger_written", "trial_ended "),
    ("line_torn", "trials.jsonl "),
    ("trial_recorded", ""),
    ("trial_telling", ""),
    ("trial_told", ""),
}
"""Stages and what they are of, less the trial: those of the driver after a trial's end is in the ledger."""


class Draw:
    """Draws places from a seed, none twice in a sweep.

    Attributes:
        who: What each kill strikes, in words, by the kill's name.
    """

    def __init__(self, seed: int) -> None:
        self._random, self.who = random.Random(seed), dict[str, str]()
        self.free()

    def free(self) -> None:
        """Another sweep begins: every place is free again."""
        self._taken = set[tuple[str, str, int]]()

    def kills(self, prefix: str, trials: list[str], places: list[Place], count: int) -> list[Kill]:
        """So many kills at places of these kinds, each kind as often as any other, as far as that goes."""
        order = [place for _ in range(-(-count // len(places))) for place in self._random.sample(places, len(places))]
        return [self._kill(f"{prefix}-{number}", place, trials) for number, place in enumerate(order[:count], 1)]

    def _kill(self, name: str, place: Place, trials: list[str]) -> Kill:
        while True:
            trial, step = self._random.choice(trials), self._random.choice(place.steps)
            of = place.of(trial, step)
            # Once the ledger has a trial's end the rest is not gone through again: one kill there is all there can be.
            key = (
                ("recorded", trial, 0) if (place.stage, of.replace(trial, "")) in RECORDED else (place.stage, of, step)
            )
            if key not in self._taken:
                break
        self._taken.add(key)
        self.who[name] = place.who
        return Kill(name, place.target, place.stage, of, step if of == trial else None)


def displaced(prefix: str, trial: str, step: int) -> list[Kill]:
    """Between the removal of an older checkpoint of the same step and the new one's rename.

    There is an older one only where a worker was killed after it and before the state was kept.
    """
    return [
        Kill(f"{prefix}-1", OWN, "checkpoint_written", trial, step),
        Kill(f"{prefix}-2", OWN, "folder_displaced", f"{trial}/checkpoints/step-{step}"),
    ]


def ids(trials: int) -> list[str]:
    """Of the trials of a search."""
    return [f"t{number:04d}" for number in range(1, trials + 1)]


def five(seed: int) -> tuple[list[Act], dict[str, str]]:
    """One sweep on two nodes, with one kill of each kind of process; and who each kill strikes."""
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
    """A sweep on a cluster that dies with its driver, one on one node, one on two; and who each kill strikes."""
    draw, acts = Draw(seed), []
    for name, nodes, wandb, keep, once in (
        ("one", 0, "offline", "all", ONCE[:5]),
        ("two", 1, "disabled", "2", ONCE[5:]),
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
        *draw.kills("nodes-starting", names, STARTING, 1),
        *draw.kills("nodes-worker", names, WORKER, 3),
        *draw.kills("nodes-controller", names, CONTROLLER, 3),
        *draw.kills("nodes-dispatcher", names, DISPATCHER, 3),
        *draw.kills("nodes-driver", names, DRIVER, 3),
        *(kill for trial in names[::2] for kill in draw.kills(f"nodes-node-{trial}", [trial], NODES, 1)),
    ]
    backs = [_back(f"nodes-back-{trial}", trial) for trial in names[:3:2]]
    acts.append(Act("nodes", len(names), 2, "disabled", "all", [*kills, *backs]))
    return acts, draw.who


def _back(name: str, trial: str) -> Kill:
    """The second node, if it is down, comes back when this trial's end is about to be recorded.

    Before, not after: where the driver dies once the ledger has the end, no other driver gets there again.
    """
    return Kill(name, NODE_BACK, "ledger_due", f"trial_ended {trial}")
