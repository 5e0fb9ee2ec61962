"""What tests of several packages of `sweeps` build on."""

SMALL = {
    "name": "small",
    "objective": "Answer.",
    "model": {"name": "some/model"},
    "data": {"train": "train.jsonl"},
    "heldout": {"areas": {"home": "home.jsonl"}},
    "space": {
        "peak_lr": {"low": 5e-5, "high": 1e-3, "log": True},
        "warmup_fraction": {"low": 0.03, "high": 0.1},
        "decay_floor": 4e-5,
    },
}
