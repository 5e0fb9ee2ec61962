"""No value of a config or an override is taken for another."""

import json
import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.config import tree
from sweeps.config.sweep_config import SweepConfig, dump_config, load_config
from tests.unit.sweeps.helpers import SMALL
from trainables.errors import UserError, UserErrors

HOME = "/home/somebody"


def leaf(config, place):
    for part in place.split("."):
        config = config[part] if isinstance(config, dict) else getattr(config, part)
    return config


def loaded(small, text):
    small.write_text(text)
    return load_config(small)


@pytest.mark.parametrize(
    ("override", "place", "value"),
    [
        # Of a text, the text itself.
        ("objective=Beat run #7 with a lower floor", "objective.statement", "Beat run #7 with a lower floor"),
        ("objective=Answer well: no chatter", "objective.statement", "Answer well: no chatter"),
        ("objective={statement: a b, metric: nll}", "objective.statement", "a b"),
        ("objective=[draft] of it", "objective.statement", "[draft] of it"),
        (
            r"data.template=<human>: {prompt}\n<bot>: {response}",
            "data.template",
            r"<human>: {prompt}\n<bot>: {response}",
        ),
        ("heldout.areas.home=set #2.jsonl", "heldout.areas.home.path", "set #2.jsonl"),
        ("heldout.areas.home.path=a: b.jsonl", "heldout.areas.home.path", "a: b.jsonl"),
        ("storage_path=/tmp/x [v2] k=1", "storage_path", "/tmp/x [v2] k=1"),
        ("name=007", "name", "007"),
        ("name=no", "name", "no"),
        ("name=1e5", "name", "1e5"),
        ("name='007'", "name", "007"),
        ('storage_path="/tmp/a [/b] c"', "storage_path", "/tmp/a [/b] c"),
        ("model.revision=1234567", "model.revision", "1234567"),
        ("model.revision=null", "model.revision", None),
        ("parent=", "parent", None),
        (r"objective=costs \${5} a run", "objective.statement", "costs ${5} a run"),
        ("objective=costs 5$ a run", "objective.statement", "costs 5$ a run"),
        ("objective=keep $HOME and ~", "objective.statement", "keep $HOME and ~"),
        # Of a number, the number.
        ("search.trials=0x10", "search.trials", 16),
        ("search.trials=8 # fewer", "search.trials", 8),
        ("search.trials= 8", "search.trials", 8),
        ("space.decay_floor=1e-5", "space.decay_floor", 1e-5),
        ("resources.lanes=2", "resources.lanes", 2),
        ("training.gradient_checkpointing=yes", "training.gradient_checkpointing", True),
        # Into lists, sections and short forms.
        ("training.checkpoints_at.0=0.25", "training.checkpoints_at", [0.25, 1.0]),
        ("training.checkpoints_at[0]=0.25", "training.checkpoints_at", [0.25, 1.0]),
        ("heldout.areas[home].limit=3", "heldout.areas.home.path", "home.jsonl"),
        ("objective.when_enough=continue", "objective.statement", "Answer."),
        ("objective={when_enough: continue}", "objective.statement", "Answer."),
        ("x-anything=1", "name", "small"),
        # Home, as for a model and a storage path.
        ("data.train=~/train.jsonl", "data.train", f"{HOME}/train.jsonl"),
        ("heldout.areas.home=~/home.jsonl", "heldout.areas.home.path", f"{HOME}/home.jsonl"),
        ("search.warm_start=[~/before]", "search.warm_start", [f"{HOME}/before"]),
        ("parent=~/before", "parent", f"{HOME}/before"),
        ("storage_path=~/out", "storage_path", f"{HOME}/out"),
        # W&B off.
        ("wandb=off", "wandb.mode", "disabled"),
        ("wandb=false", "wandb.mode", "disabled"),
        ("wandb=null", "wandb.mode", "disabled"),
        ("wandb=offline", "wandb.mode", "offline"),
        ("wandb=", "wandb.mode", "auto"),
        ("mlflow=off", "mlflow.tracking_uri", None),
        ("mlflow=null", "mlflow.tracking_uri", None),
    ],
)
def test_an_override_means_what_it_says_and_loads_again(small, tmp_path, monkeypatch, override, place, value):
    monkeypatch.setenv("HOME", HOME)
    data = {**SMALL, "training": {"checkpoints_at": [0.5, 1.0]}}
    small.write_text(yaml.safe_dump(data))
    config = load_config(small, [override])
    assert leaf(config, place) == value
    again = tmp_path / "sweep.yaml"
    again.write_text(dump_config(config))
    assert load_config(again) == config


