"""Stands for `sweeps.run CONFIG --plan`: refuses a bad range as the command line does, else writes the plan."""

import json
import sys
import time
from pathlib import Path


def main():
    config = Path(sys.argv[1])
    values = dict(
        line.split(": ", 1) for line in config.read_text().splitlines() if line[:1].isalpha() and ": " in line
    )
    folder = Path(values["storage_path"]) / values["name"]
    time.sleep(0.05)
    with (config.parents[3] / "plans.txt").open("a") as plans:
        plans.write(values["name"] + "\n")
    if values["seed"] == "666":
        print(f"error: {folder}/train.jsonl: data file must exist, got nothing; correct the path", file=sys.stderr)
        return 2
    folder.mkdir()
    plan = {"findings": [{"severity": "info", "message": "fine"}], "forecast": {"sweep_flops": 1.0}}
    (folder / "plan.json").write_text(json.dumps(plan))
    print("the plan")
    return 0


if __name__ == "__main__":
    sys.exit(main())
