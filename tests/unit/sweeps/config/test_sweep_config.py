"""Every mistake of a config is one line that says where, which rule, what was found and what to do."""

import re
from pathlib import Path

import pytest

from sweeps.config.sweep_config import dump_config, load_config
from sweeps.folder.resume import resumed_config
from trainables.errors import UserError, UserErrors

CONFIGS = sorted(Path("conf").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_config_loads(path):
    assert load_config(path).name
    assert {path.stem for path in CONFIGS} >= {"lr_sweep", "lora_sweep", "demo", "smoke"}


def test_the_resolved_config_loads_again_as_the_same(small, tmp_path):
    config = load_config(small, ["space.lora_r={low: 4, high: 32}"])
    again = tmp_path / "sweep.yaml"
    again.write_text(dump_config(config))
    assert load_config(again) == config


@pytest.mark.parametrize(
    ("override", "where", "value"),
    [
        ("search.trials=3", ("search", "trials"), 3),
        ("space.peak_lr=1e-4", ("space", "peak_lr"), 1e-4),
        ("model.lora.r=8", ("model", "lora", "r"), 8),
        ("training.schedule.shape=cosine", ("training", "schedule", "shape"), "cosine"),
        ("data.limit=null", ("data", "limit"), None),
        ("objective.when_enough=continue", ("objective", "when_enough"), "continue"),
        ("heldout.areas.home.limit=5", ("heldout", "areas", "home", "limit"), 5),
    ],
)
def test_an_override_reaches_its_leaf(small, override, where, value):
    found = load_config(small, [override])
    for part in where:
        found = found[part] if isinstance(found, dict) else getattr(found, part)
    assert found == value


@pytest.mark.parametrize(
    ("override", "line"),
    [
        (
            "space.peak_lr={low: 2e-5, high: 5e-6}",
            "space.peak_lr: low must be below high, got low=2e-05 high=5e-06; swap them",
        ),
        ("serch.trials=3", "serch: unknown key, got serch; did you mean search?"),
        ("model.lora.rr=3", "model.lora.rr: unknown key, got rr; did you mean r?"),
        ("heldout.areas.home.wieght=2", "heldout.areas.home.wieght: unknown key, got wieght; did you mean weight?"),
        ("space.lora_rank=3", "space: is not a searchable hyper-parameter, got lora_rank; did you mean lora_r?"),
        ("model.method=lorra", "model.method: must be 'lora' or 'full', got lorra; did you mean lora?"),
        ("space.decay_floor=2e-3", "space: decay_floor must not exceed peak_lr"),
        ("space.warmup_fraction=1.5", "space: warmup_fraction must lie in 0 to below 1"),
        ("space.batch_size=0", "space.batch_size: input should be greater than or equal to 1, got 0"),
        ("space.batch_size={low: 2, high: 4.5}", "space.batch_size: must be whole numbers"),
        (
            "space.schedule_shape={choices: [linear, cosin]}",
            "space.schedule_shape: input should be 'linear', 'cosine', 'step' or 'wsd', got cosin; change it",
        ),
        (
            "space.schedule_shape={choices: [linear]}",
            "space.schedule_shape.choices: must have 2 or more, got ['linear']; add one",
        ),
        ("space.schedule_shape={choices: [wsd, wsd]}", "space.schedule_shape: must hold different choices"),
        ("space.schedule_shape={low: 1, high: 2}", "space: schedule_shape must be a name or {choices: [...]}"),
        ("space.lora_r={choices: ['8', '16']}", "space: lora_r must be a number or {low, high, log}"),
        ("space.lora_r={low: 4}", "space.lora_r.high: is required"),
        (
            "space.lora_r=[4, 8]",
            "space.lora_r: must be a number or {low, high, log}, got [4, 8]; a list is not searched: write {low: 4",
        ),
        (
            "space.decay_fraction={low: 0.1, high: 0.4}",
            "space.decay_fraction: does something only where schedule_shape is wsd, got linear; add wsd, or leave",
        ),
        (
            "space.template={choices: [a, b]}",
            "space: template can't be searched: losses a token of different templates",
        ),
        ("space.step_at={choices: [a, b]}", "space: is not a searchable hyper-parameter, got step_at"),
        (
            "search.seed_points=[{schedule_shape: step}]",
            "search.seed_points[0].schedule_shape: must be in the space, got schedule_shape",
        ),
        ("search.seed_points=[{peak_lr: 3.0}]", "search.seed_points[0].peak_lr: must lie in 5e-05 to 0.001, got 3"),
        ("search.seed_points=[{peek_lr: 3.0}]", "search.seed_points[0].peek_lr: must be in the space"),
        ("training.micro_batch_tokens=0", "training.micro_batch_tokens: input should be greater than or equal to 1"),
        ("training.batch_size=eight", "training.batch_size: must be a whole number, got 'eight'; give a number"),
        ("training.batch_size=true", "training.batch_size: must be a whole number, got true; give a number"),
        ("training.checkpoints_at=[0.5]", "training.checkpoints_at: must be ascending fractions that end with 1.0"),
        ("data.template='{response} {prompt}'", "data.template: must hold {prompt} before {response}"),
        ("data.template_args={tools: []}", "data.template_args: must leave tools to the data and to this program, got"),
        ("data.template_args=[1]", "data.template_args: must be a section with keys of its own, got [1]"),
        (
            "data={train: x.jsonl, template: '{prompt} {response}', chat_template: x.jinja}",
            "data.chat_template: must be left out with data.template, which is no chat template, got 'x.jinja'",
        ),
        ("resources.lanes=0", "resources.lanes: must be 1 or more, got 0"),
        (
            "resources.lanes=many",
            "resources.lanes: must be 'auto' or a whole number, got many; known are auto, or a number",
        ),
        ("resources.trials_per_lane=0", "resources.trials_per_lane: must be 1 or more, got 0"),
        (
            "resources={workers_per_lane: 2, trials_per_lane: auto}",
            "resources.trials_per_lane: must be 1 where several workers share a trial, got auto",
        ),
        (
            "resources={shard: true}",
            "resources.shard: needs workers to share the weights out over, got workers_per_lane=1; set it to auto, or",
        ),
        (
            "resources={workers_per_lane: 2, shard: sometimes}",
            "resources.shard: must be 'auto', True or False, got sometimes; known are False, True, auto",
        ),
        (
            "name=../elsewhere",
            "name: must be letters, digits, `.`, `_` and `-`, a letter or digit first, got ../elsewhere",
        ),
        ("model.name=null", "model.name: must be a text, got null; give it a value, or leave the key out"),
        ("space.peak_lr=high", "space.peak_lr: must be a number or {low, high, log}, got 'high'"),
    ],
)
def test_a_mistake_is_one_clear_line(small, override, line):
    with pytest.raises(UserErrors) as caught:
        load_config(small, [override])
    assert len(caught.value.errors) == 1
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "rule"),
    [
        ("training.optimizer=adamw_8bit", "training.optimizer: must be adamw where workers share the weights out"),
        ("training.compile=true", "training.compile: must be false where workers share the weights out"),
    ],
)
def test_what_was_not_tried_with_shared_weights_is_refused(small, override, rule):
    overrides = ["model.method=full", override, "resources.workers_per_lane=2"]
    with pytest.raises(UserErrors, match=rule):
        load_config(small, overrides)
    load_config(small, [*overrides, "resources.shard=false"])