@pytest.mark.parametrize(
    ("override", "line"),
    [
        (
            "space.peak_lr.low=01e-3",
            "space.peak_lr.low: must be a number, got '01e-3'; leave out the leading zero: 1e-3",
        ),
        ("data.limit=50%", "data.limit: must be a whole number, got '50%'; give a number"),
        (
            "data.limit=None",
            "data.limit: must be a whole number, got 'None'; give a number; where none is needed",
        ),
        ("space.peak_lr=", "space.peak_lr: must be a number or {low, high, log}, got nothing; give it a value, or"),
        ("space.peak_lr={low:1e-5}", "space.peak_lr.low:1e-5: unknown key, got low:1e-5; put a space behind the colon"),
        ("search.seed_points=none", "search.seed_points: must be 'recommended' or a list, got none; write [] for none"),
        (
            "search.seed_points={peak_lr: 1e-4}",
            "search.seed_points: must be 'recommended' or a list, got {peak_lr: 1e-4}; write [{peak_lr: 1e-4}]",
        ),
        (
            "search.seed_points=[{peak_lr: '1e-4'}]",
            "search.seed_points[0].peak_lr: must be a number, got '1e-4'; leave out the quotes: 1e-4",
        ),
        ("training.checkpoints_at=4", "training.checkpoints_at: must be a list, got 4; write fractions of the epoch"),
        ("model.lora.target_modules=[]", "model.lora.target_modules: must name a module, got []"),
        (
            "heldout.areas=[a.jsonl]",
            "heldout.areas: must be a section with keys of its own, got ['a.jsonl']; give each a",
        ),
        (
            "resources.keep_checkpoints=0",
            "resources.keep_checkpoints: must be 1 or more, got 0; give a positive number or all",
        ),
        ("storage_path=''", "storage_path: must name a folder, got an empty text; write . for the current one"),
        (
            "storage_path=$(pwd)/x",
            "storage_path: $(pwd) is not replaced in a config, got $(pwd)/x; write what it stands",
        ),
        ("storage_path=%HOME%/x", "storage_path: %HOME% is not replaced in a config"),
        ("data.train={{ data }}/a.jsonl", "data.train: {{ data }} is not replaced in a config"),
        (
            "data.train=C:\\a.jsonl",
            "data.train: a path of Windows names nothing here, got C:\\a.jsonl; write it as this",
        ),
        (
            "notify.webhook=https://hooks.slack.com/services/T0/B0/abcdefgh",
            "notify.webhook: must hold no credential: the config is written to many places, got "
            "https://hooks.slack.com/services/***; export it as NAME, and write webhook: env:NAME",
        ),
        (f"seed={2**63}", "seed: input should be less than or equal to 4611686018427387904, got 9223372036854775808"),
        ("seed=１", "seed: must be a whole number, got '１'; give a number in the digits 0 to 9"),
        ("storage_path= /tmp", "storage_path: a path must not begin or end with white space, got ' /tmp'; write /tmp"),
        ("data.train=a\r", r"data.train: a path must not begin or end with white space, got 'a\r'; write a"),
        ("storage_path=s3:/b/x", "storage_path: a URL needs two slashes, got s3:/b/x; write s3://…, or ./s3:/b/x for"),
        ("data.limit=016", "data.limit: must be a whole number, got '016'; leave out the leading zero: 16"),
        ("data.limit=1:30", "data.limit: must be a whole number, got '1:30'"),
        ("data.limit=1,000", "data.limit: must be a whole number, got '1,000'; write 1000"),
        ("data.limit=1k", "data.limit: must be a whole number, got '1k'; write 1000"),
        ("data.limit=1e3", "data.limit: must be a whole number, got 1e3; write 1000"),
        (
            "space.warmup_fraction=5%",
            "space.warmup_fraction: must be a number or {low, high, log}, got '5%'; write 0.05",
        ),
        (
            "space.decay_floor='4e-5'",
            "space.decay_floor: must be a number or {low, high, log}, got '4e-5'; leave out the quotes: 4e-5",
        ),
        ("space.decay_floor=.nan", "space.decay_floor: must be a finite number, got .nan"),
        ("space.peak_lr={low: 5e-5, high: .inf}", "space.peak_lr.high: must be a finite number, got .inf"),
        ("space.peak_lr=1e400", "space.peak_lr: must be a finite number, got 1e400"),
        ("model.lora.alpha=.inf", "model.lora.alpha: must be a finite number, got .inf"),
        ("training.eps=.inf", "training.eps: must be a finite number, got .inf"),
        ("heldout.areas.home.weight=.inf", "heldout.areas.home.weight: must be a finite number, got .inf"),
        ("search.seed_points=[{peak_lr: .nan}]", "search.seed_points.0.peak_lr: must be a finite number, got .nan"),
        (
            "storage_path=$HOME/out",
            "storage_path: $HOME is not replaced in a config, got $HOME/out; write ${oc.env:HOME}, or",
        ),
        ("data.train=$DATA/a.jsonl", "data.train: $DATA is not replaced in a config"),
        ("wandb.project=$TEAM", "wandb.project: $TEAM is not replaced in a config"),
        ("storage_path=~nobody-knows/out", "storage_path: ~ must stand for a known home, got ~nobody-knows/out"),
        (
            "objective=costs ${COST}",
            "objective: ${COST} must name another key of the config, got costs ${COST}; for an environment var",
        ),
        (
            "objective=costs ${",
            "objective: ${…} must be a reference that can be followed, got costs ${; for these characters",
        ),
        (
            "objective=${oc.env:NO_SUCH}",
            "objective: names an environment variable that is not set, got NO_SUCH; export NO_SUCH=…",
        ),
        (
            "training.checkpoints_at.7=0.25",
            "training.checkpoints_at.7: must name one of the 2 entries of a list, from 0, got 7",
        ),
        ("search.trials={", "search.trials: must be valid YAML, got '{': "),
        ("name.x=1", "name: must be a text, got {'x': 1}; give one text"),
    ],
)
def test_what_would_be_taken_for_another_value_is_refused(small, override, line):
    small.write_text(yaml.safe_dump({**SMALL, "training": {"checkpoints_at": [0.5, 1.0]}}))
    with pytest.raises((UserError, UserErrors)) as caught:
        load_config(small, [override])
    assert str(caught.value).startswith(line), str(caught.value)


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        ("name: no", 'name: must be a text, got no; YAML reads no as false: quote it: "no"'),
        ("name: 2024", 'name: must be a text, got 2024; quote it: "2024"'),
        ("name: 1e5", 'name: must be a text, got 1e5; YAML reads 1e5 as 100000.0: quote it: "1e5"'),
        ("name: ~", "name: must be a text, got ~; give it a value"),
        (
            "wandb: {mode: off}",
            "wandb.mode: must be 'auto', 'online', 'offline' or 'disabled', got off; YAML reads off",
        ),
        (
            "heldout: {areas: {yes: a.jsonl}}",
            'heldout.areas.yes: a key must be a text, got yes in line 1, which YAML reads as true; quote it: "yes"',
        ),
        (
            "heldout: {areas: {2024: a.jsonl}}",
            "heldout.areas.2024: a key must be a text, got 2024 in line 1, which YAML reads as a number; quote it",
        ),
        ("heldout: {areas: {null: a.jsonl}}", "heldout.areas.null: a key must be a text"),
        ('objective: ""', "objective.statement: "),
        ("objective: 42", 'objective: must be a text, or a section with keys of its own, got 42; quote it: "42"'),
        ("objective: yes", 'objective: must be a text, or a section with keys of its own, got yes; quote it: "yes"'),
        ("\u200bseed: 3", "\\u200bseed: unknown key, got '\\u200bseed'; did you mean seed?"),
        ("\u00a0seed: 3", "\\xa0seed: unknown key, got '\\xa0seed'; did you mean seed?"),
        (
            "data: {train: a.jsonl, limit: 016}",
            "data.limit: must be a whole number, got '016'; leave out the leading zero: 16",
        ),
    ],
)
def test_yaml_shows_what_was_written(small, lines, line):
    key = lines.partition(":")[0]
    with pytest.raises(UserErrors) as caught:
        loaded(small, f"{lines}\n{yaml.safe_dump({k: v for k, v in SMALL.items() if k != key})}")
    assert str(caught.value).startswith(line), str(caught.value)


