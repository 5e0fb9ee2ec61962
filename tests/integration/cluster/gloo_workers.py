"""Runs a function on two workers of one trial, as processes that talk by gloo."""

import pickle
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tests.unit.trainables.training.helpers import tokenized
from trainables.config.sections import ModelConfig
from trainables.models.base_model import load_tokenizer, resolve_model
from trainables.optim.workers import World

WORKERS = 2
SECONDS = 240


def tiny_model_and_sets(folder):
    """The path of the random tiny Llama, with a training and a held-out set of its tokens in the folder."""
    path = resolve_model(ModelConfig(name="random:tiny-llama"), folder / "cache")
    for samples, seed in ((43, 0), (9, 1)):
        tokenized(folder, load_tokenizer(path), samples, seed)
    return path


def on_two_workers(folder, function, *args, meanwhile=lambda: None):
    """What `function(world, *args)` returns on each worker, and what `meanwhile()` returns here."""
    context = mp.spawn(_worker, args=(str(folder), function, args), nprocs=WORKERS, join=False)
    try:
        here = meanwhile()
        deadline = time.monotonic() + SECONDS
        while not (finished := context.join(timeout=5, grace_period=5)) and time.monotonic() < deadline:
            pass
    finally:
        for process in context.processes:
            process.kill()
    assert finished, f"the workers did not finish within {SECONDS} seconds"
    return [pickle.loads(Path(folder, f"rank-{rank}.pickle").read_bytes()) for rank in range(WORKERS)], here


def _worker(rank, folder, function, args):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=WORKERS)
    results = function(World(rank, WORKERS), *args)
    Path(folder, f"rank-{rank}.pickle").write_bytes(pickle.dumps(results))
    dist.destroy_process_group()