def test_all_mistakes_are_reported_in_one_go(small):
    wrong = ["serch=1", "model.lora.r=0", "space.peak_lr={low: 3, high: 2}", "training.eps=0", "name=''"]
    with pytest.raises(UserErrors) as caught:
        load_config(small, wrong)
    found = {error.where for error in caught.value.errors}
    assert found == {"serch", "model.lora.r", "space.peak_lr", "training.eps", "name"}


def test_settings_that_exclude_each_other_are_refused(small):
    """Recomputing would draw dropout anew; a full fine-tune has no adapter."""
    wanted = ["training.gradient_checkpointing=true", "space.lora_dropout={low: 0.0, high: 0.1}"]
    assert load_config(small, wanted).resources.trials_per_lane == 1
    with pytest.raises(UserErrors, match=r"resources\.trials_per_lane: must be 1 where activations are recomputed"):
        load_config(small, [*wanted, "resources.trials_per_lane=4"])
    with pytest.raises(UserErrors, match=r"space\.lora_r: is read only with model\.method=lora"):
        load_config(small, ["model.method=full", "space.lora_r={low: 4, high: 8}"])


def test_choices_load_again_and_keep_trials_of_other_layers_apart(small, tmp_path):
    modules, shape = "space.target_modules={choices: [all-linear, [q_proj, v_proj]]}", "space.schedule_shape=cosine"
    config = load_config(small, [modules, shape])
    assert config.space.choices() == {"target_modules": ("all-linear", "q_proj,v_proj"), "schedule_shape": ("cosine",)}
    again = tmp_path / "sweep.yaml"
    again.write_text(dump_config(config))
    assert load_config(again) == config
    with pytest.raises(UserErrors, match=r"resources\.trials_per_lane: must be 1 where target_modules is searched"):
        load_config(small, [modules, "resources.trials_per_lane=auto"])
    with pytest.raises(UserErrors, match=r"space\.target_modules: is read only with model\.method=lora"):
        load_config(small, [modules, "model.method=full"])
    with pytest.raises(UserErrors, match=r"target_modules: must be one of the choices, got q; known are"):
        load_config(small, [modules, "search.seed_points=[{target_modules: q}]"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [unclosed", "must be valid YAML"),
        ("- a\n- b\n", "must be a mapping"),
        ("name: a\n# b\nname: b\n", "name: must be valid YAML: a key may stand once, got name in lines 1 and 3"),
        ("name: a\n---\nname: b\n", "expected a single document in the stream but found another document in line 2"),
        ("name: &a [*a]\n", "an alias within its own anchor in line 1"),
        ("name: !!python/name:os.getcwd\n", "the unknown tag"),
        ("name: \x00\n", "must be valid YAML"),
        ("name: " + "[" * 5000, "brackets too deep to read"),
        ("name: " + "9" * 5000, "must be valid YAML"),
    ],
)
def test_a_file_that_is_no_config_is_said_to_be_none(small, text, message):
    small.write_text(text)
    with pytest.raises((UserError, UserErrors), match=message):
        load_config(small)


def test_a_missing_file_and_a_bare_override_are_said(small, tmp_path):
    with pytest.raises(UserError, match="must be a readable file, got No such file"):
        load_config(tmp_path / "none.yaml")
    for override in ("trials", "heldout.areas..limit=4", ".name=x", "name.=x", "heldout.areas[]=x", "name]=x", "=x"):
        with pytest.raises(UserError, match=f"an override must be key=value, got {re.escape(override)}"):
            load_config(small, [override])
    with pytest.raises(UserError, match=r"space.peak_lr: an empty mapping changes nothing, got \{\}; name the keys"):
        load_config(small, ["space.peak_lr={}"])


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (["objective.metric=exact_match"], None),
        (["objective.metric=nll", "heldout.answers_at=[]"], None),
        (["objective.metric=token_f1", "heldout.answers_at=[all]"], None),
        (
            ["objective.metric=exact_match", "heldout.answers_at=[last]"],
            r"heldout\.answers_at: .*got last; add base",
        ),
        (["objective.metric=exact_match", "heldout.answers_at=[base]"], r"got base; add last, or all"),
        (["objective.metric=token_f1", "heldout.answers_at=[]"], r"got none; add base and last, or all"),
        (["objective.metric=list_order"], r"objective\.metric: must be nll or a scorer of every selecting area"),
        (["objective.metric=''"], r"objective\.metric"),
    ],
)
def test_a_metric_that_decides_must_be_measured_where_it_decides(small, wanted, message):
    if message is None:
        assert load_config(small, wanted).objective.metric in wanted[0]
        return
    with pytest.raises(UserErrors, match=message):
        load_config(small, wanted)


