"""A config that trains one trial again: the sweep's, with every hyper-parameter fixed."""

from __future__ import annotations

import copy

import yaml

from analysis.export.checkpoint_choice import Chosen
from analysis.records.lineage import plain_name
from analysis.records.sweep import Sweep

REPRODUCE_FILE = "reproduce.yaml"


def reproducing_config(sweep: Sweep, chosen: Chosen) -> str:
    """The config as YAML for `python -m sweeps.run`."""
    config, row = copy.deepcopy(sweep.config), chosen.row
    section = config.get("space")
    # What was searched and isn't among the trial's params did nothing in it.
    space = {name: value for name, value in (section or {}).items() if not isinstance(value, dict)}
    config |= {
        "name": f"{plain_name(sweep.name)}-{chosen.trial_id}",
        "space": {**space, **row["params"]},
        "search": {"trials": 1, "sampler": "random", "seed_points": []},
        "confirm": {"budget": 0},
    }
    if row["seed"] is not None:
        config["seed"] = row["seed"]
    config["winner"] = {"retrain": False}
    what = f"{chosen.trial_id} of the sweep {sweep.name} again"
    if chosen.retrained:  # the sweep itself would have to name its setting first
        what = f"the setting of {chosen.trial_id} of the sweep {sweep.name}, on the training samples alone"
    head = f"# Trains {what}: python -m sweeps.run {REPRODUCE_FILE}\n"
    return head + yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
