"""Facts on the base model, found beside the audit of the data and kept for the next plan."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from importlib.metadata import version
from pathlib import Path

from sweeps.config.sweep_config import SweepConfig
from trainables.config.hyperparameters import as_value, with_params
from trainables.config.sections import LoraConfig
from trainables.errors import UserError
from trainables.models.meta_model import RULES, AdapterFacts, ModelFacts, inspect_model
from trainables.storage.atomic import write_whole

# Imports make a million objects that stay: without the garbage collector they take a seventh less time.
CHILD = "import gc; gc.disable(); from trainables.models.meta_model import answer; answer()"


def adapters(config: SweepConfig) -> list[LoraConfig]:
    """The adapters of the sweep: one for each choice of target modules, of the highest rank and dropout."""
    if config.model.method == "full":
        return []
    high = {name: ends[1] for name, ends in config.space.ends().items() if name in ("lora_r", "lora_dropout")}
    choices = config.space.choices().get("target_modules", (as_value(config.model.lora.target_modules),))
    both = (with_params(config.training, config.model.lora, {**high, "target_modules": choice}) for choice in choices)
    return [lora for _, lora in both]


@contextmanager
def inspection(path: Path, config: SweepConfig, cache: Path) -> Iterator[Callable[[], ModelFacts]]:
    """Inspects the model while the caller does other things.

    Args:
        path: The model's folder.
        config: The sweep.
        cache: Folder of facts that are known from an earlier plan.

    Yields:
        A function that waits for the facts; it raises as `inspect_model` does.
    """
    arguments = (path, config.model, adapters(config))
    kept = cache / f"facts-{_key(path, config)}.json"
    if kept.is_file():
        facts = _read(kept)
        yield lambda: facts
    elif "torch" in sys.modules:
        yield lambda: _keep(inspect_model(*arguments), kept, config)
    else:
        # torch and transformers take seconds to import, and a GiB of memory that the driver does not need.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-c", CHILD]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as child:
            try:
                assert child.stdin is not None
                child.stdin.write(pickle.dumps(arguments))
                child.stdin.close()
                yield lambda: _keep(_answer(child), kept, config)
            finally:
                child.kill()


def _answer(child: subprocess.Popen[bytes]) -> ModelFacts:
    assert child.stdout is not None
    written = child.stdout.read()
    if child.wait() != 0:
        remedy = "free memory, or look for an error above"
        raise UserError("model.name", "must be inspected to the end", f"exit {child.returncode}", remedy)
    found = pickle.loads(written)  # from our own process
    if isinstance(found, UserError):
        raise found
    assert isinstance(found, ModelFacts)
    return found


def _key(path: Path, config: SweepConfig) -> str:
    loras = [lora.model_dump() for lora in adapters(config)]
    shape = [field.name for kind in (ModelFacts, AdapterFacts) for field in fields(kind)]  # of another version
    parts = [RULES, shape, (path / "config.json").read_text(encoding="utf-8"), loras]
    known = [*parts, *(version(name) for name in ("transformers", "peft"))]
    return hashlib.sha256(repr(known).encode()).hexdigest()[:16]


def _keep(facts: ModelFacts, file: Path, config: SweepConfig) -> ModelFacts:
    if not config.model.trust_remote_code:  # whose answer may change with the code
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps(asdict(facts)))
    return facts


def _read(file: Path) -> ModelFacts:
    found = json.loads(file.read_text(encoding="utf-8"))
    return ModelFacts(**{**found, "adapters": [AdapterFacts(**adapter) for adapter in found["adapters"]]})
