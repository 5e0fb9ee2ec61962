"""Settings and their replicates: who speaks for whom, and that noise of items and seeds is not called a difference."""

import itertools
import math

import numpy as np
import pytest

from analysis.rank.setting_figures import setting_figures
from analysis.rank.settings import make_setting_table
from analysis.records.sweep import Trial
from analysis.stats.bootstrap import Bootstrap, percentile_interval
from analysis.stats.multiple_comparisons import Separation
from analysis.stats.seed_variance import STATED_DF, JointError, critical_value
from sweeps.confirm.replicates import Replicate, fit_replicates
from sweeps.confirm.rounds import Rules, State, verdict
from tests.unit.analysis.conftest import halves, matrix_of

ITEMS = 80
UNSTATED = Separation()


def search(name, **more):
    return Trial(name, "complete", seed=0, **more)


def copy(name, of, seed, state="complete"):
    return Trial(name, state, kind="replicate", replicate_of=of, seed=seed)


def table_of(trials, losses, stated=UNSTATED, base=1.0, draws=None):
    """The setting table, of which there must be one, the notes, and the score matrix of these losses."""
    notes, matrix = [], matrix_of(losses, np.full(ITEMS, base), draws)
    found = make_setting_table(trials, matrix, stated, notes)
    assert found is not None
    return found, notes, matrix


def flat(*objectives, noise=0.01):
    """(items, checkpoints) with just these means; all checkpoints share their noise, so that differences are exact."""
    wiggle = np.random.default_rng(0).normal(0, noise, ITEMS)
    return np.array(objectives)[None, :] + (wiggle - wiggle.mean())[:, None]


def test_a_setting_with_replicates_stands_for_their_mean_and_the_search_trial_no_longer_counts():
    t1 = {"t1": flat(0.3, 0.1), "r1": flat(0.4, 0.5), "r2": flat(0.2, 0.7)}  # lowest at step 1 in the search
    losses = {**t1, "t2": flat(0.2), "r3": flat(0.4), "r4": flat(0.6)}
    trials = [search("t1"), search("t2"), copy("r1", "t1", 1), copy("r2", "t1", 2)]
    trials += [copy("r3", "t2", 1), copy("r4", "t2", 2)]
    found, notes, matrix = table_of(trials, losses, base=2.0)
    assert (found.settings, found.seeds, found.blocked, notes) == (("t1", "t2"), (2, 2), True, [])
    winner = int(found.rule.best_settings(matrix.objectives()[None, :])[0])
    assert found.settings[winner] == "t2"
    first, second = setting_figures(found, winner, 2.0)
    assert (first["objective"], second["objective"]) == (pytest.approx(0.6), pytest.approx(0.5))  # r1 and r2 at step 1
    assert (first["behind"], second["behind"], second["behind_interval"]) == (pytest.approx(0.1), 0.0, None)
    assert (first["gain"], first["seeds"], first["replicated"]) == (pytest.approx(1.4), 2, True)
    assert (found.seed_sd.source, found.seed_sd.residual_df) == ("replicates", 1)
    assert found.seed_sd.residual == pytest.approx(0.0)


def test_settings_without_replicates_come_after_those_with_and_unstable_ones_last():
    losses = {"t1": flat(0.5), "t2": flat(0.4), "t3": flat(0.3), "r1": flat(0.6), "r2": flat(0.1)}
    trials = [search(f"t{i}") for i in (1, 2, 3)]
    trials += [copy("r1", "t1", 1), copy("r2", "t3", 1), copy("r3", "t3", 2, state="diverged")]
    found, notes, _ = table_of(trials, losses, base=2.0)
    assert sorted(range(3), key=found.tier) == [0, 1, 2]
    assert found.rule.eligible.tolist() == [True, False, False]
    assert "t3: 1 replicates diverged" in notes[0]
    # t2 has no replicate: it is compared by the search trials, which share their seed
    assert setting_figures(found, 0, 2.0)[1]["behind"] == pytest.approx(0.4 - 0.5)


