"""A real sweep by the real command, once for all tests that look at what it leaves behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from trainables.models.tiny_llama import byte_tokenizer

ROOT = Path(__file__).resolve().parents[2]
HUNG_SECONDS = 800  # no statement on speed: on a loaded machine a sweep of one minute took five


def command(*arguments):
    return [sys.executable, "-m", "sweeps.run", *map(str, arguments)]


def environment(**more):
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    return {**quiet, "OMP_NUM_THREADS": "1", **more}


def run_sweep(*arguments, **more):
    return subprocess.run(
        command(*arguments),
        cwd=ROOT,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=HUNG_SECONDS,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def random_llama(folder, hidden, inner, layers, heads=4):
    """Saves random weights of a size at which a step takes longer than a message; returns the folder."""
    tokenizer = byte_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=heads,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """The folder of a finished smoke sweep, and what the command printed."""
    storage = tmp_path_factory.mktemp("smoke")
    done = run_sweep("conf/smoke.yaml", f"storage_path={storage}", "search.trials=3", "space.max_grad_norm=0.5")
    assert done.returncode == 0, done.stderr + done.stdout
    return storage / "smoke", done
