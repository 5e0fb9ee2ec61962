"""The checkpoints of a sweep as models of a benchmark: loaded, rendered and computed as the sweep scored them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from analysis.benchmark.model import Loaded, Model, file_hashes, short_hash
from analysis.cli import NoWinnerError
from analysis.export.checkpoint_choice import Chosen, base_model, check_base, checkpoint_folder, choose
from analysis.export.sweep_models import SweepModels, data_config
from analysis.rank.leaderboard import leaderboard
from analysis.records.json_files import read_json
from analysis.records.locate import place_of
from analysis.records.sweep import read_sweep
from trainables.errors import UserError
from trainables.storage.checksums import sha256_of
from trainables.storage.layout import CACHE_FOLDER, CHAT_TEMPLATE_FILE, MANIFEST_FILE
from trainables.storage.sealed_folder import META, CheckpointError, verify

ALL, BASE = "all", "base"  # in place of a trial or a step
SIZES = ("batch_tokens", "answer_batch_size")  # of the section `heldout`
RENDERING = ("template", "template_args", "train_on_template_text")  # of the section `data`


class SweepCheckpoints:
    """The models of one sweep.

    Args:
        folder: The sweep's folder on this machine.
    """

    def __init__(self, folder: Path) -> None:
        self.sweep, self.board = read_sweep(folder), leaderboard(folder)
        self._manifest = read_json(folder / MANIFEST_FILE) or {}
        self._base: dict[str, str] = {}
        self._loaded: tuple[str, SweepModels] | None = None

    def models(self, trial: str | None, step: str | None) -> Iterator[Model]:
        """The models that `SWEEP[:TRIAL[:STEP]]` names.

        Args:
            trial: A trial, "base" (the base model), "all" (every kept checkpoint of every trial), or None (the winner).
            step: A step, "all" (every kept checkpoint of the trial), or None (the trial's best).

        Raises:
            UserError: There is no such checkpoint, or it is damaged.
            NoWinnerError: No trial is named and there is no winner.
        """
        if trial == BASE:
            yield self._model(None)
        elif ALL in (trial, step):
            for name, number in self._kept(None if trial == ALL else trial):
                yield self._model(choose(self.board, name, number, self.sweep.trials))
        else:
            yield self._model(choose(self.board, trial or self._winner(), _number(step), self.sweep.trials))

    def close(self) -> None:
        """Frees the base model."""
        self._loaded = None

    def _winner(self) -> str:
        # Not what an export takes: a retrained winner has learnt the areas that a benchmark may be made of.
        winner = self.board["winner"]
        if winner is None:
            remedy = "name a checkpoint: SWEEP:TRIAL:STEP"
            raise NoWinnerError(self.sweep.name, "must have a winner", self.board["verdict"], remedy)
        return winner["trial_id"]

    def _kept(self, trial: str | None) -> list[tuple[str, int]]:
        found = [
            (one.trial_id, int(point["step"]))
            for one in self.sweep.trials
            if trial in (None, one.trial_id) and one.kind in ("search", "replicate")
            for point in one.checkpoints
            if point.get("kept", True)
        ]
        if trial is not None and not any(one.trial_id == trial for one in self.sweep.trials):
            choose(self.board, trial, None, self.sweep.trials)  # says which trials there are
        if not found:
            raise UserError(self.sweep.name, "must have checkpoints that are kept", "none", "name another sweep")
        return found

    def _model(self, chosen: Chosen | None) -> Model:
        sweep, trial_id = self.sweep, chosen.trial_id if chosen else BASE
        step = chosen.step if chosen else 0
        precision = self._precision(trial_id)
        base = base_model(sweep)
        if not self._base:
            check_base(sweep, base)
            self._base = file_hashes(base.folder)
        own = sweep.folder / CACHE_FOLDER / CHAT_TEMPLATE_FILE
        data, quantize = data_config(sweep), (sweep.config.get("model") or {}).get("quantize")
        rendering = {name: getattr(data, name) for name in RENDERING}
        rendering |= {"chat_template": sha256_of(own)} if own.is_file() else {}
        weights = self._weights(chosen) if chosen else {}
        place = place_of(sweep.folder)
        facts = {
            "sweep": sweep.name,
            "sweep_id": self._manifest.get("sweep_id"),
            "place": place,
            "started": self._manifest.get("started"),
            "trial_id": trial_id,
            "step": step,
            "params": dict(chosen.row["params"]) if chosen else {},
            "precision": precision,
            "quantize": quantize,
            "learnt_heldout": bool(chosen and chosen.retrained),
        }
        label = f"{sweep.name}:{trial_id}:{step}" if chosen else f"{sweep.name}:{BASE}"
        key = short_hash([self._base, weights, rendering, precision, quantize])
        return Model(label, f"{place}:{trial_id}:{step}", key, partial(self._load, chosen, precision), facts)

    def _weights(self, chosen: Chosen) -> dict[str, str]:
        folder = checkpoint_folder(self.sweep, chosen)
        try:
            return {name: digest for name, digest in verify(folder).items() if name != META}
        except CheckpointError as error:
            rule, got = "must be a checkpoint as it was written", str(error).removeprefix(f"{folder}: ")
            raise UserError(str(folder), rule, got, "name another checkpoint") from None

    def _precision(self, trial_id: str) -> str:
        import torch

        from trainables.models.base_model import resolve_precision

        trials = [*self.sweep.trials, *([self.sweep.retrained] if self.sweep.retrained else [])]
        own = {trial.trial_id: trial.precision for trial in trials if trial.precision}
        # The base model is scored as the sweep's trials are.
        first = own.get(trial_id) or next(iter(own.values()), None)
        stated: Any = first or (self.sweep.config.get("training") or {}).get("precision", "auto")
        return resolve_precision(stated, torch.device("cuda" if torch.cuda.is_available() else "cpu"))

    def _load(self, chosen: Chosen | None, precision: str) -> Loaded:
        if self._loaded is None or self._loaded[0] != precision:
            self._loaded = precision, SweepModels(self.sweep, precision)
        models = self._loaded[1]
        heldout = self.sweep.config.get("heldout") or {}
        sizes = {name: int(heldout[name]) for name in SIZES if heldout.get(name)}
        model = models.trained(chosen) if chosen else models.base.untouched()
        return Loaded(model, models.base.tokenizer, models.data, **sizes)


def _number(step: str | None) -> int | None:
    if step is not None and not step.isdecimal():
        raise UserError("--models", "must name a step by its number, or all", step, "write SWEEP:TRIAL:STEP")
    return None if step is None else int(step)
