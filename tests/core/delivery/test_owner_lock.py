"""The lock files that show which owners of claims are alive."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sessionsight.delivery.stores.errors import StoreUnavailable
from sessionsight.delivery.stores.sqlite.connection import SqliteConnection
from sessionsight.delivery.stores.sqlite.owner_lock import OwnerLock, is_alive, remove

OWNER = 0xABC
ASK = """
import sys
from sessionsight.delivery.stores.sqlite.owner_lock import is_alive
print(is_alive(sys.argv[1], int(sys.argv[2])))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


def descriptors() -> int:
    return len(os.listdir("/dev/fd"))  # noqa: PTH208


def seems_alive(path: Path) -> bool:
    """Return whether another process sees the owner as alive."""
    asked = subprocess.run([sys.executable, "-c", ASK, path, str(OWNER)], check=True, capture_output=True, text=True)
    assert is_alive(str(path), OWNER) == (asked.stdout == "True\n")
    return is_alive(str(path), OWNER)


def test_an_owner_is_alive_until_it_releases_its_lock(path: Path) -> None:
    before = descriptors()
    lock = OwnerLock(str(path), OWNER)
    assert seems_alive(path)
    assert descriptors() == before + 1

    lock.release()
    lock.release()

    assert not seems_alive(path)
    assert descriptors() == before
    assert not [*path.parent.iterdir()]


def test_all_users_may_test_a_lock_whatever_the_umask_is(path: Path) -> None:
    umask = os.umask(0o077)
    try:
        lock = OwnerLock(str(path), OWNER)
    finally:
        os.umask(umask)
    file = path.with_name("spool.db-owner-abc")
    assert (stat.S_IMODE(file.stat().st_mode), file.stat().st_size) == (0o444, 0)
    lock.release()


def test_an_owner_whose_file_was_deleted_locks_a_new_one(path: Path) -> None:
    lock = OwnerLock(str(path), OWNER)
    remove(str(path), OWNER)
    assert not seems_alive(path)

    lock.renew()

    assert seems_alive(path)
    lock.release()
    assert not seems_alive(path)


def test_a_daemon_that_closes_all_descriptors_locks_a_new_file(path: Path) -> None:
    """A file that it has opened under the same descriptor stays open."""
    lock = OwnerLock(str(path), OWNER)
    os.close(lock._descriptor)
    other = os.open(path.parent, os.O_RDONLY)
    assert other == lock._descriptor
    assert not seems_alive(path)

    lock.renew()

    assert seems_alive(path)
    lock.release()
    assert not seems_alive(path)
    os.close(other)  # fails if it is closed


def test_a_process_that_tests_a_dead_owner_is_not_seen_as_the_owner(path: Path) -> None:
    file = path.with_name("spool.db-owner-abc")
    file.touch()
    with file.open() as testing:
        fcntl.flock(testing, fcntl.LOCK_SH)
        assert not seems_alive(path)


def test_an_owner_whose_file_is_something_else_counts_as_alive(path: Path) -> None:
    path.with_name("spool.db-owner-abc").symlink_to("somewhere")
    assert seems_alive(path)


def test_a_folder_in_which_no_file_can_be_created_has_no_owners(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="No such file or directory"):
        OwnerLock(str(tmp_path / "missing" / "spool.db"), OWNER)


def test_a_forked_child_does_not_keep_its_parents_lock(path: Path) -> None:
    file = SqliteConnection(str(path), synchronous="normal")
    file.owner_lock = lock = OwnerLock(str(path), OWNER)
    ready, over = os.pipe()
    if not (child := os.fork()):
        os.close(over)
        os.read(ready, 1)  # until the parent closes its end
        os._exit(0)
    os.close(ready)

    assert seems_alive(path)
    os.close(lock._descriptor)  # as at the parent's end
    assert not seems_alive(path)

    os.close(over)
    os.waitpid(child, 0)
    file.close()


def test_a_child_leaves_a_descriptor_that_is_no_longer_the_locks(path: Path) -> None:
    lock = OwnerLock(str(path), OWNER)
    before = descriptors()
    remove(str(path), OWNER)  # a descriptor of that number may be another file's by now

    lock.close()

    assert descriptors() == before
    os.close(lock._descriptor)
