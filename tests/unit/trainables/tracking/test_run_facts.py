"""What a tracked run is called, its resolved config, and the metrics over all areas."""

from typing import Any

import pytest

from trainables.config.sections import ModelConfig, TrainingConfig
from trainables.config.trial_spec import TrialSpec
from trainables.evaluation.objective import Measure
from trainables.tracking.run_facts import best_objective, mean_row, resolved_config, run_name


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ({"params": {"peak_lr": 7.61e-4}}, "demo · 7.6e-4 · t0003"),
        ({"params": {}}, "demo · t0003"),
        (
            {"params": {"peak_lr": 2e-3}, "kind": "replicate", "replicate_of": "t0001", "seed": 5},
            "demo · 2.0e-3 · t0003 · replicate of t0001, seed 5",
        ),
    ],
)
def test_a_run_is_named_by_sweep_lr_and_trial(spec: dict[str, Any], name: str) -> None:
    assert run_name("demo", TrialSpec.model_validate({"trial_id": "t0003", "seed": 0, **spec})) == name


@pytest.mark.parametrize(("method", "rank"), [("lora", 8), ("full", None)])
def test_the_config_has_the_trials_own_values(method: Any, rank: int | None) -> None:
    model = ModelConfig(name="m", method=method)
    params = {"peak_lr": 1e-3, "batch_size": 4.0, "schedule_shape": "cosine", "lora_r": 8.0}
    found = resolved_config(model, TrainingConfig(), params, {"train": "abc"})
    assert (found["training"]["batch_size"], found["training"]["schedule"]["shape"]) == (4, "cosine")
    assert found.get("lora", {}).get("r") == rank
    assert (found["model"], found["method"], found["data_sha256"]) == ("m", method, {"train": "abc"})


AREAS = {"a": {"nll": 1.0, "exact_match": 0.5}, "b": {"nll": 3.0, "exact_match": 0.2}}


@pytest.mark.parametrize(
    ("areas", "metric", "expected"),
    [
        (AREAS, "nll", {"heldout/loss": 1.5, "objective": 1.5}),
        (AREAS, "exact_match", {"heldout/loss": 1.5, "objective": 0.425}),
        ({**AREAS, "b": {"nll": 3.0, "exact_match": None}}, "exact_match", {"heldout/loss": 1.5}),
        ({**AREAS, "b": {"nll": float("nan")}}, "nll", {}),
    ],
)
def test_means_are_by_weight_and_what_is_not_known_is_left_out(areas: Any, metric: str, expected: Any) -> None:
    assert mean_row(areas, {"a": 3.0, "b": 1.0}, Measure(metric)) == pytest.approx(expected)


def test_the_best_objective_is_the_lowest_loss_or_the_highest_share() -> None:
    rows = [{"objective": 0.2}, {"objective": 0.4}, {"heldout/loss": 9.0}]
    assert best_objective(rows, Measure()) == 0.2
    assert best_objective(rows, Measure("exact_match")) == 0.4
    assert best_objective([{}], Measure()) is None
