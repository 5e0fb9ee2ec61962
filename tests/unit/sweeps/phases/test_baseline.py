"""Is fine-tuning needed? The base model's scores against what the user calls enough."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from sweeps.phases.baseline import is_enough
from trainables.errors import UserError, UserErrors

AREAS = {
    "home": {"nll": 0.5, "exact_match": 0.9, "token_f1": 0.95, "items": 10},
    "away": {"nll": 1.5, "exact_match": 0.5, "token_f1": 0.7, "items": 10},
}


@pytest.fixture
def judge(load):
    def verdict(*overrides):
        config = load("heldout.areas.home.weight=3.0", "heldout.areas.away=away.jsonl", *overrides)
        shown = io.StringIO()
        sweep = SimpleNamespace(config=config, console=Console(file=shown))
        return is_enough(sweep, AREAS), shown.getvalue()

    return verdict


@pytest.mark.parametrize(
    ("enough", "stops"),
    [
        ("{metric: exact_match, value: 0.8}", True),  # (3 x 0.9 + 0.5) / 4 = 0.8
        ("{metric: exact_match, value: 0.81}", False),
        ("{metric: nll, value: 0.75}", True),  # (3 x 0.5 + 1.5) / 4
        ("{metric: nll, value: 0.74}", False),
        ("{metric: exact_match, value: 0.9, area: home}", True),
        ("{metric: exact_match, value: 0.9, area: away}", False),
    ],
)
def test_a_score_is_enough_from_its_value_on(judge, enough, stops):
    found, shown = judge(f"objective={{statement: Answer better than before., enough: {enough}}}")
    assert found is stops
    assert ("fine-tuning is not needed" in shown.replace("\n", " ")) is stops


def test_the_sweep_goes_on_where_nothing_is_asked_and_says_so_where_the_config_wants_it(judge):
    assert judge() == (False, "")
    enough = "{statement: Answer better., enough: {metric: nll, value: 9.0}, when_enough: continue}"
    found, shown = judge(f"objective={enough}")
    assert found is False
    assert "enough, but objective.when_enough=continue" in shown.replace("\n", " ")


def test_an_unknown_metric_is_a_clear_error(judge):
    with pytest.raises(UserError, match=r"area home must have it, got accuracy; it has exact_match, nll, token_f1"):
        judge("objective={statement: Answer better., enough: {metric: accuracy, value: 0.5}}")


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            ["objective.enough={metric: nll, value: 1, area: hom}"],
            "objective.enough.area: must be a held-out area that selects",
        ),
        (
            ["objective.enough={metric: exact_match, value: 1}", "heldout.answers_at=[last]"],
            "objective.enough.metric: needs answers of the base model, got exact_match; add base",
        ),
    ],
)
def test_what_cannot_be_scored_is_refused_before_anything_starts(judge, overrides, line):
    with pytest.raises(UserErrors) as caught:
        judge("objective={statement: Answer better.}", *overrides)
    assert str(caught.value).startswith(line)
