"""`make gpu`, dry: on CPUs, and without what a machine with a GPU may lack."""

import json
import subprocess
import sys

import pytest

from benchmarks.gpu.tables import markdown

# A machine with torch, transformers and PEFT has none of these.
ABSENT = "ray wandb omegaconf optuna fastapi uvicorn ftfy gguf greenlet obstore plotly rensa datasets bitsandbytes"
START = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({ABSENT!r}.split()))
sys.argv[0] = "benchmarks.gpu"
runpy.run_module("benchmarks.gpu", run_name="__main__")
"""


def dry(folder, *parts):
    out = folder / "gpu.json"
    command = [sys.executable, "-c", START, "--dry", "--out", str(out), "--parts", *parts]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert out.with_suffix(".md").read_text("utf-8") in done.stdout
    return json.loads(out.read_text("utf-8"))


def test_a_dry_run_without_ray_or_bitsandbytes(tmp_path):
    result = dry(tmp_path, "checks", "speed")
    assert result["versions"]["ray"] is None
    held = {name: found["held"] for name, found in result["checks"].items()}
    gpu_only = {name: held.pop(name) for name in ("kernel, lora", "kernel, full", "waits, lora", "short_memory, lora")}
    assert set(gpu_only.values()) == {None}
    assert held.pop("nf4, lora") is None
    assert held.pop("bf16, lora") in (True, None)  # CPUs without AMX have no bf16
    assert held == {"flat_rows, lora": True, "neighbors, lora": True, "packed, lora": True}
    (cell,) = result["speed"]
    assert cell["sides"].keys() == {"trainer", "solo", "packed 2"}


@pytest.mark.slow
def test_the_other_parts_dry(tmp_path):
    result = dry(tmp_path, "memory", "stalls", "ranks", "more")
    assert result["checks"]["two ranks"]["held"]
    assert [found["method"] for found in result["stalls"]] == ["lora", "full"]
    assert result["memory"][0]["forecast_gib"] > 0.0
    assert result["speed"][0]["sides"].keys() == {"trainer", "solo"}


def test_the_tables_tell_what_failed_and_what_was_left_out():
    peak = {"trial": "0.5B", "forecast_gib": 4.0}
    seen = {"measured_gib": 4.2, "measured_over_forecast": 1.05, "reserved_gib": 4.5, "beside_the_allocator_gib": 0.5}
    text = markdown(
        {
            "device": "1 x H200",
            "date": "2026-11-30",
            "versions": {"torch": "2.11.0", "ray": None},
            "checks": {
                "packed": {"held": False, "first_gap": 0.12345},
                "nf4": {"held": None, "why": "bitsandbytes is not installed"},
            },
            "speed": [],
            "stalls": [],
            "memory": [{**peak, **seen}, {**peak, "measured": "out of memory"}],
            "left_out": {"two ranks": "there was no time"},
        }
    )
    lines = text.splitlines()
    assert lines[0] == "1 x H200, 2026-11-30: torch 2.11.0."
    assert "| packed | FAILS | first_gap 0.123 |" in lines
    assert "| nf4 | left out | why bitsandbytes is not installed |" in lines
    assert "| 0.5B | 4.0 | 4.2 | 1.05 | 4.5 | 0.5 |" in lines
    assert "| 0.5B | 4.0 | out of memory |  |  |  |" in lines
    assert lines[-1] == "Left out: two ranks, because there was no time."
