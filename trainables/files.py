"""Files that are replaced whole."""

from __future__ import annotations

import os
from pathlib import Path

from trainables import stages


def write_whole(path: Path, text: str) -> None:
    """Replaces a file: written beside itself, then renamed, so that a reader sees the old or the new one."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        stages.reached("file_replaced", "/".join(path.parts[-2:]))
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