@pytest.mark.parametrize(
    ("lines", "place", "value"),
    [
        ("training:\n  # batch_size: 4", "training.batch_size", 8),
        ("search: ~", "search.trials", 12),
        ("data: {train: a.jsonl, fields: , limit: ~}", "data.fields.id", "id"),
        ("wandb:", "wandb.mode", "auto"),
        ("wandb: null", "wandb.mode", "disabled"),
        ("wandb: off", "wandb.mode", "disabled"),
        ("wandb: false", "wandb.mode", "disabled"),
        ("wandb: online", "wandb.mode", "online"),
        ('name: "007"', "name", "007"),
        ("name: 2024-05-01", "name", "2024-05-01"),
        (
            "x-lr: &lr {low: 1e-4, high: 1e-3}\nspace: {peak_lr: *lr, warmup_fraction: 0.05, decay_floor: 4e-5}",
            "space.peak_lr.low",
            1e-4,
        ),
        (
            "x-a: &a {low: 1e-4}\nspace: {peak_lr: {<<: *a, high: 1e-3}, warmup_fraction: 0.05, decay_floor: 4e-5}",
            "space.peak_lr.high",
            1e-3,
        ),
        ("seed: ${search.trials}\nsearch: {trials: 7}", "seed", 7),
    ],
)
def test_empty_sections_are_defaults_and_helper_blocks_are_let_through(small, lines, place, value):
    given = {line.partition(":")[0] for line in lines.splitlines()}
    config = loaded(small, f"{lines}\n{yaml.safe_dump({k: v for k, v in SMALL.items() if k not in given})}")
    assert leaf(config, place) == value


