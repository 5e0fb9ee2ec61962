"""A sweep's models in memory: its base model, and its checkpoints on it, as the sweep's lanes load them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.export.checkpoint_choice import Chosen, base_model, checkpoint_folder
from analysis.records.sweep import Sweep
from trainables.storage.layout import CACHE_FOLDER, CHAT_TEMPLATE_FILE

if TYPE_CHECKING:
    from torch import nn

    from trainables.config.data_sections import DataConfig


def data_config(sweep: Sweep) -> DataConfig:
    """The config's data section, with what a sweep did that lacks a key."""
    from trainables.config.data_sections import DataConfig

    # Sweeps that lack the key, of version 0.1, learnt what the template writes before an answer.
    return DataConfig.model_validate({"train_on_template_text": True, **(sweep.config.get("data") or {})})


class SweepModels:
    """The base model of a sweep with the sweep's chat template, and its checkpoints.

    Args:
        sweep: The sweep.
        precision: Of the matrix products: "fp32", "bf16" or "auto"; None for the config's.

    Attributes:
        base: The base model.
        data: The config's data section, which says how samples are rendered.

    Raises:
        UserError: The base model is nowhere.
    """

    def __init__(self, sweep: Sweep, precision: str | None = None) -> None:
        import torch

        from trainables.config.sections import ModelConfig, TrainingConfig
        from trainables.models.base_model import load_base

        self._sweep = sweep
        self._model = ModelConfig.model_validate(sweep.config.get("model") or {})
        training = dict(sweep.config.get("training") or {})
        self._training = TrainingConfig.model_validate(training | ({"precision": precision} if precision else {}))
        self.data = data_config(sweep)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.base = load_base(base_model(sweep).folder, self._model, self._training.precision, device)
        template = sweep.folder / CACHE_FOLDER / CHAT_TEMPLATE_FILE
        if template.is_file():
            self.base.tokenizer.chat_template = template.read_text(encoding="utf-8")

    def trained(self, chosen: Chosen) -> nn.Module:
        """A checkpoint on the base model; it stays until the next call, or until `base.restore()`.

        Raises:
            UserError: The checkpoint's folder is gone.
        """
        from trainables.checkpoints import checkpoint
        from trainables.config.hyperparameters import with_params

        folder = checkpoint_folder(self._sweep, chosen)
        _, lora = with_params(self._training, self._model.lora, dict(chosen.row["params"]))
        model = self.base.prepare(lora, seed=0)
        checkpoint.load(model, folder)
        return model