def test_a_replicate_that_lacks_the_step_of_its_search_trial_does_not_count():
    losses = {"t1": flat(0.3, 0.1), "t2": flat(0.2), "r1": flat(0.05), "r2": flat(0.5, 0.4)}
    trials = [search("t1"), search("t2"), copy("r1", "t1", 1), copy("r2", "t1", 2)]
    found, notes, _ = table_of(trials, losses)
    assert found.seeds == (1, 0)
    assert any(note.startswith("r1 was not scored at the step that t1 was best at") for note in notes)


@pytest.mark.parametrize(
    ("stated", "seeds", "tail"),
    [
        (Separation(seed_sd=0.01), 0, 0.05 / 6),
        (Separation(alpha=0.2, seed_sd=0.01), 0, 0.2 / 6),
        (Separation(), 2, None),  # two settings are tested once, after the last of four rounds
        (Separation(), 4, 0.05 / 2),
        (Separation(alpha=0.2, rounds=2), 2, 0.2 / 2),
        (Separation(budget=4), 2, 0.05 / 2),
        (Separation(looks="every_round"), 2, 0.05 / 2 * 4 / 30),
        (Separation(looks="every_round", budget=4), 2, 0.05 / 2 * 4 / 5),
    ],
)
def test_intervals_honour_what_the_config_says_of_confirmation(stated, seeds, tail):
    losses = {"t1": flat(0.50), "t2": flat(0.53), "t3": flat(0.9)}
    trials = [search(name) for name in losses]
    for setting in ("t1", "t2"):
        for seed in range(1, seeds + 1):
            losses[f"{setting}-r{seed}"] = flat(losses[setting].mean() + 0.01 * seed * (setting == "t1"))
            trials.append(copy(f"{setting}-r{seed}", setting, seed))
    found, *_ = table_of(trials, losses, stated)
    figures = setting_figures(found, 0, 1.0)[1]
    if tail is None:
        assert (figures["behind_interval"], figures["separated"]) == (None, False)
        return
    items, seed_df = figures["behind_se_items"], found.seed_sd.residual_df if seeds else found.seed_sd.single_df
    spread = math.sqrt(figures["behind_se"] ** 2 - items**2)
    reach = JointError(items, ITEMS - 2, spread, seed_df).reach(tail)
    assert figures["behind_interval"] == pytest.approx([figures["behind"] - reach, figures["behind"] + reach])


@pytest.mark.parametrize("state", ["diverged", "failed"])
def test_a_contender_without_a_complete_replicate_still_counts_as_one_of_three(state):
    losses = {"t1": flat(0.50), "t2": flat(0.53), "t3": flat(0.9)}
    trials = [search(name) for name in losses] + [copy("t3-r1", "t3", 1, state=state)]
    for setting, seed in itertools.product(("t1", "t2"), (1, 2, 3)):
        losses[f"{setting}-r{seed}"] = flat(losses[setting].mean() + 0.01 * seed * (setting == "t1"))
        trials.append(copy(f"{setting}-r{seed}", setting, seed))
    found, *_ = table_of(trials, losses, Separation(budget=9))  # three rounds of three, four of two
    assert found.begun == 3
    assert setting_figures(found, 0, 1.0)[1]["behind_interval"] is not None


def test_replicates_of_what_has_no_rank_are_said_and_do_not_count():
    losses = {"t1": flat(0.5), "r1": flat(0.1), "r2": flat(0.2)}
    trials = [search("t1"), copy("r1", "gone", 1), copy("r2", "r1", 2)]
    found, notes, _ = table_of(trials, losses)
    assert found.rule.choose(np.array([[0.1, 0.2, 0.5]])).tolist() == [2]  # r1, r2, t1
    assert len(notes) == 2
    orphan = matrix_of({"r1": flat(0.1)}, np.ones(ITEMS))
    assert make_setting_table([copy("r1", "gone", 1)], orphan, Separation(), []) is None


def test_unknown_seeds_are_not_taken_for_shared_ones():
    losses = {name: flat(0.5) for name in ("t1", "t2", "r1", "r2", "r3", "r4")}
    trials = [search("t1"), search("t2"), *(copy(f"r{i}", f"t{1 + i % 2}", None) for i in range(1, 5))]
    found, notes, _ = table_of(trials, losses)
    assert not found.blocked
    assert "not shared between settings" in notes[0]


