"""What killed processes leave is removed; what others still need is not."""

from sweeps.folder.cleanup import remove_leftovers
from sweeps.folder.sweep_store import SweepStore
from sweeps.search.study import open_storage
from trainables.storage.working_copy import WorkingCopy


def test_leftovers_go_and_all_else_stays(tmp_path):
    open_storage(tmp_path)
    (tmp_path / "study.log.lock").symlink_to(tmp_path / "study.log")
    kept = ["study.log", "ledger.jsonl", "driver.lock", "trials/t0002/state/step-5/meta.json"]
    kept += ["trials/t0001/checkpoints/step-5/COMPLETE", "trials/t0001/curve.jsonl", ".comet/notes"]
    left = [".trials.jsonl.123", ".study.log.rebuilt", "trials/t0001/state/step-5/meta.json"]
    left += ["trials/t0001/checkpoints/step-10.partial/meta.json"]
    for name in kept + left:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    remove_leftovers(SweepStore(WorkingCopy(tmp_path)), ["t0001"])
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()) == sorted(kept)
    assert not (tmp_path / "study.log.lock").is_symlink()
