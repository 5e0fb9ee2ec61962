"""What a resumed sweep finds: compared with its first start; tokens that are gone or damaged are made anew."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console

from sweeps.config.paths import with_absolute_paths
from sweeps.config.sweep_config import SweepConfig
from sweeps.folder.origin import ANOTHER, Origin, changed, data_files, recorded, tokenized_files
from sweeps.folder.resume import first_config, resumed_config
from sweeps.folder.sweep_store import SweepStore
from sweeps.ledger.ledger import Ledger
from sweeps.plan.datasets import Prepared, SetPlan, prepare_data
from sweeps.plan.plan import MODELS_CACHE, Plan, make_plan
from trainables.data.sources import HUB_ID
from trainables.errors import UserError, UserErrors
from trainables.models.pretrained import load_tokenizer, resolve_again, resolve_model
from trainables.storage.checksums import sha256_of
from trainables.storage.layout import CACHE_FOLDER, PLAN_FILE


def unchanged(
    folder: Path,
    config_path: str | None,
    overrides: list[str],
    *,
    other_versions: bool = False,
    say: Callable[[str], None] = print,
) -> tuple[SweepConfig, Plan, Origin]:
    """Reads a sweep's config and plan, and compares config, model, data and versions with the sweep's first start.

    Args:
        folder: The sweep's folder, or a copy of its files in a store.
        config_path: As for `resumed_config`.
        overrides: As for `resumed_config`.
        other_versions: Whether the user accepts other versions of the packages that compute.
        say: Called with a line for the user.

    Returns:
        The config with the user's changes, the plan with the model's present folder, and what the sweep began with.

    Raises:
        UserError, UserErrors: Something is missing, or differs that must stay.
    """
    config = resumed_config(folder, config_path, overrides)
    events, _ = Ledger(folder).read()
    began, first = recorded(events, folder), first_config(events, folder)
    before, plan = with_absolute_paths(first) if first else config, _plan(config, folder, began, say)
    moved = config.model.name != before.model.name
    find = resolve_model if moved else partial(resolve_again, before=plan.model_path)
    plan.model_path = str(find(config.model, cache_dir=MODELS_CACHE))
    if wrong := changed(began, before, config, plan.model_path, other_versions=other_versions):
        raise UserErrors(wrong)
    return config, plan, began


def _plan(config: SweepConfig, folder: Path, began: Origin, say: Callable[[str], None]) -> Plan:
    """The sweep's plan; one that is gone or damaged is made anew, from data that gives the tokens of the start."""
    file = folder / PLAN_FILE
    try:
        return Plan.read(folder)
    except FileNotFoundError:
        fault = "none"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        fault = f"{type(error).__name__} as it is read"
    say(f"{PLAN_FILE} is gone or damaged: it is made anew")
    hashes = began.get("tokenized_sha256", {})
    with tempfile.TemporaryDirectory(prefix="plan-") as draft:  # the sweep's folder may be read-only
        try:
            plan = make_plan(config, Path(draft))
        except (UserError, UserErrors) as error:
            rule = "must be whole, or what it is made from be there"
            why = "; ".join(str(one) for one in getattr(error, "errors", [error]))
            raise UserError(str(file), rule, f"{fault}, and: {why}", "restore one of the two") from None
        made = {name: sha256_of(path) for name, path in tokenized_files(config, Path(draft)).items()}
    if wrong := [_other_tokens(name, file) for name, digest in made.items() if hashes.get(name, digest) != digest]:
        raise UserErrors(wrong)
    plan.failures = []  # the sweep could start
    return plan


@contextmanager
def restored(
    config: SweepConfig, plan: Plan, store: SweepStore | None, began: Origin, console: Console
) -> Iterator[None]:
    """Fetches a resumed sweep's files and makes lost tokens anew before the block.

    Args:
        config: The sweep.
        plan: Its pre-flight.
        store: Its files; None for a new sweep, for which there is nothing to do.
        began: What it began with.
        console: Where to print.
    """
    if store:
        store.fetch_all()  # under the lock, so that no other driver still writes
        if restore_tokens(config, store.folder, plan, began, partial(console.print, soft_wrap=True, markup=False)):
            store.publish_cache()
    yield


