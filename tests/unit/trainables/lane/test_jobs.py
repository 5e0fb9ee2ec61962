"""What a lane's jobs leave behind: base losses in the curve, and findings from the curve and the held-out items."""

import json
from pathlib import Path

import pytest

from tests.train_trial import train_trial
from tests.unit.trainables.lane.helpers import curve, lane_state_in
from tests.unit.trainables.training.helpers import trial
from trainables.evaluation.heldout_history import BASELINE_ITEMS
from trainables.lane.jobs import run_job


@pytest.fixture(scope="module")
def lane_state(tiny, data, tmp_path_factory):
    return lane_state_in(tmp_path_factory.mktemp("sweep"), tiny, data, items=30, checkpoints_at=[0.5, 1.0])


def do(lane_state, **work):
    return run_job(lane_state, work)


def train(lane_state, name, **params):
    spec = trial(**params).model_dump() | {"trial_id": name}
    return train_trial(lane_state, {"do": "trial", "spec": spec, "baseline": {}})


@pytest.fixture(scope="module")
def trials(lane_state):
    """A trial before the base losses are known, one with them, and one beside a base model that was far better."""
    before = train(lane_state, "before")
    do(lane_state, do="baseline", area="sums")
    folder = Path(lane_state.settings.output_dir)
    items = folder / BASELINE_ITEMS
    (folder / "trials" / "baseline" / "sums.jsonl").rename(items)  # as the driver leaves them
    do(lane_state, do="base_losses", cache=None)
    after = train(lane_state, "after")
    lines = [json.loads(line) for line in items.read_text().splitlines()]
    items.write_text("".join(json.dumps(line | {"nll": line["nll"] / 100}) + "\n" for line in lines))
    return {"before": before, "after": after, "worse": train(lane_state, "worse")}


def test_a_curve_holds_base_losses_once_they_are_known(lane_state, trials):
    before, after = curve(lane_state, "before"), curve(lane_state, "after")
    assert all((line["base_loss"], line["item_base_nll"]) == (None, None) for line in before)
    assert after[0]["base_loss"] == pytest.approx(after[0]["loss"], abs=1e-5)
    assert [line["item_nll"] for line in after] == [line["item_nll"] for line in before]
    for line in after:
        assert len(line["item_base_nll"]) == len(line["ids"])
    assert trials["after"]["state"] == "complete"


def test_an_area_worse_than_the_base_model_is_a_finding(trials):
    (finding,) = [finding for finding in trials["worse"]["findings"] if finding["rule"] == "forgetting"]
    assert (finding["evidence"]["area"], finding["evidence"]["items"], finding["step"]) == ("sums", 30, 11)
    after = trials["worse"]["checkpoints"][-1]["areas"]["sums"]["nll"]
    assert 0.5 * after < finding["evidence"]["rise_over_base_nats"] < after
    assert json.dumps(trials["worse"]["findings"], allow_nan=False)
    assert "forgetting" not in {finding["rule"] for finding in trials["after"]["findings"]}


def test_without_the_baselines_items_nothing_is_compared_with_it(trials):
    assert "forgetting" not in {finding["rule"] for finding in trials["before"]["findings"]}
