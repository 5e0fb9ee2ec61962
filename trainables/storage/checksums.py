"""Checksums of files."""

from __future__ import annotations

import hashlib
from pathlib import Path


def sha256_of(path: Path) -> str:
    """The sha256 of a file's content, in hexadecimal; read in pieces, so that weights of any size fit."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
