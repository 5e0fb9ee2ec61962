"""Writes the winner, or a named checkpoint, as a Hugging Face folder.

Run `python -m analysis.export DIR --to OUT`. A LoRA trial gives an adapter that `peft` loads, or with `--merge` a model
that plain `transformers` loads; a full fine-tune gives its model. The checkpoint's checksums are verified first. The
export is loaded in a fresh process: its logits and held-out losses must equal the trained model's, and these losses
those that the sweep recorded. OUT appears only when everything in it is written.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.export.checkpoint_choice import BaseModel, Chosen, base_model, check_base, checkpoint_folder, choose
from analysis.export.generation_settings import write_generation_settings
from analysis.export.model_card import model_card
from analysis.export.reproduce import REPRODUCE_FILE, reproducing_config
from analysis.rank.leaderboard import leaderboard
from analysis.records.sweep import Sweep, read_sweep
from trainables.errors import UserError
from trainables.storage.layout import CACHE_FOLDER, area_file

if TYPE_CHECKING:
    from analysis.export.verification import Items, Parity


log = logging.getLogger(__name__)

# Ours. The sweep has scored all items of the checkpoint; a wrong export shows in a few of them.
ITEMS_EACH = 8
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
MODEL_FILES = ("config.json", "generation_config.json", "model*.safetensors", "model*.safetensors.index.json", "*.py")
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.model"),
    *("vocab.json", "vocab.txt", "merges.txt", "chat_template.jinja", "chat_template.json", "tokenization_*.py"),
)


@dataclass(frozen=True)
class Exported:
    """An export: its checkpoint, kind (`adapter`, `merged` or `full`), folder and deviation (None if unchecked)."""

    trial_id: str
    step: int
    kind: str
    folder: Path
    parity: Parity | None


def export(
    folder: str | Path,
    to: str | Path,
    trial_id: str | None = None,
    step: int | None = None,
    merge: bool = False,
    verify: bool = True,
    all_items: bool = False,
) -> Exported:
    """Writes a checkpoint of a sweep as a folder that `transformers` or `peft` loads.

    Args:
        folder: The sweep's folder.
        to: The folder to write: must not exist, or be empty.
        trial_id: Trial; None for the leaderboard's winner.
        step: Step of the checkpoint; None for the trial's best.
        merge: Merge a LoRA adapter into the base model, in float32. An adapter that was trained on a base in 4 bits is
            merged into the base's own weights; by how much that changes the held-out losses is in the parity.
        verify: Load the export in a fresh process and compare; a merge is always compared.
        all_items: Compare the losses of all held-out items, in place of `ITEMS_EACH` of each area.

    Raises:
        NoWinnerError: There is no winner and no trial was named.
        UserError: A name is wrong, the checkpoint is damaged, the base model is missing, OUT is not empty, or the
            reloaded model deviates from the trained one. OUT is not written then.
    """
    out = _free(Path(to))
    sweep, board = read_sweep(folder), leaderboard(folder)
    chosen = choose(board, trial_id, step, sweep.trials)
    source = checkpoint_folder(sweep, chosen)
    files = _verified(source)
    base = base_model(sweep)
    kind = "adapter" if "adapter_config.json" in files else "full"
    if merge and kind == "full":
        raise UserError("--merge", "needs a LoRA adapter", f"{source}, a whole model", "leave out --merge")
    with _written_whole(out) as partial:
        trained = _Trained(sweep, chosen, base, source, kind)
        log.info("copying %s of %s, step %s", kind, chosen.trial_id, chosen.step)
        _copy_all(trained, partial, weights=not merge)
        parity = None
        if merge or verify:
            check_base(sweep, base)
            parity = _verified_export(trained, partial, merge, None if all_items else ITEMS_EACH)
        if kind == "adapter" and not merge:  # only now: the check loaded the base from its folder
            _name_base(partial / "adapter_config.json", base.name, base.revision)
        kind = "merged" if merge else kind
        ends = write_generation_settings(sweep.folder, base.folder, partial)  # behind the merge, which writes its own
        card = model_card(sweep, board, chosen, kind, base, parity, ends)
        (partial / "README.md").write_text(card, encoding="utf-8")
        (partial / REPRODUCE_FILE).write_text(reproducing_config(sweep, chosen), encoding="utf-8")
    return Exported(chosen.trial_id, chosen.step, kind, out, parity)


@dataclass(frozen=True)
class _Trained:
    """The trained model: a sweep's checkpoint, its base, its folder and its kind (`adapter` or `full`)."""

    sweep: Sweep
    chosen: Chosen
    base: BaseModel
    folder: Path
    kind: str


