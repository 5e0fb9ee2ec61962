"""Keys and forms of other tools, and how the same is said here. Pure.

A user of W&B sweeps, Optuna, Ray Tune, Axolotl, LLaMA-Factory or TRL writes them from habit.
"""

from __future__ import annotations

from typing import Any

from trainables.config.fields import Place
from trainables.config.hyperparameters import SEARCHABLE_LORA, SEARCHABLE_SCHEDULE, SEARCHABLE_TRAINING

ONE_EPOCH = "a trial is one epoch by design: each sample is seen once"
_LR = "give a range to space.peak_lr"
_BATCH = "write training.batch_size"
_LENGTH = "write data.max_tokens"
_TRIALS = "write search.trials"
_WORKERS = "write resources.lanes or resources.workers_per_lane"
_STOPPING = "write search.trial_scheduler: it decides which trials stop early"

# By key: what to do instead. Rules of their own stand in `RULES`.
KEYS = {
    **dict.fromkeys(("epochs", "num_epochs", "num_train_epochs", "n_epochs", "max_epochs"), "leave it out"),
    **dict.fromkeys(("max_steps", "num_steps", "total_steps"), "leave it out; data.limit shortens an epoch"),
    **dict.fromkeys(("learning_rate", "lr", "max_lr"), _LR),
    **dict.fromkeys(("min_lr", "lr_end", "min_lr_ratio", "cosine_min_lr_ratio"), "write space.decay_floor, an LR"),
    **dict.fromkeys(("warmup_ratio", "warmup_steps", "warmup"), "write space.warmup_fraction, a part of all steps"),
    **dict.fromkeys(("lr_scheduler", "lr_scheduler_type", "scheduler"), "write training.schedule.shape"),
    **dict.fromkeys(
        ("per_device_train_batch_size", "micro_batch_size", "train_batch_size", "per_device_batch_size"), _BATCH
    ),
    **dict.fromkeys(("gradient_accumulation_steps", "grad_accum"), "write training.gradient_accumulation"),
    **dict.fromkeys(("max_seq_length", "max_length", "sequence_len", "cutoff_len", "block_size"), _LENGTH),
    **dict.fromkeys(("gradient_clip_val", "grad_clip", "clip_grad_norm"), "write training.max_grad_norm"),
    **dict.fromkeys(("adam_beta1", "adam_beta2", "adam_epsilon"), "write training.beta1, beta2 or eps"),
    **dict.fromkeys(("bf16", "fp16", "tf32"), "write training.precision"),
    **dict.fromkeys(("optimizer", "optim"), "write training.optimizer: adamw or adamw_8bit"),
    **dict.fromkeys(("lora_r", "rank", "lora_rank"), "write model.lora.r, or space.lora_r to search it"),
    **dict.fromkeys(("lora_alpha", "lora_dropout"), "write model.lora.alpha or dropout"),
    **dict.fromkeys(("lora_target_modules", "lora_target"), "write model.lora.target_modules"),
    **dict.fromkeys(("base_model", "model_name_or_path", "model_name"), "write model.name"),
    **dict.fromkeys(("datasets", "dataset", "train_file", "data_path"), "write data.train"),
    **dict.fromkeys(("val_set_size", "eval_dataset", "validation", "test_datasets"), "name files under heldout.areas"),
    **dict.fromkeys(("n_trials", "num_samples", "count", "run_cap"), _TRIALS),
    **dict.fromkeys(("output_dir", "out_dir", "save_dir"), "write storage_path, and name for the folder in it"),
    **dict.fromkeys(
        ("eval_steps", "save_steps", "evals_per_epoch", "saves_per_epoch"), "write training.checkpoints_at"
    ),
    **dict.fromkeys(("parameters", "search_space", "hyperparameters"), "write space"),
    **dict.fromkeys(("wandb_project", "wandb_entity"), "write wandb.project or wandb.entity"),
    **dict.fromkeys(("report_to", "enabled", "wandb_mode"), "write wandb.mode: disabled, offline, online or auto"),
    **dict.fromkeys(("log_model", "wandb_log_model"), "write wandb.artifacts: true or false"),
    **dict.fromkeys(("group", "run_name", "run_group", "wandb_name", "study_name"), "write name: runs are named by it"),
    **dict.fromkeys(("early_terminate", "early_stopping", "early_stopping_patience", "pruner"), _STOPPING),
    **dict.fromkeys(("metric", "metric_for_best_model", "goal", "direction"), "write objective.metric"),
    **dict.fromkeys(("timeout", "time_budget", "time_budget_s", "max_time"), "write budget.device_hours"),
    **dict.fromkeys(("logging_steps", "log_every_n_steps", "log_interval"), "leave it out; every step is logged"),
    **dict.fromkeys(("sample_packing", "packing", "group_by_length"), "leave it out; batches hold no padding"),
    **dict.fromkeys(("save_total_limit", "load_best_model_at_end"), "write resources.keep_checkpoints"),
    **dict.fromkeys(("num_workers", "n_jobs", "max_concurrent", "max_concurrent_trials"), _WORKERS),
    **dict.fromkeys(("load_in_4bit", "load_in_8bit", "quantization", "quantization_bit"), "write model.quantize: nf4"),
    **dict.fromkeys(("torch_dtype", "dtype"), "write training.precision"),
    **dict.fromkeys(("betas", "adam_betas"), "write training.beta1 and training.beta2"),
    **dict.fromkeys(("gpus", "num_gpus", "n_gpus", "devices", "nproc_per_node"), _WORKERS),
    **dict.fromkeys(("per_device_eval_batch_size", "eval_batch_size"), "write heldout.batch_tokens"),
    **dict.fromkeys(("deepspeed", "fsdp"), "write resources.shard"),
    **dict.fromkeys(("defaults", "hydra", "_target_"), "leave it out; a config is one file"),
    "method": "write search.sampler; how the model is tuned is model.method",
}
RULES = {
    **dict.fromkeys(("epochs", "num_epochs", "num_train_epochs", "n_epochs", "max_epochs"), ONE_EPOCH),
    **dict.fromkeys(("max_steps", "num_steps", "total_steps"), ONE_EPOCH),
    **dict.fromkeys(("optimizer", "optim"), "the optimizer is AdamW"),
}

