"""Every folder of a storage path has a row, whatever lies in it; unchanged sweeps are not read again."""

import json
import os
import shutil
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from analysis.index import read_index
from analysis.index.row import state_now
from analysis.index.storage import CACHE_FILE, FolderStorage
from analysis.list import chosen, main, started_since, table
from analysis.rank.leaderboard import write_leaderboard
from tests.object_store_helpers import in_memory
from tests.unit.analysis.conftest import FakeTrial
from trainables.errors import UserError
from trainables.storage.object_store import Remote

OLD = Path(__file__).parents[3] / "data" / "sweep_of_0_1"


@pytest.fixture
def storage(tmp_path):
    shutil.copytree(OLD, tmp_path / "old")
    return tmp_path


def rows_of(storage):
    return {row["name"]: row for row in read_index(str(storage))}


def test_a_sweep_of_version_0_1_has_the_figures_of_its_leaderboard(storage):
    board = json.loads((OLD / "leaderboard.json").read_text())
    row = rows_of(storage)["old"]
    assert (row["state"], row["id"], row["model"]) == ("interrupted", "0776c628e1da", "random:tiny-llama")
    assert row["winner"] == board["winner"]
    assert row["peak_lr"] == board["rows"][0]["params"]["peak_lr"]
    assert (row["gain"], row["gain_interval"]) == tuple(
        board["winner_gain"][key] for key in ("corrected", "corrected_interval")
    )
    costs = [json.loads(line)["cost"]["device_seconds"] for line in (OLD / "trials.jsonl").read_text().splitlines()]
    assert (row["trials"], row["device_seconds"]) == (len(costs), pytest.approx(sum(costs), abs=0.05))
    assert row["verdict"] == "better than base, clear winner"


def test_a_sweep_of_today_has_a_row(write_sweep):
    folder = write_sweep([FakeTrial("t0001", {16: 0.3}), FakeTrial("t0002", {16: 0.1})])
    board = write_leaderboard(folder)
    (row,) = read_index(str(folder.parent))
    assert (row["winner"], row["trials"]) == (board["winner"], 2)
    assert row["score"] == pytest.approx(board["rows"][0]["objective"])


BOARD = json.loads((OLD / "leaderboard.json").read_text())
GAIN = BOARD["winner_gain"]


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({"tied": [{"trial_id": "t0002", "step": 8}]}, "better than base, 1 tied"),
        ({"winner_gain": {**GAIN, "corrected_interval": [-0.1, 0.4]}}, "not proven better than base"),
        ({"winner_gain": {**GAIN, "corrected_interval": None}}, "not proven better than base"),
        ({"winner_gain": {**GAIN, "corrected_interval": [-0.4, -0.1]}}, "worse than the base model"),
        ({"winner_gain": {**GAIN, "corrected": None}}, "base model was not scored"),
        ({"guard_rails": {"winner": "fail"}}, "winner fails its guard-rails"),
        ({"winner": None, "rows": []}, "no trial could be ranked"),
    ],
)
def test_the_verdict_has_five_words_at_most(storage, change, verdict):
    (storage / "old" / "leaderboard.json").write_text(json.dumps({**BOARD, **change}))
    found = rows_of(storage)["old"]["verdict"]
    assert found == verdict
    assert len(found.split()) <= 5


DAMAGE = {
    "board cut off": ("leaderboard.json", b'{"winner": {"tri'),
    "board is a list": ("leaderboard.json", b"[]"),
    "board's winner is a text": ("leaderboard.json", b'{"winner": "t0001"}'),
    "board nests deep": ("leaderboard.json", b"[" * 100_000),
    "gain is no number": ("leaderboard.json", b'{"winner_gain": {"corrected": NaN}}'),
    "manifest is binary": ("manifest.json", b"\xff\xfe\x00"),
    "manifest's state is unknown": ("manifest.json", b'{"state": "well"}'),
    "config is a list": ("sweep.yaml", b"- 1"),
    "config is not UTF-8": ("sweep.yaml", b"name: \xff"),
    "config nests deep": ("sweep.yaml", b"[" * 100_000),
    "config's model is a number": ("sweep.yaml", b"model: 7"),
    "config is a number of a million digits": ("sweep.yaml", b"data: {train: " + b"9" * 1_000_000 + b"}"),
}