def lost_sets(config: SweepConfig, folder: Path, plan: Plan, began: Origin) -> list[str]:
    """Names of the data sets whose tokens are gone, or not those of the sweep's start.

    Args:
        config: The sweep.
        folder: Its folder.
        plan: Its pre-flight: without a hash its counts tell.
        began: What the sweep began with.
    """
    files, hashes = tokenized_files(config, folder), began.get("tokenized_sha256", {})
    planned = _by_set(files, config, plan)
    return [name for name, path in files.items() if not _is_whole(path, hashes.get(name), planned[name])]


def restore_tokens(config: SweepConfig, folder: Path, plan: Plan, began: Origin, say: Callable[[str], None]) -> bool:
    """Makes lost tokens anew from the data files, which must be those of the sweep's start; returns whether it did.

    The driver's lock must be held.

    Args:
        config: The sweep.
        folder: Its folder.
        plan: Its pre-flight.
        began: What it began with.
        say: Called with a line for the user.

    Raises:
        UserErrors: A data file is gone, too, or gives other tokens.
        UserError, OSError: As `sweeps.plan.datasets.prepare_data` raises.
    """
    lost = lost_sets(config, folder, plan, began)
    if not lost:
        return False
    _refuse_missing_sources(config, folder, lost)
    say(f"the tokenized data of {', '.join(lost)} is gone or damaged: it is made anew")
    files, hashes = tokenized_files(config, folder), began.get("tokenized_sha256", {})
    (folder / CACHE_FOLDER).mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".cache.", dir=folder) as draft:
        made = prepare_data(config, load_tokenizer(plan.model_path, config.model), Path(draft))
        counted, planned = _by_set(files, config, made), _by_set(files, config, plan)
        wrong = [
            _other_tokens(name, path)
            for name, path in files.items()
            if name in lost and not _is_same(Path(draft) / path.name, hashes.get(name), counted[name], planned[name])
        ]
        if wrong:
            raise UserErrors(wrong)
        for name in lost:
            os.replace(Path(draft) / files[name].name, files[name])
    return True


def _by_set(files: Iterable[str], config: SweepConfig, plan: Plan | Prepared) -> dict[str, SetPlan]:
    # The user may have put the areas in another order since the plan was made.
    return dict(zip(files, [plan.train, *(plan.areas[name] for name in config.heldout.areas)], strict=True))


def _refuse_missing_sources(config: SweepConfig, folder: Path, lost: list[str]) -> None:
    # Of all sets: which samples stay depends on what they have in common.
    gone = [path for _, _, path in data_files(config) if not path.is_file() and not HUB_ID.fullmatch(str(path))]
    if gone:
        files = tokenized_files(config, folder)
        rule, got = "must be there, or the file that it was made from", f"neither it nor {', '.join(map(str, gone))}"
        raise UserErrors([UserError(str(files[name]), rule, got, "restore one of the two") for name in lost])


def _other_tokens(name: str, path: Path) -> UserError:
    rule = "must be made anew as at the sweep's start"
    got = f"other tokens for {name}; its tokenizer, or a version that reads the data, is another"
    return UserError(str(path), rule, got, f"restore the file, or {ANOTHER}")


def _is_same(path: Path, expected: str | None, made: SetPlan, planned: SetPlan) -> bool:
    if expected is not None:
        return sha256_of(path) == expected
    return (made.samples, made.tokens, made.label_tokens) == (planned.samples, planned.tokens, planned.label_tokens)


def _is_whole(path: Path, expected: str | None, planned: SetPlan) -> bool:
    if not path.is_file():
        return False
    if expected is not None:
        return sha256_of(path) == expected
    try:
        with pa.memory_map(str(path)) as source:
            ids = pa.ipc.open_file(source).read_all()["input_ids"]
            tokens = pc.sum(pc.list_value_length(ids)).as_py() or 0
            return (len(ids), tokens) == (planned.samples, planned.tokens)
    except (OSError, pa.ArrowInvalid, KeyError):
        return False
