"""What a sweep began with: versions, and the SHA-256 of its model, data and tokenized data. No later start replaces it.

The first record of each part counts: in the ledger's starts, then in the manifest of a version whose ledger had none.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sweeps.config.sweep_config import SweepConfig
from sweeps.ledger.ledger import Event
from trainables.errors import UserError
from trainables.storage.checksums import sha256_of
from trainables.storage.layout import CACHE_FOLDER, MANIFEST_FILE, TRAIN_FILE, area_file

PACKAGES = ("llm-sweeps", "ray", "optuna", "torch", "transformers", "peft", "wandb", "tokenizers", "numpy")
# Those that compute a trial: with another release (the first two numbers) its curve is another.
COMPUTING = ("torch", "transformers", "peft")
# Files beside the weights that say what the model computes and how text becomes tokens.
MODEL_FILES = (
    *("config.json", "generation_config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json"),
    *("special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "*.jinja", "*.py"),
)
TRAIN = "train"
ANOTHER = "start a sweep of its own"

Origin = dict[str, Any]
"""`versions`, `git_commit`, and by file or data set `model_sha256`, `model_files_sha256`, `data_sha256`,
`tokenized_sha256`; a part that no start has recorded is missing."""


def recorded(events: Iterable[Event], folder: Path) -> Origin:
    """What the sweep in `folder` began with, as far as its ledger's `events` and its manifest tell."""
    origins = [event["origin"] for event in events if event["event"] == "sweep_started" and event.get("origin")]
    parts = ("versions", "git_commit", "model_sha256", "model_files_sha256", "data_sha256", "tokenized_sha256")
    found: Origin = {}
    for source in (*origins, manifest_of(folder)):
        found |= {part: source[part] for part in parts if source.get(part) and part not in found}
    return found


def manifest_of(folder: Path) -> dict[str, Any]:
    """The manifest's fields; none where the file is gone or damaged."""
    try:
        fields = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return fields if isinstance(fields, dict) else {}


def completed(began: Origin, config: SweepConfig, model_path: str) -> Origin:
    """`began` with the parts that it lacks as they are now; none is replaced."""
    folder, model = config.folder, Path(model_path)
    # What is built here holds the version of transformers; its name and weights say all.
    patterns = () if config.model.name.startswith("random:") or config.model.name.endswith(".gguf") else MODEL_FILES
    parts = {
        "versions": versions,
        "git_commit": lambda: git_commit(Path(__file__).parent),
        "model_sha256": lambda: hashes(model.glob("*.safetensors")),
        "model_files_sha256": lambda: hashes(path for pattern in patterns for path in model.glob(pattern)),
        "data_sha256": lambda: {name: sha256_of(path) for name, _, path in data_files(config) if path.is_file()},
        "tokenized_sha256": lambda: {
            name: sha256_of(path) for name, path in tokenized_files(config, folder).items() if path.is_file()
        },
    }
    return {part: began[part] if part in began else read() for part, read in parts.items()}


def data_files(config: SweepConfig) -> Iterator[tuple[str, str, Path]]:
    """Yields the name among the hashes, the config's key and the path of each data set."""
    yield TRAIN, "data.train", Path(config.data.train).expanduser()
    for name, area in config.heldout.areas.items():
        # An area may have the training set's name.
        yield (
            name if name != TRAIN else f"heldout.{name}",
            f"heldout.areas.{name}.path",
            Path(area.path).expanduser(),
        )


def tokenized_files(config: SweepConfig, folder: Path) -> dict[str, Path]:
    """The file of tokens of each data set in a sweep's folder, by the set's name among the hashes."""
    names = [TRAIN_FILE, *(area_file(name) for name in config.heldout.areas)]
    sets = (name for name, _, _ in data_files(config))
    return {name: folder / CACHE_FOLDER / file for name, file in zip(sets, names, strict=True)}


def changed(
    began: Origin, before: SweepConfig, now: SweepConfig, model_path: str, *, other_versions: bool
) -> list[UserError]:
    """Lists what has changed since the sweep began: data files, the model, versions that compute.

    A data file that is gone is no fault: its tokenized copy counts.

    Args:
        began: As returned by `recorded`.
        before: The config of the sweep's first start, its paths absolute.
        now: Its present config, likewise.
        model_path: Folder of the present base model.
        other_versions: Whether the user accepts other versions.
    """
    return [
        *_changed_data(began.get("data_sha256", {}), before, now),
        *_changed_model(began, before, now, Path(model_path)),
        *([] if other_versions else _changed_versions(began.get("versions", {}))),
    ]


def _changed_data(hashes: Mapping[str, str], before: SweepConfig, now: SweepConfig) -> Iterator[UserError]:
    first = {name: path for name, _, path in data_files(before)}
    for name, key, path in data_files(now):
        moved, known = path != first.get(name, path), hashes.get(name)
        if moved and (known is None or not path.is_file()):
            got = f"{path} after {first[name]}" + ("" if path.is_file() else ", where no file is")
            yield UserError(key, "must name the file that the sweep began with", got, f"name that one, or {ANOTHER}")
        elif known is not None and path.is_file() and sha256_of(path) != known:
            rule, got = "must hold what it held when the sweep began", f"another sha256 for {path}"
            yield UserError(key, rule, got, f"restore that file, or {ANOTHER}")


def _changed_model(began: Origin, before: SweepConfig, now: SweepConfig, folder: Path) -> Iterator[UserError]:
    known = {**began.get("model_sha256", {}), **began.get("model_files_sha256", {})}
    if not known and (now.model.name, now.model.revision) != (before.model.name, before.model.revision):
        got = f"{now.model.name} after {before.model.name}"
        yield UserError("model.name", "must stay, for no hash of the first is known", got, ANOTHER)
    differ = [name for name, expected in known.items() if not _is(folder / name, expected)]
    if differ:
        rule, got = "must be the model that the sweep began with", f"another sha256 for {', '.join(differ)} in {folder}"
        yield UserError("model.name", rule, got, f"restore that model, or {ANOTHER}")


def _changed_versions(before: Mapping[str, str | None]) -> Iterator[UserError]:
    for name, now in versions().items():
        first = before.get(name)
        if name in COMPUTING and first and now and _release(first) != _release(now):
            remedy = f"install that one, or go on all the same with --other-versions, or {ANOTHER}"
            yield UserError(f"versions.{name}", f"must be {_release(first)}.*, as when the sweep began", now, remedy)


def _is(path: Path, expected: str) -> bool:
    return path.is_file() and sha256_of(path) == expected


def _release(version: str) -> str:
    return ".".join(version.split(".")[:2])


def hashes(paths: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of files by name, in order."""
    return {path.name: sha256_of(path) for path in sorted(paths)}


def versions() -> dict[str, str | None]:
    """Version of Python and of each package that a sweep builds on; None for one that is not installed."""
    return {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


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


def machine() -> dict[str, Any]:
    """The driver's machine, for the manifest."""
    return {"machine": platform.machine(), "cpus": os.cpu_count(), "system": platform.system()}
