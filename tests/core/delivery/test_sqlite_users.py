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

    assert [name for name in names if "owner" not in name] == ["spool.db", "spool.db-shm", "spool.db-wal"]
    found = [path.with_name(name).stat() for name in files(path) if "owner" not in name]
    assert {(file.st_uid, stat.S_IMODE(file.st_mode)) for file in found} == {(APP, 0o600)}


@needs_root
def test_a_group_with_access_to_the_database_can_test_its_owners(path: Path) -> None:
    """Two services of different users with a common group, in a folder with the setgid bit."""
    os.chown(path.parent, APP, GROUP)
    path.parent.chmod(0o2770)
    run(APP, path, "enter(spool, [event('made')])\nspool.maintain()\nend()", groups=(GROUP,))
    os.chown(path, APP, GROUP)
    path.chmod(0o660)

    run(JOB, path, ENTER + "assert len(claim(queue, 4)) == 4\ndie()", groups=(GROUP,))

    assert run(APP, path, RECOVER, groups=(GROUP,)) == ["sent", "g", "made"]


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
    for lock in path.parent.glob("spool.db-owner-*"):
        lock.unlink()

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
