"""Scores by tag: means and intervals of known gains."""

import json

import numpy as np
import pyarrow as pa
import pytest

from analysis import show
from analysis.records.sweep import read_sweep
from analysis.records.tag_scores import tag_scores
from tests.unit.analysis.conftest import FakeTrial
from trainables.storage.layout import CACHE_FOLDER, area_file


def write_area(folder, area, metas):
    (folder / CACHE_FOLDER).mkdir(exist_ok=True)
    table = pa.table({"id": list(metas), "meta": [json.dumps(meta) for meta in metas.values()]})
    with (
        pa.OSFile(str(folder / CACHE_FOLDER / area_file(area)), "wb") as sink,
        pa.ipc.new_file(sink, table.schema) as out,
    ):
        out.write_table(table)


@pytest.fixture
def folder(write_sweep):
    folder = write_sweep([FakeTrial("t1", {10: 0.5}, noise=0.1)], areas={"tables": {"domain": "tables"}})
    for area in ("invoices", "tables"):
        ids = [name for place, name in read_sweep(folder).heldout().by_step[0] if place == area]
        write_area(folder, area, {name: {"skill": "sum" if i < 10 else "product"} for i, name in enumerate(ids)})
    return folder


def test_the_gain_of_a_tag_is_the_mean_of_its_items(folder):
    sweep = read_sweep(folder)
    base, own = sweep.heldout().by_step[0], sweep.heldout("t1").by_step[10]
    scores = tag_scores(sweep, "t1", 10)
    # One area alone has a domain: there is nothing to compare.
    assert sorted(score.value for score in scores) == ["product", "sum"]
    assert [score.gain for score in scores] == sorted((score.gain for score in scores), reverse=True)
    assert sum(score.items for score in scores) == len(base)
    overall = np.mean([base[key].nll - own[key].nll for key in base])
    assert np.average([s.gain for s in scores], weights=[s.items for s in scores]) == pytest.approx(overall)
    assert all(score.low < score.gain < score.high for score in scores)


def test_a_trial_shows_its_gains_by_tag(folder, capsys):
    assert show.main([str(folder), "t1"]) == 0
    assert "gain at step 10, skill sum: +0." in capsys.readouterr().out


def test_sweeps_without_tags_or_tokens_have_none(folder):
    for area in ("invoices", "tables"):
        (folder / CACHE_FOLDER / area_file(area)).unlink()
    assert tag_scores(read_sweep(folder), "t1", 10) == []
    assert tag_scores(read_sweep(folder), "t1", 11) == []
