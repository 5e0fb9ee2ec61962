"""A user of W&B, Optuna or Axolotl is told how the same is written here."""

import pytest

from sweeps.config.habits import KEYS, RULES, foreign_range
from sweeps.config.sweep_config import SweepConfig, load_config
from trainables.errors import UserError, UserErrors

SAMPLER = "search.sampler: must be 'auto', 'gp', 'tpe', 'cmaes', 'random', 'grid' or 'qmc', got"
METRIC = "objective.metric: must be nll or a scorer of every selecting area; home has exact_match, token_f1, got"
ONE_EPOCH = "a trial is one epoch by design: each sample is seen once"


@pytest.mark.parametrize(
    ("override", "line"),
    [
        # Lists and choices.
        (
            "space.batch_size=[2, 4, 8]",
            "space.batch_size: must be a number or {low, high, log}, got [2, 4, 8]; a list is",
        ),
        (
            "space.peak_lr=[1e-4, 1e-3]",
            "space.peak_lr: must be a number or {low, high, log}, got [0.0001, 0.001]; a list",
        ),
        (
            "space.schedule_shape=[linear, wsd]",
            "space.schedule_shape: must be a name or {choices: [a, b]}, got ['linear'",
        ),
        (
            "training.batch_size=[2, 4]",
            "training.batch_size: must be a whole number, got [2, 4]; give one value here; to",
        ),
        (
            "training.schedule.shape=[linear, wsd]",
            "training.schedule.shape: must be 'linear', 'cosine', 'step' or 'wsd'",
        ),
        (
            "model.lora.r={low: 4, high: 8}",
            "model.lora.r: must be a whole number, got {'low': 4, 'high': 8}; give one value",
        ),
        (
            "model.lora.target_modules=q,v",
            "model.lora.target_modules: must be 'all-linear' or a list, got q,v; known are",
        ),
        # Ranges of other tools.
        (
            "space.batch_size={values: [2, 8]}",
            "space.batch_size: numbers are searched in a range, never among values, got",
        ),
        (
            "space.lora_r={low: 4, high: 8, step: 4}",
            "space.lora_r: a range has no step: every number in it may be tried,",
        ),
        (
            "space.weight_decay={min: 0, max: 0.1}",
            "space.weight_decay: a range is written with low, high and log, got min=0",
        ),
        (
            "space.weight_decay={value: 0.1}",
            "space.weight_decay: a fixed number stands alone, got value=0.1; write 0.1",
        ),
        # On top of the config's own range: what is written now counts.
        ("space.peak_lr={min: 2e-4, max: 3e-4}", "space.peak_lr: a range is written with low, high and log, got min="),
        (
            "space.batch_size={choices: [2, 8]}",
            "space: batch_size must be a number or {low, high, log}, got choices=[2, 8]; write",
        ),
        (
            "space.schedule_shape={values: [linear, wsd]}",
            "space: schedule_shape must be a name or {choices: [a, b]}, got values=['linear', 'wsd']; write {choices:",
        ),
        # What is not searched.
        ("space.epochs=[1, 2]", f"space: {ONE_EPOCH}, got epochs; leave it out"),
        (
            "space.gradient_checkpointing=[true, false]",
            "space: is not a searchable hyper-parameter, got gradient_check",
        ),
        ("space.r=8", "space: is not a searchable hyper-parameter, got r; did you mean lora_r?"),
        (
            "space.learning_rate=1e-4",
            "space: is not a searchable hyper-parameter, got learning_rate; give a range to space.",
        ),
        # Keys.
        ("training.epochs=3", f"training.epochs: {ONE_EPOCH}, got epochs; leave it out"),
        ("num_train_epochs=3", f"num_train_epochs: {ONE_EPOCH}, got num_train_epochs; leave it out"),
        ("training.max_steps=9", f"training.max_steps: {ONE_EPOCH}, got max_steps; leave it out; data.limit shortens"),
        ("training.optimizer=lion", "training.optimizer: must be 'adamw' or 'adamw_8bit', got lion; known are adamw"),
        ("training.optim=lion", "training.optim: the optimizer is AdamW, got optim; write training.optimizer: adamw"),
        ("learning_rate=1e-4", "learning_rate: unknown key, got learning_rate; give a range to space.peak_lr"),
        ("search.n_trials=4", "search.n_trials: unknown key, got n_trials; write search.trials"),
        ("training.batch-size=4", "training.batch-size: unknown key, got batch-size; did you mean batch_size?"),
        ("model.load_in_4bit=true", "model.load_in_4bit: unknown key, got load_in_4bit; write model.quantize: nf4"),
        (
            "training.betas=[0.9, 0.95]",
            "training.betas: unknown key, got betas; write training.beta1 and training.beta2",
        ),
        ("training.seed=3", "training.seed: unknown key, got seed; did you mean seed at the top level?"),
        ("trials=8", "trials: unknown key, got trials; did you mean search.trials?"),
        ("data.batch_size=8", "data.batch_size: unknown key, got batch_size; did you mean training.batch_size?"),
        ("peak_lr=1e-4", "peak_lr: unknown key, got peak_lr; did you mean space.peak_lr?"),
        # Names of values.
        (
            "search.sampler=TPE",
            f"{SAMPLER} TPE; did you mean tpe?",
        ),
        (
            "search.sampler=bayes",
            f"{SAMPLER} bayes; write gp",
        ),
        ("model.method=LoRA", "model.method: must be 'lora' or 'full', got LoRA; did you mean lora?"),
        (
            "model.method=qlora",
            "model.method: must be 'lora' or 'full', got qlora; write lora, and model.quantize: nf4",
        ),
        (
            "training.optimizer=adamw_torch",
            "training.optimizer: must be 'adamw' or 'adamw_8bit', got adamw_torch; write adamw",
        ),
        ("training.precision=32", "training.precision: must be 'auto', 'fp32' or 'bf16', got 32; write fp32"),
        (
            "objective.metric=EM",
            f"{METRIC} EM; did you mean exact_match?",
        ),
        (
            "objective.metric=eval_loss",
            f"{METRIC} eval_loss; did you mean nll?",
        ),
        # Hydra's marks.
        ("++seed=3", "arguments: an override must begin with a key, got ++seed=3; leave out the ++"),
        # Booleans.
        (
            "training.gradient_checkpointing=1",
            "training.gradient_checkpointing: must be true or false, got 1; write true",
        ),
        ("space.batch_size=true", "space.batch_size: must be a number or {low, high, log}, got true; give a number"),
        (
            "wandb=on",
            "wandb: must be a section with keys of its own, got on; leave it out: it is on",
        ),
        ("wandb.tags.0=a", "wandb.tags: must be a list, got {'0': 'a'}; give the whole list: wandb.tags=[a]"),
        (
            "search.pruner=none",
            "search.pruner: unknown key, got pruner; write search.trial_scheduler: it",
        ),
        ("more_data=true", "more_data: must be a section with keys of its own, got true; its keys are subsets"),
    ],
)
def test_what_other_tools_write_is_one_line_with_our_way(small, override, line):
    with pytest.raises((UserError, UserErrors)) as caught:
        load_config(small, [override])
    assert len(getattr(caught.value, "errors", [caught.value])) == 1
    assert str(caught.value).startswith(line), str(caught.value)


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ({"values": [8, 2, 4]}, "write {low: 2, high: 8} (log: true for a log scale), or one number"),
        ({"values": ["a"]}, "write {low: …, high: …}, or one number"),
        (
            {"min": 1e-5, "max": 1e-3, "distribution": "log_uniform_values"},
            "write {low: 1e-05, high: 0.001, log: true}",
        ),
        ({"lower": 1, "upper": 4}, "write {low: 1, high: 4}"),
        ({"low": 4, "high": 16, "step": 4}, "write {low: 4, high: 16}"),
        ({"type": "float", "low": 1, "high": 2, "log": True}, "write {low: 1, high: 2, log: true}"),
        ({"distribution": "normal", "mu": 0}, "write {low: …, high: …}"),
        ({"distribution": "constant", "value": 3}, "write 3"),
        ({"low": 4, "high": 16, "log": True, "min": 1, "max": 2}, "write {low: 1, high: 2, log: true}"),
        ({"grid_search": [2, 4]}, "write {low: 2, high: 4} (log: true for a log scale), or one number"),
    ],
)
def test_a_foreign_range_is_written_out_in_our_form(given, remedy):
    assert foreign_range(given)[2] == remedy


def test_our_own_range_is_not_foreign_and_every_rule_has_a_remedy():
    assert foreign_range({"low": 1, "high": 2, "log": True}) is None
    assert RULES.keys() <= KEYS.keys()
    assert not KEYS.keys() & SweepConfig.model_fields.keys()
