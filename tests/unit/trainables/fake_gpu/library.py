"""Build and load the device guard of `fake_cuda.cpp`. Imports no torch, which reads its CUDA hooks when it loads."""

import ctypes
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

SOURCE = Path(__file__).with_name("fake_cuda.cpp")
CACHE = Path(".cache") / "fake-gpu"


def obstacle():
    """Why there can be no fake GPU on this machine; None if there can."""
    if shutil.which("g++") is None:
        return "there is no g++"
    if (
        not (_torch_folder() / "lib" / "libtorch_cpu.so").is_file()
        or (_torch_folder() / "lib/libtorch_cuda.so").exists()
    ):
        return "torch is no CPU build for Linux"
    return None


def build():
    """The compiled library, made once for each torch and source: some five seconds."""
    key = hashlib.sha256(SOURCE.read_bytes() + version("torch").encode()).hexdigest()[:16]
    library = CACHE.absolute() / f"{key}.so"
    if not library.is_file():
        library.parent.mkdir(parents=True, exist_ok=True)
        partial, torch = library.with_suffix(f".{os.getpid()}"), _torch_folder()
        command = ["g++", "-std=c++20", "-O0", "-shared", "-fPIC", "-I", torch / "include", SOURCE, "-o", partial]
        subprocess.run([*command, "-L", torch / "lib", "-lc10", "-ltorch_cpu"], check=True)
        os.replace(partial, library)
    return library


def load():
    """Load the library; torch, imported afterwards, finds one CUDA device without memory or kernels."""
    assert "torch" not in sys.modules, "torch has read its hooks already"
    for name in ("libc10.so", "libtorch_cpu.so"):
        ctypes.CDLL(str(_torch_folder() / "lib" / name), mode=ctypes.RTLD_GLOBAL)
    ctypes.CDLL(str(build()))


def _torch_folder():
    return Path(importlib.util.find_spec("torch").origin).parent
