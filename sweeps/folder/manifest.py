"""The manifest: versions, hashes and hardware, for repeating a sweep or trusting it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sweeps.config.sweep_config import SweepConfig
from sweeps.ledger.history import ended_trials
from sweeps.ledger.ledger import Ledger
from trainables.storage.atomic import write_whole
from trainables.storage.checksums import sha256_of
from trainables.storage.layout import CACHE_FOLDER, CHAT_TEMPLATE_FILE, MANIFEST_FILE

PACKAGES = ("llm-sweeps", "ray", "optuna", "torch", "transformers", "peft", "wandb", "tokenizers", "numpy")


class Manifest:
    """`manifest.json`, written when a sweep starts and again when it ends.

    Attributes:
        state: How the sweep ended: `complete`, `budget_spent`, `not_needed`, `interrupted` or `failed`; `running` until
            then.
    """

    def __init__(self, folder: Path, fields: dict[str, Any]) -> None:
        self.folder, self.fields, self.state = folder, fields, "running"

    @classmethod
    @contextmanager
    def opened(
        cls, config: SweepConfig, model_path: str, hardware: dict[str, Any], identity: dict[str, Any]
    ) -> Iterator[Manifest]:
        """Writes the manifest, and again with the sweep's end when the block ends."""
        manifest = cls(config.folder, {**identity, **describe(config, model_path, hardware)})
        manifest.write(ended=None)
        try:
            yield manifest
        except BaseException:
            manifest.state = "failed"
            raise
        finally:
            manifest.write(ended=_now())

    def write(self, ended: str | None) -> None:
        text = json.dumps({"state": self.state, "ended": ended, **self.fields}, indent=2)
        write_whole(self.folder / MANIFEST_FILE, text + "\n")


def describe(config: SweepConfig, model_path: str, hardware: dict[str, Any]) -> dict[str, Any]:
    """Collects start, versions, commit, hashes, seed and hardware."""
    own_template = config.folder / CACHE_FOLDER / CHAT_TEMPLATE_FILE
    files = {"train": config.data.train, **{name: area.path for name, area in config.heldout.areas.items()}}
    return {
        "started": _now(),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "git_commit": git_commit(Path(__file__).parent),
        "model": config.model.name,
        "model_path": model_path,
        "model_sha256": {path.name: sha256_of(path) for path in sorted(Path(model_path).glob("*.safetensors"))},
        "trust_remote_code": config.model.trust_remote_code,
        "data_sha256": {name: sha256_of(Path(path)) for name, path in files.items() if Path(path).is_file()},
        "chat_template_sha256": sha256_of(own_template) if own_template.is_file() else None,
        "template_args": config.data.template_args,
        "seed": config.seed,
        "beyond_recommended": config.space.beyond_recommended,
        "hardware": {"machine": platform.machine(), "cpus": os.cpu_count(), "system": platform.system(), **hardware},
    }


def precisions(ledger: Ledger) -> list[str]:
    """Lists the precisions that ended trials were computed in: one, unless lanes differ."""
    return sorted({p for trial in ended_trials(ledger.read()[0]) if (p := trial.get("precision"))})


def git_commit(folder: Path) -> str | None:
    """Returns the code's commit, with `+changes` where files differ from it; None outside a git checkout."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return commit + ("+changes" if _git(folder, "status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