@pytest.mark.parametrize(("name", "content"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_sweep_is_a_row_that_says_which_file_and_the_others_stay(storage, name, content):
    shutil.copytree(OLD, storage / "damaged")
    (storage / "damaged" / name).write_bytes(content)
    rows = rows_of(storage)
    assert (rows["damaged"]["state"], rows["old"]["state"]) == ("damaged", "interrupted")
    assert name in rows["damaged"]["problem"]
    assert rows["damaged"].keys() == rows["old"].keys()
    assert any(name in line for line in table(list(rows.values())))


def test_folders_in_other_conditions(storage):
    (storage / ".draft").mkdir()
    (storage / ".draft" / "sweep.yaml").write_text("name: x")
    (storage / "no sweep").mkdir()
    (storage / "no sweep" / "notes.txt").write_text("x")
    (storage / "a file").write_text("x")
    (storage / "gone").symlink_to(storage / "nowhere")
    (storage / "planned").mkdir()
    (storage / "planned" / "plan.json").write_text("{}")
    shutil.copytree(OLD, storage / "no config")
    (storage / "no config" / "sweep.yaml").unlink()
    shutil.copytree(OLD, storage / "pipe")
    (storage / "pipe" / "leaderboard.json").unlink()
    os.mkfifo(storage / "pipe" / "leaderboard.json")
    shutil.copytree(OLD, storage / "torn")
    with (storage / "torn" / "trials.jsonl").open("a") as file:
        file.write('{"trial_id": "t0009", "co')
    states = {name: row["state"] for name, row in rows_of(storage).items()}
    assert states == {
        "old": "interrupted",
        "planned": "planned",
        "no config": "damaged",
        "pipe": "damaged",
        "torn": "interrupted",
    }


def lock(pid, host=None, since="2200-01-01T00:00:00Z"):
    return json.dumps({"pid": pid, "host": host or socket.gethostname(), "since": since}).encode()


@pytest.mark.parametrize(
    ("state", "content", "now"),
    [
        ("running", lock(os.getpid()), "running"),
        ("running", lock(2**30), "killed"),
        ("running", lock(1, since="1990-01-01T00:00:00Z"), "killed"),  # the number went to a later process
        ("running", lock(2**30, host="elsewhere"), "running"),
        ("running", b"", "running"),
        ("running", None, "running"),
        ("complete", lock(2**30), "complete"),
    ],
)
def test_a_running_sweep_whose_driver_is_gone_was_killed(state, content, now):
    assert state_now(state, content) == now


def test_only_changed_sweeps_are_read_again(storage, monkeypatch):
    shutil.copytree(OLD, storage / "other")
    before = rows_of(storage)
    read, real = [], FolderStorage.read
    monkeypatch.setattr(FolderStorage, "read", lambda self, key: (read.append(key), real(self, key))[1])
    assert rows_of(storage) == before
    assert read == [CACHE_FILE]
    manifest = storage / "other" / "manifest.json"
    manifest.write_text(manifest.read_text().replace("interrupted", "complete"))
    assert rows_of(storage)["other"]["state"] == "complete"
    assert {key.split("/")[0] for key in read} == {CACHE_FILE, "other"}
    shutil.rmtree(storage / "other")
    assert list(rows_of(storage)) == ["old"]


def test_an_object_store_has_the_same_rows_and_is_read_once(storage, monkeypatch):
    remote = in_memory()
    monkeypatch.setattr("analysis.index.storage.Remote", lambda _url: remote)
    for path in (path for path in storage.rglob("*") if path.is_file()):
        remote.put(path.relative_to(storage).as_posix(), path)
    before = rows_of("s3://bucket/memory")
    assert before == rows_of(storage)
    read, real = [], Remote.read
    monkeypatch.setattr(Remote, "read", lambda self, key: (read.append(key), real(self, key))[1])
    assert rows_of("s3://bucket/memory") == before
    assert read == [CACHE_FILE]
    remote.put("old/manifest.json", (OLD / "manifest.json").read_bytes().replace(b"interrupted", b"complete"))
    assert rows_of("s3://bucket/memory")["old"]["state"] == "complete"


KEPT_BADLY = [
    '{"version": 1, "ro',
    '{"version": 0, "rows": {"old": 1}}',
    '{"version": 2, "rows": {"old": 1}}',
    '{"version": 2, "rows": {"old": {"stamps": {}}}}',
    '{"version": 2, "rows": {"old": {"stamps": {}, "row": {"name": "old"}}}}',
    '{"version": 2, "rows": [1]}',
    "5",
    "[" * 100_000,
    "[]",
]


@pytest.mark.parametrize("content", KEPT_BADLY, ids=range(len(KEPT_BADLY)))
def test_rows_that_were_kept_badly_are_made_again(storage, content):
    before = rows_of(storage)
    (storage / CACHE_FILE).write_text(content)
    assert rows_of(storage) == before


def test_a_row_that_was_kept_without_a_key_is_made_again(storage):
    before = rows_of(storage)
    kept = json.loads((storage / CACHE_FILE).read_text())
    del kept["rows"]["old"]["row"]["started"]
    (storage / CACHE_FILE).write_text(json.dumps(kept))
    assert rows_of(storage) == before


@pytest.mark.parametrize(
    ("costs", "total"),
    [([1.0, 2.0], 3.0), ([-1e9, 2.0], 2.0), ([1.7e308, 1.7e308, 2.0], 2.0), ([float("nan"), 2.0], 2.0)],
)
def test_a_cost_that_is_none_counts_for_nothing(storage, costs, total):
    lines = [json.dumps({"trial_id": f"t{k}", "cost": {"device_seconds": one}}) for k, one in enumerate(costs)]
    (storage / "old" / "trials.jsonl").write_text("\n".join(lines))
    assert rows_of(storage)["old"]["device_seconds"] == total


@pytest.mark.parametrize("rate", [float("inf"), float("nan"), True, "high", None])
def test_a_rate_that_is_no_number_is_null(storage, rate):
    path = storage / "old" / "leaderboard.json"
    board = json.loads(path.read_text())
    board["rows"][0]["params"]["peak_lr"] = rate
    path.write_text(json.dumps(board))
    assert rows_of(storage)["old"]["peak_lr"] is None


def test_a_folder_whose_name_is_no_text_is_a_row_that_can_be_printed(storage, capsys):
    folder = os.fsencode(storage) + b"/bad\xff"
    os.mkdir(folder)
    shutil.copy(OLD / "sweep.yaml", folder + b"/sweep.yaml")
    row = rows_of(storage)["bad\ufffd"]
    assert (row["state"], row["problem"]) == ("damaged", "its folder's name must be UTF-8")
    for more in ([], ["--json"]):
        assert main([str(storage), *more]) == 0
        capsys.readouterr().out.encode()


def test_a_storage_that_can_not_be_written_is_listed(storage, monkeypatch):
    def refuse(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("analysis.index.storage.write_whole", refuse)
    assert list(rows_of(storage)) == ["old"]
    assert not (storage / CACHE_FILE).exists()


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({}, True),
        ({"model": "TINY"}, True),
        ({"model": "qwen"}, False),
        ({"data": "demo/train"}, True),
        ({"data": ".*"}, False),  # a plain text, not a pattern
        ({"state": "interrupted"}, True),
        ({"state": "complete"}, False),
        ({"since": "2026-11-30"}, True),
        ({"since": "2026-11-30T02:06:45+00:00"}, False),
        ({"since": "2026-11-30T04:06:44+02:00"}, True),
    ],
)
def test_filters(storage, filters, found):
    given = {"model": None, "data": None, "state": None, "since": None, **filters}
    assert len(chosen(read_index(str(storage)), **given)) == int(found)


@pytest.mark.parametrize("since", ["yesterday", "7 d", "999999w", "2026-13-01", "٣d", "12H", ""])
def test_a_time_that_is_none_is_an_error(since):
    with pytest.raises(UserError, match="--since"):
        started_since(since, datetime(2026, 11, 30, tzinfo=UTC))


def test_an_age_is_counted_back_from_now():
    assert started_since("36h", datetime(2026, 11, 30, tzinfo=UTC)) == "2026-11-28T12:00:00Z"
    assert started_since("0999-01-01", datetime(2026, 11, 30, tzinfo=UTC)) == "0999-01-01T00:00:00Z"


def test_the_command(storage, capsys):
    assert main([str(storage), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "old"
    assert main([str(storage)]) == 0
    heading, line = capsys.readouterr().out.splitlines()
    assert heading.index("state") == line.index("interrupted")
    assert main([str(storage), "--state", "complet"]) == 2
    assert "did you mean complete" in capsys.readouterr().err
    assert main([str(storage / "none")]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_a_name_can_not_move_the_cursor(storage):
    shutil.copytree(OLD, storage / "a\x1b[2Jb\nc")
    assert len(table(list(rows_of(storage).values()))) == 3
    assert not any("\x1b" in line for line in table(list(rows_of(storage).values())))
