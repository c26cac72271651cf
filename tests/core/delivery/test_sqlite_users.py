"""A spool that is shared by several users of a host: the app's user, root, and members of a group."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from sessionsight.delivery.stores.sqlite import owner_lock
from sessionsight.delivery.stores.sqlite.owner_lock import OwnerLock
from tests.core.delivery.kit import event, goal, labels
from tests.core.delivery.spools import LANE, claim, enter, files, sqlite_spool

APP, JOB, GROUP = 65534, 65533, 65532
pytestmark = pytest.mark.processes

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become two users")

Run = Callable[..., list[str]]

SCRIPT = """
import json, os, signal, sys, time
from pathlib import Path
import sqlite3, sessionsight.delivery.queue.codec
from tests.core.delivery.kit import event, goal, labels
from tests.core.delivery.spools import LANE, claim, counts, enter, letter, query, sqlite_spool

uid, gid, groups, path, script = json.loads(sys.argv[1])
os.umask(0o077)
if uid:
    os.setgroups(groups)
    os.setgid(gid)
    os.setuid(uid)
spool = sqlite_spool(Path(path))
queue = spool.lane(LANE)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def end():
    queue.close()
    spool.close()


exec(script)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder of the app's user that other users can enter."""
    with TemporaryDirectory() as name:
        os.chown(name, APP, APP) if os.geteuid() == 0 else None
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def path(folder: Path) -> Path:
    return folder / "spool.db"


def run(uid: int, path: Path, script: str, *, gid: int | None = None, groups: tuple[int, ...] = ()) -> list[str]:
    """Run a script on the spool as a user, and return the words that it prints."""
    given = json.dumps([uid, uid if gid is None else gid, groups, str(path), script])
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", SCRIPT, given],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.stdout.split()


ENTER = "enter(spool, [goal('sent'), goal('g'), event('a')])\n"
CLAIM = "claimed = claim(queue, 3)\nassert len(claimed) == 3\nassert queue.mark_in_flight(claimed[:1], durably=True)\n"
RECOVER = """
spool.maintain()
print(*labels(claim(queue, 3)), *[f"{letter.entry.record.label}:{letter.reason}" for letter in queue.dead_letters()])
end()
"""
RECOVERED = ["g", "a", "sent:unknown"]


@needs_root
@pytest.mark.parametrize(
    ("maker", "job", "heir"), [(APP, 0, APP), (0, 0, APP), (0, APP, 0), (APP, APP, 0), (0, APP, APP)]
)
def test_claims_of_a_killed_job_are_recovered_whichever_user_it_ran_as(
    path: Path, maker: int, job: int, heir: int
) -> None:
    """One user creates the spool, a job of another one is killed with claims, and a third user recovers them."""
    run(maker, path, "enter(spool, [])\nspool.maintain()\nend()")
    run(job, path, ENTER + CLAIM + "die()")

    assert run(heir, path, RECOVER) == RECOVERED


@needs_root
@pytest.mark.parametrize("maker", [0, APP])
def test_all_files_belong_to_the_apps_user_whoever_creates_them(path: Path, maker: int) -> None:
    run(maker, path, ENTER + CLAIM + "die()")
    names = files(path)
    run(0, path, "claim(queue, 1)\ndie()")

    assert names == files(path) == ["spool.db", "spool.db-lock", "spool.db-shm", "spool.db-wal"]
    assert {file.stat().st_uid for file in path.parent.iterdir()} == {APP}
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}


@needs_root
def test_a_group_with_access_to_the_database_can_use_its_lock(path: Path) -> None:
    """Two services of different users with a common group, in a folder with the setgid bit."""
    os.chown(path.parent, APP, GROUP)
    path.parent.chmod(0o2770)
    run(APP, path, "enter(spool, [event('made')])\nspool.maintain()\nend()", groups=(GROUP,))
    os.chown(path, APP, GROUP)
    path.chmod(0o660)
    run(APP, path, "claim(queue, 1)\nend()", groups=(GROUP,))  # creates a private lock file

    run(JOB, path, ENTER + "assert len(claim(queue, 4)) == 4\ndie()", groups=(GROUP,))

    assert run(APP, path, RECOVER, groups=(GROUP,)) == ["sent", "g", "made"]
    lock = Path(f"{path}-lock").stat()
    assert (lock.st_gid, stat.S_IMODE(lock.st_mode)) == (GROUP, 0o660)


