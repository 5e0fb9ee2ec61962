"""The base model's loss on every training sample, the reference for single loss curves.

One lane computes it once and writes it to the sweep's folder; every trial that starts later records it with its own
losses. The file's key hashes all inputs, so that a resumed sweep, or another with the same model and data, reuses it.
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

FILE = "cache/base_losses.arrow"  # in the sweep's folder
RECIPE = "base-losses-2"  # part of the key; count up when a code change alters the losses

SCHEMA = pa.schema([("id", pa.string()), ("nll", pa.float64())])


@dataclass(frozen=True)
class BaseLosses:
    """The base model's losses on a training set."""

    key: str  # hash of the inputs; see `losses_key`
    nll: Mapping[str, float]  # mean loss of each sample's label tokens by id, in nats a token

    @cached_property
    def level(self) -> float | None:
        """Mean over the samples; None if a loss is not finite."""
        mean = float(np.mean(list(self.nll.values())))
        return mean if np.isfinite(mean) else None

    def write(self, path: Path) -> None:
        """Write an Arrow file atomically."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        columns = {"id": list(self.nll), "nll": list(self.nll.values())}
        table = pa.table(columns, SCHEMA.with_metadata({"key": self.key}))
        try:
            with pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def read(cls, path: Path) -> BaseLosses | None:
        """Read the file of `write`; None if there is none."""
        try:
            with pa.OSFile(str(path), "rb") as source:
                table = pa.ipc.open_file(source).read_all()
        except FileNotFoundError:
            return None
        nll = dict(zip(table["id"].to_pylist(), table["nll"].to_pylist(), strict=True))
        return cls((table.schema.metadata or {}).get(b"key", b"").decode(), nll)


def losses_key(model_path: str | Path, tokenized: str | Path, precision: str, quantize: str | None = None) -> str:
    """Hash of everything that determines the losses.

    Args:
        model_path: Folder of the base model, with its config and weights.
        tokenized: File of the tokenized samples.
        precision: Of the computation: "fp32" or "bf16".
        quantize: How the weights are kept: "nf4"; None for as they are.
    """
    folder = Path(model_path)
    weights = sorted(path for pattern in ("*.safetensors", "*.bin") for path in folder.glob(pattern))
    parts = [RECIPE, precision, str(quantize), sha256_of(Path(tokenized))]
    parts += [f"{path.name} {sha256_of(path)}" for path in (folder / "config.json", *weights)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def provide(sweep_folder: Path, cache: Path | None, key: str) -> BaseLosses | None:
    """Reuse existing losses, copying shared ones into the sweep's folder.

    Args:
        sweep_folder: The sweep's folder.
        cache: Folder shared by sweeps; None for none.
        key: Required key.

    Returns:
        The losses, or None if they must be computed.
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
    """Write losses into the sweep's folder, and into the shared one if it is writable."""
    losses.write(sweep_folder / FILE)
    if cache is None:
        return
    try:
        losses.write(_shared(cache, losses.key))
    except OSError as error:  # a node may not see the shared folder; only time is lost
        logger.warning("base losses are kept for this sweep only: %s", error)


def _shared(cache: Path, key: str) -> Path:
    return cache / f"{key}.arrow"
