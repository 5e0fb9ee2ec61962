"""After the search, where asked for: trains the winner's setting on parts of the training set.

See `analysis.stats.data_scaling` for what the results say.
"""

from __future__ import annotations

from analysis.rank.leaderboard import leaderboard
from sweeps.config.sections import SUBSET_FRACTIONS
from sweeps.driver.context import Sweep
from sweeps.driver.supervisor import Supervisor
from sweeps.ledger.trial_record import Areas, TrialRecord
from trainables.config.trial_spec import TrialSpec


def train_on_subsets(sweep: Sweep, supervisor: Supervisor, baseline: Areas) -> None:
    """Trains the winner's setting, with its seed and whole schedules, on a quarter and a half of the samples.

    Raises:
        LanesFailedError: Lanes end again and again.
    """
    if not sweep.config.more_data.subsets:
        return
    setting = leaderboard(sweep.config.folder)["winner_setting"]
    if setting is None:
        return
    # Parts are nested and a function of the seed, so a resumed sweep trains only what is missing.
    records = {record["trial_id"]: record for record in [*sweep.past.ended, *supervisor.recorder.records.values()]}
    specs = [spec for spec in subset_specs(records[setting]) if spec.trial_id not in records]
    if specs:
        supervisor.say(
            f"what more data would bring: {setting} is trained again, with a quarter and a half of the samples"
        )
        supervisor.train(specs, baseline)


def subset_specs(origin: TrialRecord) -> list[TrialSpec]:
    return [
        TrialSpec(
            trial_id=f"{origin['trial_id']}-part{round(100 * fraction)}",
            kind="subset",
            replicate_of=origin["trial_id"],
            fraction=fraction,
            seed=origin["seed"],
            params=origin["params"],
            drawn=origin["drawn"],
        )
        for fraction in SUBSET_FRACTIONS
    ]
