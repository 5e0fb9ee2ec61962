"""Stands for `sweeps.run`: claims its folder, trains for a moment, and ends as a driver does.

`python fake_sweep.py CONFIG` or `--resume DIR`. The config's `objective` says how it ends: `slow` waits for SIGTERM,
`refused` exits with code 2, `dies` leaves no end, all others are complete.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path


def values(path):
    return dict(line.split(": ", 1) for line in path.read_text().splitlines() if ": " in line)


def main():
    resumed = sys.argv[1] == "--resume"
    source = Path(sys.argv[2]) / "sweep.yaml" if resumed else Path(sys.argv[1])
    config = values(source)
    folder = Path(config["storage_path"]) / config["name"]
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
    with (folder.parent / "runs.txt").open("a") as runs:
        runs.write(f"{config['name']} {'resumed' if resumed else 'began'}\n")
    if config["objective"] == "refused":
        print("error: space.peak_lr: low must be below high, got 2; swap them", file=sys.stderr)
        return 2
    if not resumed:
        draft = folder.with_name(f".{folder.name}.draft")
        draft.mkdir()
        (draft / "sweep.yaml").write_bytes(source.read_bytes())
        draft.rename(folder)

    def manifest(state, ended):
        (folder / ".manifest").write_text(json.dumps({"state": state, "ended": ended}))
        (folder / ".manifest").rename(folder / "manifest.json")

    manifest("running", None)
    time.sleep(0.05)
    if config["objective"] == "dies" and not resumed:
        os.kill(os.getpid(), signal.SIGKILL)
    while config["objective"] == "slow" and not resumed and not stopped:
        time.sleep(0.01)
    (folder / "trials.jsonl").write_text('{"trial_id": "t0001", "cost": {"device_seconds": 36}}\n')
    manifest("interrupted" if stopped else "complete", "2026-11-30T00:00:00Z")
    return 130 if stopped else 0


if __name__ == "__main__":
    sys.exit(main())