@pytest.mark.parametrize(("stated", "separated"), [(None, False), (0.02, False), (0.005, True)])
def test_a_difference_between_checkpoints_need_not_be_one_between_settings(stated, separated):
    losses = {"t1": flat(0.50), "t2": flat(0.53)}
    found, _, matrix = table_of([search("t1"), search("t2")], losses, Separation(seed_sd=stated))
    figures = setting_figures(found, 0, 1.0)[1]
    assert figures["behind_se_items"] < 1e-9
    low = percentile_interval(matrix.resampled[:, 1] - matrix.resampled[:, 0])[0]
    assert low > 0.02  # two checkpoints differ for certain
    assert figures["separated"] is separated
    if stated is None:  # no prior stands in for what was not measured
        assert (figures["behind_interval"], figures["behind_se"], figures["gain_interval"]) == (None, None, None)
        return
    reach = critical_value(0.025, STATED_DF) * stated * math.sqrt(2)
    assert figures["behind_interval"] == pytest.approx([0.03 - reach, 0.03 + reach], rel=1e-3)


@pytest.mark.parametrize(
    ("rounds", "stated", "separated"),
    [(1, None, False), (1, 0.01, True), (2, None, True), (2, 0.01, True), (3, None, True), (3, 1.0, False)],
)
@pytest.mark.parametrize("looks", ["auto", "every_round"])
def test_leaderboard_and_confirmation_agree_on_a_tie(rounds, stated, separated, looks):
    luck = [0.001, -0.002, 0.001]
    measured = {"t1": [0.5] * rounds, "t2": [0.8 + x for x in luck[:rounds]]}
    losses, trials = {"t1": flat(0.5), "t2": flat(0.8)}, [search("t1"), search("t2")]
    for name, values in measured.items():
        losses |= {f"{name}-s{seed}": flat(value) for seed, value in enumerate(values, 1)}
        trials += [copy(f"{name}-s{seed}", name, seed) for seed in range(1, rounds + 1)]
    rule = {"seed_sd": stated, "rounds": rounds if looks == "auto" else 4, "looks": looks}
    table, *_ = table_of(trials, losses, Separation(**rule))
    replicates = tuple(Replicate(n, seed, x) for n, values in measured.items() for seed, x in enumerate(values, 1))
    fit = fit_replicates(replicates, stated)
    assert table.seed_sd.residual == (None if fit.sd is None else pytest.approx(fit.sd, rel=1e-6))
    assert table.seed_sd.residual_df == fit.df
    figures = setting_figures(table, 0, 1.0)[1]
    assert figures["separated"] is separated
    assert (figures["behind_interval"] is None) == (fit.sd is None)
    found = verdict(State(("t1", "t2"), 0, replicates, Rules(budget=8, **rule)))
    assert (found.winner == "t1") == separated


def simulate(rng, seeds, gap, draws):
    """Two settings with `seeds` replicates each: seed effect 0.03, the setting's own 0.02, item noise 0.1."""
    losses, trials = {}, [search("t0"), search("t1")]
    blocks = rng.normal(0, 0.03, seeds + 1)
    for setting in (0, 1):
        for seed in range(seeds + 1):
            name = f"t{setting}" if seed == 0 else f"t{setting}-r{seed}"
            level = 1 + gap * setting + blocks[seed] + rng.normal(0, 0.02)
            losses[name] = (level + rng.normal(0, 0.1, ITEMS))[:, None]
            if seed:
                trials.append(copy(name, f"t{setting}", seed))
    return table_of(trials, losses, Separation(rounds=seeds), base=2.0, draws=draws)


def test_the_interval_of_a_difference_covers_it_with_items_and_seeds_drawn_anew():
    rng, sims, draws = np.random.default_rng(7), 400, Bootstrap(halves(ITEMS), 200)
    covered = wrong = 0
    for _ in range(sims):
        found, *_ = simulate(rng, 3, 0.05, draws)
        figures = setting_figures(found, 0, 2.0)[1]
        low, high = figures["behind_interval"]
        covered += low <= 0.05 <= high
        found, _, matrix = simulate(rng, 3, 0.0, draws)
        winner = int(found.rule.best_settings(matrix.objectives()[None, :])[0])
        wrong += setting_figures(found, winner, 2.0)[1 - winner]["separated"]
    assert 0.92 <= covered / sims <= 0.985
    assert wrong / sims <= 0.025