@needs_root
def test_a_running_process_of_another_user_keeps_its_claims(path: Path) -> None:
    run(APP, path, "spool.maintain()\nend()")
    given = json.dumps([0, 0, [], str(path), ENTER + CLAIM + "print('claimed', flush=True)\nsys.stdin.read()\nend()"])
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, given], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as root:
        assert root.stdout is not None
        assert root.stdout.readline() == "claimed\n"

        assert run(APP, path, RECOVER) == []

        root.kill()

    assert run(APP, path, RECOVER) == RECOVERED


@needs_root
def test_root_does_not_change_the_owner_of_an_existing_lock_file(folder: Path) -> None:
    """The folder's owner could have linked one of root's files there."""
    path = folder / "spool.db"
    run(APP, path, "enter(spool, [event('a')])\nend()")
    secret = folder / "roots"
    secret.touch(0o600)
    os.link(secret, f"{path}-lock")

    run(0, path, "spool.maintain()\nclaim(queue, 1)\nend()")

    assert (secret.stat().st_uid, stat.S_IMODE(secret.stat().st_mode)) == (0, 0o600)


def test_owners_in_one_process_see_each_other_as_alive(path: Path) -> None:
    """Releasing one lock does not release the other, although the process holds both on one file."""
    one, other = sqlite_spool(path), sqlite_spool(path)
    enter(one, [event("a"), goal("g")])
    claimed = claim(one.lane(LANE), 2)
    other.maintain()
    other.lane(LANE).close()
    other.close()

    assert run(os.geteuid(), path, RECOVER) == []
    assert one.lane(LANE).mark_in_flight(claimed, durably=True) == claimed
    one.lane(LANE).close()
    one.close()


def test_an_owner_whose_lock_file_was_deleted_locks_again_and_keeps_its_claims(path: Path) -> None:
    one, other = sqlite_spool(path), sqlite_spool(path)
    enter(one, [event("a"), goal("g"), goal("h")])
    claimed = claim(one.lane(LANE), 3)
    other.maintain()
    Path(f"{path}-lock").unlink()

    one.maintain()
    other.maintain()

    assert run(os.geteuid(), path, RECOVER) == []
    assert one.lane(LANE).mark_in_flight(claimed, durably=True) == claimed
    one.lane(LANE).close()
    one.close()
    other.maintain()
    assert labels(other.lane(LANE).dead_letters()) == ["g", "h", "a"]
    other.lane(LANE).close()
    other.close()


def test_a_lock_file_is_opened_once_and_closed_with_its_last_lock(path: Path) -> None:
    def descriptors() -> int:
        return len(os.listdir("/dev/fd"))  # noqa: PTH208

    path.touch()
    before = descriptors()
    locks = [OwnerLock(str(path)) for _ in range(3)]
    assert descriptors() == before + 1
    assert all(one.is_alive(other.id) for one in locks for other in locks)

    locks[0].release()
    locks[0].release()
    assert descriptors() == before + 1
    assert not locks[1].is_alive(locks[0].id)

    for lock in locks:
        lock.release()
    assert descriptors() == before


def test_a_lock_that_was_released_is_not_taken_again(path: Path) -> None:
    """Another thread may still run maintenance when the spool is closed."""
    path.touch()
    lock, other = OwnerLock(str(path)), OwnerLock(str(path))
    lock.release()

    lock.renew()
    assert not other.is_alive(lock.id)
    other.release()
    assert lock.is_alive(other.id), "it cannot be tested"
    lock.renew()
    assert not [file for file in owner_lock._held.values() if file.path == f"{path}-lock"]


ASK = """
import sys
from sessionsight.delivery.stores.sqlite.owner_lock import OwnerLock
sys.exit(0 if OwnerLock(sys.argv[1]).is_alive(int(sys.argv[2])) else 1)
"""


def test_a_daemon_that_closes_all_descriptors_locks_again(path: Path) -> None:
    """A file that it has opened under the same descriptor stays open."""
    path.touch()
    lock = OwnerLock(str(path))

    def is_alive() -> bool:
        return subprocess.run([sys.executable, "-c", ASK, path, str(lock.id)], check=False).returncode == 0

    assert is_alive()
    descriptor = owner_lock._held[os.getpid(), lock.id]._descriptor
    os.close(descriptor)
    other = os.open(path.parent, os.O_RDONLY)
    if other != descriptor:
        os.dup2(other, descriptor)
        os.close(other)
    assert not is_alive()

    lock.renew()

    assert is_alive()
    os.close(descriptor)  # fails if it is closed
    lock.release()
    assert not is_alive()
