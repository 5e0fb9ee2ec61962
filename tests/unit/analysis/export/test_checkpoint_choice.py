"""Which checkpoint an export means: a setting's own trial, or one of its replicates."""

import pytest

from analysis.export.checkpoint_choice import choose
from trainables.errors import UserError


def row(name, step=8, replicates=()):
    return {
        "trial_id": name,
        "step": step,
        "state": "complete",
        "checkpoints": [{"step": 4}, {"step": step}],
        "replicates": list(replicates),
    }


BOARD = {
    "name": "s",
    "winner": {"trial_id": "t1-s1", "step": 8},
    "rows": [row("t1", replicates=[row("t1-s1")]), row("t2")],
}


@pytest.mark.parametrize(
    ("asked", "found"),
    [((None, None), ("t1-s1", 8)), (("t1-s1", 4), ("t1-s1", 4)), (("t1", None), ("t1", 8)), (("t2", 4), ("t2", 4))],
)
def test_replicates_can_be_chosen_as_well_as_trials_of_the_search(asked, found):
    chosen = choose(BOARD, *asked)
    assert (chosen.trial_id, chosen.step) == found


def test_a_name_that_is_neither_is_refused():
    with pytest.raises(UserError, match="must be a trial of this sweep, got t1-s9; did you mean t1-s1"):
        choose(BOARD, "t1-s9", None)
