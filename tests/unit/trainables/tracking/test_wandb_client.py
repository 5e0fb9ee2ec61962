from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from trainables.tracking import wandb_service


def test_folder_id_is_one_for_all_who_ask_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        ids = set(pool.map(lambda _: wandb_service.folder_id(tmp_path), range(64)))
    assert len(ids) == 1
    assert len(ids.pop()) == 32


def test_folder_id_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder-id").write_text("abc")
    with pytest.raises(ValueError, match="must hold 32 characters, got 3; delete it"):
        wandb_service.folder_id(tmp_path, timeout_seconds=0.05)


def test_check_room_leaves_nothing_and_refuses_what_is_no_folder(tmp_path: Path) -> None:
    wandb_service.check_room(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        wandb_service.check_room(tmp_path / "file")
