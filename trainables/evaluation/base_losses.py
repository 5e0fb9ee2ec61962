"""The base model's loss on every training sample: what a single loss curve is read against.

Computed once, forward only, by a job of its own in one lane, and written to the sweep's folder; every trial that starts
after that records it beside its own losses. The file carries a key made of everything that the losses depend on, so
that a resumed sweep, or another with the same model and data, takes over what is there.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from trainables.storage.checksums import sha256_of

logger = logging.getLogger(__name__)

FILE = "cache/base_losses.arrow"  # Its place in the sweep's folder

# Part of the key; counts up when the losses would come out differently for another reason.
RECIPE = "base-losses-1"

SCHEMA = pa.schema([("id", pa.string()), ("nll", pa.float64())])


@dataclass(frozen=True)
class BaseLosses:
    """The base model's losses on a training set.

    Attributes:
        key: What they were computed from; see `losses_key`.
        nll: Mean loss of each sample's label tokens by id, in nats a token.
    """

    key: str
    nll: Mapping[str, float]

    @cached_property
    def level(self) -> float | None:
        """Mean over the samples; None where one of the losses is not finite."""
        mean = float(np.mean(list(self.nll.values())))
        return mean if np.isfinite(mean) else None

    def write(self, path: Path) -> None:
        """Writes an Arrow file, which appears under its name only when it is whole."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        table = pa.table({"id": list(self.nll), "nll": list(self.nll.values())}, SCHEMA)
        try:
            with pa.OSFile(str(partial), "wb") as sink:
                marked = table.replace_schema_metadata({"key": self.key})
                with pa.ipc.new_file(sink, marked.schema) as writer:
                    writer.write_table(marked)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def read(cls, path: Path) -> BaseLosses | None:
        """What `write` wrote; None where there is no file."""
        try:
            with pa.OSFile(str(path), "rb") as source:
                table = pa.ipc.open_file(source).read_all()
        except FileNotFoundError:
            return None
        nll = dict(zip(table["id"].to_pylist(), table["nll"].to_pylist(), strict=True))
        return cls((table.schema.metadata or {}).get(b"key", b"").decode(), nll)


def losses_key(model_path: str | Path, tokenized: str | Path, precision: str) -> str:
    """Hash of all that the losses depend on: the model's config and weights, the tokenized samples, the precision."""
    folder = Path(model_path)
    weights = sorted(path for pattern in ("*.safetensors", "*.bin") for path in folder.glob(pattern))
    parts = [RECIPE, precision, sha256_of(Path(tokenized))]
    parts += [f"{path.name} {sha256_of(path)}" for path in (folder / "config.json", *weights)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def provide(sweep_folder: Path, cache: Path | None, key: str) -> BaseLosses | None:
    """Puts losses that are known already into the sweep's folder.

    Args:
        sweep_folder: The sweep's folder, in which they may lie already.
        cache: Folder that sweeps share, in which they may lie too; None for no such folder.
        key: What they must have been computed from.

    Returns:
        The losses, or None where they have to be computed.
    """
    own = sweep_folder / FILE
    found = BaseLosses.read(own)
    if found and found.key == key:
        return found
    shared = BaseLosses.read(_shared(cache, key)) if cache else None
    if shared is None or shared.key != key:
        return None
    shared.write(own)
    return shared


def keep(losses: BaseLosses, sweep_folder: Path, cache: Path | None) -> None:
    """Writes losses into the sweep's folder, and into the shared one where that can be written."""
    losses.write(sweep_folder / FILE)
    if cache is None:
        return
    try:
        losses.write(_shared(cache, losses.key))
    except OSError as error:  # a node may see the sweep's folder and not this one; nothing but time is lost
        logger.warning("base losses are kept for this sweep only: %s", error)


def _shared(cache: Path, key: str) -> Path:
    return cache / f"{key}.arrow"