# By value, in lower case: what to write instead.
VALUES = {
    **dict.fromkeys(("bayes", "bayesian", "gpsampler"), "write gp"),
    "tpesampler": "write tpe",
    "hyperband": "write asha",
    "qlora": "write lora, and model.quantize: nf4",
    "dora": "write lora, or full; DoRA is not among them",
    **dict.fromkeys(("4bit", "int4", "bnb", "bitsandbytes"), "write nf4"),
    **dict.fromkeys(("adamw_torch", "adamw_hf", "adamw_torch_fused"), "write adamw"),
    **dict.fromkeys(("paged_adamw_8bit", "adamw_bnb_8bit"), "write adamw_8bit"),
    **dict.fromkeys(("float32", "32", "32-true"), "write fp32"),
    **dict.fromkeys(("openai", "chatml", "chat", "chat_template"), "write messages"),
    **dict.fromkeys(("json", "jsonl", "csv", "parquet"), "write auto: the file's name says what it is"),
    **dict.fromkeys(("completion", "pretrain", "pretraining"), "write text"),
}
METRICS = {
    **dict.fromkeys(("loss", "eval_loss", "val_loss", "validation_loss", "perplexity", "ppl"), "nll"),
    **dict.fromkeys(("em", "accuracy", "acc"), "exact_match"),
    "f1": "token_f1",
}

# Search-space names by the section of the key that fixes them.
_SEARCHED: dict[Place, dict[str, str]] = {
    ("training",): {name: name for name in SEARCHABLE_TRAINING},
    ("training", "schedule"): {key: name for name, key in SEARCHABLE_SCHEDULE.items()},
    ("model", "lora"): {key: name for name, key in SEARCHABLE_LORA.items()},
}
# Of the forms in which other tools write a range: its ends, a list of values, and what else stands beside them.
_LOW, _HIGH = ("min", "lower", "start"), ("max", "upper", "stop", "end")
_LISTS = ("values", "choices", "grid_search", "categories")
_FOREIGN = {
    *(*_LOW, *_HIGH, *_LISTS),
    *("value", "distribution", "step", "type", "q", "prior", "mu", "sigma", "mean", "std", "probabilities"),
}


def foreign_range(value: dict[str, Any]) -> tuple[str, str, str] | None:
    """Rule, finding and remedy for a range that is written as another tool has it; None for our own form."""
    foreign = [key for key in value if key in _FOREIGN]
    if not foreign:
        return None
    got = ", ".join(f"{key}={value[key]}" for key in foreign)
    if listed := next((key for key in _LISTS if key in value), None):
        return "numbers are searched in a range, never among values", got, range_over(value[listed])
    if "value" in foreign and {*foreign} <= {"value", "distribution", "type"}:
        return "a fixed number stands alone", got, f"write {value['value']}"
    # An override is put on top of the config's own range: what the user writes now counts.
    low = next((value[key] for key in (*_LOW, "low") if key in value), "…")
    high = next((value[key] for key in (*_HIGH, "high") if key in value), "…")
    scale = value.get("distribution")
    is_log = "log" in str(scale) if scale is not None else value.get("log") is True
    remedy = f"write {{low: {low}, high: {high}{', log: true' if is_log else ''}}}"
    if "step" in value or "q" in value:
        return "a range has no step: every number in it may be tried", got, remedy
    return "a range is written with low, high and log", got, remedy


def foreign_choices(value: dict[str, Any]) -> tuple[str, str] | None:
    """Finding and remedy for names that are listed as another tool does it; None for another form."""
    listed = next((key for key in _LISTS if isinstance(value.get(key), list)), None)
    if listed is None:
        return None
    return f"{listed}={value[listed]}", f"write {{choices: [{', '.join(map(str, value[listed]))}]}}"


def range_over(values: Any) -> str:
    """The remedy for a list of numbers where a range is meant."""
    numbers = [value for value in values if isinstance(value, int | float)] if isinstance(values, list) else []
    if len(set(numbers)) < 2:
        return "write {low: …, high: …}, or one number"
    return f"write {{low: {min(numbers)}, high: {max(numbers)}}} (log: true for a log scale), or one number"


def searched_name(place: Place) -> str | None:
    """The search-space name of the key at a place; None where it can't be searched."""
    return _SEARCHED.get(place[:-1], {}).get(str(place[-1])) if place else None