OLD = "search: {trials: 16}\nconfirm: {budget: 0, rounds: 4}\n"


@pytest.mark.parametrize(
    ("own", "given", "trials", "budget", "looks", "seeds"),
    [
        (OLD, "", 16, 0, "every_round", 1),  # the user's own file states none of it
        (OLD, None, 16, 0, "every_round", 1),
        ("search: {trials: 20, seeds: 2}\nconfirm: {budget: 6, looks: auto}\n", "", 20, 6, "auto", 2),
        ("search: {trials: 12, seeds: 4}\nconfirm: {budget: auto, looks: auto}\n", "", 12, "auto", "auto", 4),
        ("", "", 16, 0, "every_round", 1),
        (OLD, "search: {trials: 18}\n", 18, 0, "every_round", 1),
    ],
)
def test_a_resumed_sweep_keeps_what_was_the_default_when_it_began(
    small, tmp_path, own, given, trials, budget, looks, seeds
):
    folder = tmp_path / "first"
    folder.mkdir()
    (folder / "plan.json").write_text("{}")
    (folder / "sweep.yaml").write_text(small.read_text() + own)
    theirs = tmp_path / "given.yaml"
    theirs.write_text(small.read_text() + (given or ""))
    config = resumed_config(folder, None if given is None else str(theirs), [])
    assert (config.search.trials, config.confirm.budget) == (trials, budget)
    assert config.data.train_on_template_text is True  # as labels were before that key
    assert (config.confirm.looks, config.search.seeds) == (looks, seeds)


@pytest.mark.parametrize(
    ("overrides", "allowed"),
    [
        (("search.trials=11", "resources.keep_checkpoints=1"), True),
        (("resources.keep_checkpoints=2",), False),
        (("resources.keep_checkpoints=2", "confirm.budget=0"), True),
        (("resources.keep_checkpoints=3",), True),
        (("resources.keep_checkpoints=3", "confirm.budget=16"), False),
    ],
)
def test_the_checkpoints_of_all_that_are_confirmed_are_kept(load, overrides, allowed):
    if allowed:
        assert load(*overrides)
        return
    with pytest.raises(UserErrors, match=r"keep_checkpoints: must be above the number of settings that are confirmed"):
        load(*overrides)


@pytest.mark.parametrize(
    "text",
    ["costs ${COST}", r"a \${b}", r"\\${b} $${c} ${", "$HOME", "???", "1e3", "007", "yes", "12:30", "x: # y", "~"],
)
def test_what_a_sweep_writes_it_reads_again(load, tmp_path, text):
    config = load()
    config = config.model_copy(update={"objective": config.objective.model_copy(update={"statement": text})})
    (tmp_path / "written.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "written.yaml") == config