def heldout_items(sweep: Sweep, chosen: Chosen, each: int | None = None) -> Items:
    """The held-out items that scored the checkpoint, to recompute their losses; none where a file or score is gone.

    Args:
        sweep: The sweep.
        chosen: The checkpoint.
        each: Items of each area to recompute; None for all.
    """
    from analysis.export.verification import Items
    from trainables.data.dataset import TokenizedSet

    trials = [*sweep.trials, *([sweep.retrained] if sweep.retrained else [])]
    own = next((trial.precision for trial in trials if trial.trial_id == chosen.trial_id), None)
    precision = own or str((sweep.config.get("training") or {}).get("precision", "auto"))
    areas = sweep.sealed if chosen.retrained else sweep.weights
    recorded = sweep.heldout(chosen.trial_id).by_step.get(chosen.step, {})
    paths = {area: sweep.folder / CACHE_FOLDER / area_file(area) for area in areas}
    gone = [str(path) for path in paths.values() if not path.is_file()]
    missing = f"there is no {gone[0]}" if gone else None
    sets = {} if missing else {area: TokenizedSet(path) for area, path in paths.items()}
    unscored = [area for area, found in sets.items() if any((area, name) not in recorded for name in found.ids)]
    if unscored:
        sets, missing = {}, f"this checkpoint was not scored on all items of {', '.join(unscored)}"
    return Items(sets, recorded, precision, missing, each)


def sample_texts(sweep: Sweep, chosen: Chosen, answers: int = 3) -> list[str]:
    """Texts for comparing logits: the sweep's objective and some of the trial's answers."""
    scores = sweep.heldout(chosen.trial_id).by_step.get(chosen.step, {})
    given = [score.answer for _, score in sorted(scores.items()) if score.answer]
    return [sweep.statement or sweep.name, *given[:answers]]


def _free(out: Path) -> Path:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        got = "a folder with files in it" if out.is_dir() else "a file"
        raise UserError(f"--to {out}", "must not exist or be an empty folder", got, "choose another folder")
    # Of a link, the folder that it names: only a folder can be replaced by what was written.
    return out.resolve() if out.is_symlink() else out


def _verified(source: Path) -> dict[str, str]:
    from trainables.storage.sealed_folder import CheckpointError, verify

    try:
        return verify(source)
    except CheckpointError as error:
        rule, remedy = "must be a checkpoint as it was written", "export another checkpoint with --trial and --step"
        raise UserError(str(source), rule, str(error).removeprefix(f"{source}: "), remedy) from error


def _copy_all(trained: _Trained, target: Path, *, weights: bool) -> None:
    if weights:
        _copy(trained.folder, target, ADAPTER_FILES if trained.kind == "adapter" else MODEL_FILES)
    if trained.kind == "adapter" and weights:
        _name_base(target / "adapter_config.json", str(trained.base.folder), None)
    else:
        _copy(trained.base.folder, target, ("*.py",))  # code of a model that transformers doesn't have
    _copy(trained.base.folder, target, (*TOKENIZER_FILES, "generation_config.json"))


def _verified_export(trained: _Trained, partial: Path, merge: bool, each: int | None) -> Parity:
    """Merges where asked, and compares `partial` with the trained model.

    A merge into other weights than those of training is compared with the adapter on these, and its losses are held
    against the recorded ones.
    """
    from analysis.export.merge import load_trained, merge_into, prompt_ids
    from analysis.export.reload import answer
    from analysis.export.verification import check, request

    base, trust = trained.base.folder, trained.base.trust_remote_code
    items = heldout_items(trained.sweep, trained.chosen, each)
    asked = request(prompt_ids(base, sample_texts(trained.sweep, trained.chosen), trust=trust), items)
    quantized = trained.base.quantized and not merge
    adapter = trained.kind == "adapter"
    model = load_trained(base, trained.folder, adapter=adapter, trust=trust, quantized=quantized)
    before = answer(model, asked)
    if merge:
        merge_into(model, partial)
    del model  # the fresh process needs the memory
    items = replace(items, other_weights=trained.base.quantized and merge)
    return check(partial, asked, before, items, trust=trust, quantized=quantized)


def _copy(source: Path, target: Path, patterns: tuple[str, ...]) -> None:
    for found in sorted({path for pattern in patterns for path in source.glob(pattern)}):
        if not (target / found.name).exists():  # the checkpoint's own files come first
            shutil.copyfile(found, target / found.name)


def _name_base(path: Path, name: str, revision: str | None) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    config.update(base_model_name_or_path=name, revision=revision)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


@contextmanager
def _written_whole(out: Path) -> Iterator[Path]:
    """Yields a temporary folder that becomes `out` if the block succeeds, and is removed if it raises."""
    # On the file system of `out`: a rename within one is atomic.
    made = [parent for parent in out.absolute().parents if not parent.exists()]
    partial = out.absolute().with_name(f".{out.absolute().name}.partial-{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        yield partial
        partial.rename(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        for parent in made:  # the innermost first
            with suppress(OSError):  # somebody else's file is in it
                parent.rmdir()
        raise
