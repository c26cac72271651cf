"""The lock file that shows which owners of claims are alive."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sessionsight.delivery.stores.errors import StoreUnavailable
from tests.core.delivery.kit import event
from tests.core.delivery.spools import LANE, POISON, claim, enter, sqlite_spool

HOLD = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.lockf(file, fcntl.LOCK_EX, 1, int(sys.argv[2]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.processes
def test_nothing_is_recovered_while_an_owner_cannot_lock_a_new_file(tmp_path: Path) -> None:
    spool = sqlite_spool(tmp_path / "spool.db")
    enter(spool, [event("a")])
    claim(spool.lane(LANE), 1)
    lock = tmp_path / "spool.db-lock"
    lock.unlink()
    command = [sys.executable, "-c", HOLD, str(lock), str(spool.store.owner_id)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(StoreUnavailable, match="-lock cannot be locked"):
            spool.store.recover(None, POISON)
        other.communicate()

    assert spool.store.recover(None, POISON) == (0, 0)
    spool.lane(LANE).close()
    spool.close()