@pytest.mark.parametrize(
    ("lines", "got"),
    [
        ("objective: Be terse: no chatter", "in line 1, column 20; quote a text that holds a colon"),
        ("objective: @home", "in line 1, column 12; quote a text that begins so"),
        ("objective: *best*", "; define that anchor, or quote a text that begins with *"),
        ("objective: !now", "; quote a text that begins with !"),
        ("objective: 'tis", "; close the quotation marks"),
        ('objective: "Beat" it', "; quote the whole text"),
        ("seed:3", "in line 2, column 5; quote a text that holds a colon; behind a key's colon stands a space"),
        ("data:\n\ttrain: a.jsonl", "in line 2, column 1; write spaces in place of the tab"),
        ("objective: a\x07b", "got the character U+0007 in line 1; remove that character"),
    ],
)
def test_a_fault_of_yaml_gets_the_remedy_that_it_most_often_needs(small, lines, got):
    small.write_text(f"{lines}\nname: a\n")
    with pytest.raises(UserError) as caught:
        load_config(small)
    assert got in str(caught.value)
    assert "\n" not in str(caught.value)


def test_json_may_be_indented_by_tabs(small):
    text = json.dumps({**SMALL, "objective": "a\tb"}, indent="\t").replace(": ", ":\t")
    assert loaded(small, text).objective.statement == "a\tb"


@pytest.mark.parametrize(("name", "value"), [("WANDB_PROJECT", "team/project"), ("WANDB_TAGS", "t" * 65)])
def test_a_variable_that_wandb_would_refuse_is_named(small, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    small.write_text(yaml.safe_dump(SMALL))
    with pytest.raises(
        UserErrors, match=rf"^{name}: must .*; correct the environment variable, or set the config's key"
    ):
        load_config(small)
    key = name.removeprefix("WANDB_").lower()
    with pytest.raises(UserErrors, match=rf"^wandb\.{key}: must"):
        load_config(small, [f"wandb.{key}={value}" if key == "project" else f"wandb.{key}=[{value}]"])


def test_a_path_with_a_dollar_that_lies_there_is_meant_as_it_is(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("$data").mkdir()
    assert load_config(small, ["storage_path=$data"]).storage_path == "$data"


@pytest.mark.parametrize(
    ("environment", "overrides", "expected"),
    [
        ({}, [], ("llm-sweeps", [], "auto")),
        ({"WANDB_PROJECT": "p", "WANDB_TAGS": "a, b,"}, [], ("p", ["a", "b"], "auto")),
        ({"WANDB_PROJECT": "p", "WANDB_TAGS": "a"}, ["wandb.project=q", "wandb.tags=[]"], ("q", [], "auto")),
        ({"WANDB_DISABLED": "true"}, [], ("llm-sweeps", [], "disabled")),
        ({"WANDB_DISABLED": "1"}, ["wandb.mode=auto"], ("llm-sweeps", [], "disabled")),
        ({"WANDB_DISABLED": "true"}, ["wandb=offline"], ("llm-sweeps", [], "offline")),
        ({"WANDB_DISABLED": "false"}, [], ("llm-sweeps", [], "auto")),
        ({"WANDB_PROJECT": "p"}, ["wandb=off"], ("llm-sweeps", [], "disabled")),
    ],
)
def test_wandbs_variables_count_where_the_config_is_silent(small, monkeypatch, environment, overrides, expected):
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = load_config(small, overrides).wandb
    assert (found.project, found.tags, found.mode) == expected


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1).map(str.strip).filter(bool))
def test_any_text_is_written_and_read_as_itself(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(tree.write({"objective": {"statement": text}}), encoding="utf-8")
    assert tree.read(path, [], SweepConfig)[0] == {"objective": {"statement": text}}
