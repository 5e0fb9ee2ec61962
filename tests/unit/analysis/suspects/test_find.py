"""The command that lists training samples to look at, on a sweep's folder."""

import json

import numpy as np
import pytest

from analysis.suspects.__main__ import main
from analysis.suspects.find import find_suspects
from tests.unit.analysis.conftest import FakeTrial, write_training_curve, write_training_set
from trainables.errors import UserError

NAMES = [f"s{index}" for index in range(60)]
WRONG = "s17"


@pytest.fixture
def sweep(write_sweep):
    folder = write_sweep([FakeTrial("t1", {10: 0.5}), FakeTrial("t2", {10: 0.4}), FakeTrial("t3", state="diverged")])
    write_training_set(folder, NAMES)
    for number, trial in enumerate(["t1", "t2"]):
        write_training_curve(folder, trial, NAMES, np.random.default_rng(number), WRONG)
    # A trial that diverged says nothing of the samples.
    write_training_curve(folder, "t3", NAMES, np.random.default_rng(3), "s40", excess=50.0)
    return folder


def test_the_wrong_one_is_listed_with_its_text_and_with_base_losses_where_all_steps_have_them(sweep):
    found = find_suspects(sweep, top=3)
    assert len(found) == 3
    assert found[0].found.id == WRONG
    assert found[0].found.trials == 2
    assert found[0].found.kind == "number"
    assert found[0].response == "17 million"
    assert found[0].found.excess_nats == pytest.approx(3.0, abs=0.5)
    assert "s40" not in [suspect.found.id for suspect in found if suspect.found.excess_nats > 1]
    write_training_curve(sweep, "t1", NAMES, np.random.default_rng(0), WRONG, base=2.5)
    assert find_suspects(sweep)[0].found.base_nll == 2.5


def test_the_command_prints_a_list_or_json(sweep, capsys):
    assert main([str(sweep), "--top", "2"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"  1. {WRONG}: loss ")
    assert "answer: 17 million" in shown
    assert f"Question {WRONG}?" in shown
    assert max(map(len, shown.splitlines())) < 200
    assert main([str(sweep), "--top", "2", "--json", "--kind-key", "kind"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed[0]["id"] == WRONG
    assert listed[0]["kind"] == "sum"
    assert {"prompt", "response", "score", "excess_nats", "trials", "base_nll"} <= set(listed[0])


def test_errors_are_one_line(sweep, capsys, write_sweep):
    assert main([str(sweep), "--kind-key", "type"]) == 2
    assert capsys.readouterr().err.startswith(
        "error: --kind-key: every sample must have it, s0 has not, got type; its keys"
    )
    with pytest.raises(SystemExit, match="2"):
        main([str(sweep), "--top", "0"])
    empty = write_sweep([FakeTrial("t1")], name="empty")
    with pytest.raises(UserError, match="must be the tokenized training set"):
        find_suspects(empty)
    (sweep / "cache").rename(empty / "cache")
    with pytest.raises(UserError, match="must hold a trial with a loss curve"):
        find_suspects(empty)
    (empty / "cache" / "train.arrow").write_bytes(b"not arrow")
    with pytest.raises(UserError, match="must be the tokenized training set"):
        find_suspects(empty)
