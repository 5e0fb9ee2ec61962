"""Package of a cluster job (Ray's `working_dir`): this project's code, the resolved config and the files it names.

Other files of the current folder are not sent: `.env`, `.netrc`, keys, earlier outputs.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from analysis.records.lineage import LINK
from sweeps.config.sweep_config import SweepConfig, dump_config
from trainables.errors import UserError, UserErrors
from trainables.project import PACKAGES, PROJECT_ROOT
from trainables.storage.object_store import is_url

CONFIG_FILE = "job.yaml"
CODE = (".py", ".html", ".css", ".js")
LARGEST_BYTES = 100 * 2**20  # of all files; ours: Ray keeps a package in the head's memory and refuses above 500 MiB


def pack(config: SweepConfig, folder: Path) -> list[str]:
    """Copies the files of a job into an empty folder, which becomes the job's working directory.

    Returns:
        The user's files as relative paths: config, data and scorers.

    Raises:
        UserErrors: A path of the config would mean something else on the cluster.
        UserError: The files are too large.
    """
    if mistakes := list(_paths_lost_on_a_cluster(config)):
        raise UserErrors(mistakes)
    for package in PACKAGES:
        _copy_code(PROJECT_ROOT / package, folder / package)
    own = {str(PurePosixPath(name)): Path(name) for _, name in _data_paths(config)} | _scorers(config)
    for name, source in own.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / name)
    (folder / CONFIG_FILE).write_text(dump_config(config), encoding="utf-8")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if size > LARGEST_BYTES:
        rule = f"files sent with a job must be at most {LARGEST_BYTES >> 20} MiB"
        raise UserError("data", rule, f"{size / 2**20:.0f} MiB", "name shared files absolutely")
    return sorted([CONFIG_FILE, *own])


def _paths_lost_on_a_cluster(config: SweepConfig) -> Iterator[UserError]:
    # Ray deletes a job's working directory with the job: relative paths would be read from it, or written to it.
    remedy = "name a folder that every node sees, by its absolute path, or an object store's URL"
    if not config.storage_path.startswith(("/", "~")) and not is_url(config.storage_path):
        yield UserError("storage_path", "must be absolute for a job on a cluster", config.storage_path, remedy)
    if not config.model.name.startswith(("/", "~")) and Path(config.model.name).exists():
        yield UserError("model.name", "must be absolute or a Hugging Face id for a job", config.model.name, remedy)
    if config.parent and not LINK.fullmatch(config.parent) and not config.parent.startswith(("/", "~")):
        yield UserError("parent", "must be NAME@ID, or absolute, for a job on a cluster", config.parent, remedy)
    for number, name in enumerate(config.search.warm_start):
        if not name.startswith(("/", "~")) and not is_url(name):
            yield UserError(f"search.warm_start[{number}]", "must be absolute for a job on a cluster", name, remedy)
    for key, name in _data_paths(config):
        if ".." in PurePosixPath(name).parts:
            yield UserError(key, "must lie below the current folder, or be absolute", name, remedy)


def _data_paths(config: SweepConfig) -> Iterator[tuple[str, str]]:
    """Yields key and relative path of each local data file; other names are Hugging Face ids or the cluster's files."""
    named = {"data.train": config.data.train}
    named |= {f"heldout.areas.{name}.path": area.path for name, area in config.heldout.areas.items()}
    for key, name in named.items():
        if not name.startswith(("/", "~")) and Path(name).is_file():
            yield key, name


def _scorers(config: SweepConfig) -> dict[str, Path]:
    # Found without importing them: they may need what only the cluster has. Installed modules must be there already.
    names = [name for area in config.heldout.areas.values() for name in area.scorers if isinstance(name, str)]
    found: dict[str, Path] = {}
    for module in sorted({name.partition(":")[0].partition(".")[0] for name in names if ":" in name}):
        spec = importlib.util.find_spec(module)
        if spec is None:
            raise UserError(
                "heldout.areas", f"the module of the scorer {module} must be found", "none", "check its name"
            )
        if module in PACKAGES or module in sys.stdlib_module_names or _is_installed(spec.origin):
            continue
        origin = Path(str(spec.origin))
        if not spec.submodule_search_locations:
            found[origin.name] = origin
            continue
        parts = origin.parent.rglob("*.py")
        found |= {str(Path(module) / part.relative_to(origin.parent)): part for part in parts}
    return found


def _is_installed(origin: str | None) -> bool:
    places = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    return origin is None or any(Path(origin).is_relative_to(place) for place in places)


def _copy_code(package: Path, to: Path) -> None:
    for source in package.rglob("*"):
        if source.is_file() and source.suffix in CODE and not source.name.startswith("."):
            place = to / source.relative_to(package)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, place)
