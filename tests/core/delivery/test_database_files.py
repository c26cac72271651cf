"""A store's file is created once, for its folder's owner."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from sessionsight.delivery.stores.errors import StoreBusy
from sessionsight.delivery.stores.sqlite.database_files import create


@pytest.mark.parametrize("user", [0, 1000])
def test_a_new_file_belongs_to_its_folders_owner(tmp_path: Path, user: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    create(str(tmp_path / "spool.db"), ())
    found, folder = (tmp_path / "spool.db").stat(), tmp_path.stat()
    assert (found.st_uid, found.st_mode & 0o777, found.st_size) == (folder.st_uid, 0o600, 0)


def test_a_folder_in_which_another_process_creates_the_file_is_busy(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        with pytest.raises(StoreBusy, match="another process is creating it"):
            create(str(tmp_path / "spool.db"), ())
    finally:
        os.close(folder)
    assert not [*tmp_path.iterdir()]


def test_a_file_that_another_process_has_just_created_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = fcntl.flock

    def lock_later(descriptor: int, operation: int) -> None:
        (tmp_path / "spool.db").write_text("of another process")
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", lock_later)
    create(str(tmp_path / "spool.db"), ())
    assert (tmp_path / "spool.db").read_text() == "of another process"
