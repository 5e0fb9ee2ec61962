"""After the search, where asked for: the winner's setting on parts of the training set; see
`analysis.stats.data_scaling`."""

from __future__ import annotations

from analysis.rank.leaderboard import leaderboard
from sweeps.config.sections import SUBSET_FRACTIONS
from sweeps.driver.context import Sweep
from sweeps.driver.supervisor import Baseline, Supervisor
from trainables.config.trial_spec import TrialSpec


def train_on_subsets(sweep: Sweep, supervisor: Supervisor, baseline: Baseline) -> None:
    """Trains the winner's setting, with its seed and whole schedules, on a quarter and a half of the samples.

    The parts are nested, and the same in a resumed sweep; what has ended already is not trained again.

    Raises:
        LanesFailedError: Lanes end again and again.
    """
    if not sweep.config.more_data.subsets:
        return
    setting = leaderboard(sweep.config.folder)["winner_setting"]
    if setting is None:
        return
    records = {record["trial_id"]: record for record in [*sweep.past.ended, *supervisor.recorder.records.values()]}
    specs = [spec for spec in subset_specs(records[setting]) if spec.trial_id not in records]
    if specs:
        supervisor.say(f"what more data would bring: {setting} is trained on a quarter and a half of the samples")
        supervisor.train(specs, baseline)


def subset_specs(origin: dict[str, object]) -> list[TrialSpec]:
    """The subset trials of a trial that has ended.

    Args:
        origin: Its line of `trials.jsonl`.
    """
    return [
        TrialSpec.model_validate(
            {
                "trial_id": f"{origin['trial_id']}-part{round(100 * fraction)}",
                "kind": "subset",
                "replicate_of": origin["trial_id"],
                "fraction": fraction,
                **{name: origin[name] for name in ("seed", "params", "drawn")},
            }
        )
        for fraction in SUBSET_FRACTIONS
    ]
