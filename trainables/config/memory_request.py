"""What a forecast of a trial's memory depends on."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trainables.config.sections import ModelConfig, Section, TrainingConfig


class MemoryRequest(Section):
    """A trial on a device, described by what its memory depends on.

    Attributes:
        model_path: Folder of the model; only its configuration is read.
        model: Name, method and adapters.
        training: Batch size, gradient checkpointing and AdamW's settings.
        precision: Of the matrix products on the device.
        workers: Workers over which the weights are shared out; 1 where each holds all.
        slots: Trials that train side by side.
        samples: Samples in each trial's micro-batch.
        sample_tokens: Tokens of each.
        label_share: Share of the tokens that are trained on.
        scored_tokens: Tokens of held-out items scored at once.
        prompts: Prompts answered at once, at most; 0 where no answers are generated.
        prompt_tokens: Tokens of each.
        answer_tokens: Longest answer.
    """

    model_path: str
    model: ModelConfig
    training: TrainingConfig
    precision: Literal["bf16", "fp32"]
    workers: int = Field(1, ge=1)
    slots: int = Field(ge=1)
    samples: int = Field(ge=1)
    sample_tokens: int = Field(ge=2)
    label_share: float = Field(gt=0.0, le=1.0)
    scored_tokens: int = Field(ge=2)
    prompts: int = Field(ge=0)
    prompt_tokens: int = Field(ge=1)
    answer_tokens: int = Field(ge=1)

    @property
    def splits(self) -> bool:
        """Whether micro-batches get smaller where memory runs out; those of sharded trials don't."""
        return self.training.micro_batch_tokens == "auto" and self.workers == 1
