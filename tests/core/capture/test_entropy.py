from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from sessionsight.capture.entropy import SIZE, entropy


def test_every_portion_is_of_the_right_size_and_none_comes_twice() -> None:
    drawn = [entropy() for _ in range(5_000)]

    assert {len(portion) for portion in drawn} == {SIZE}
    assert len(set(drawn)) == len(drawn)


def test_threads_share_no_portion() -> None:
    with ThreadPoolExecutor(8) as pool:
        drawn = list(pool.map(lambda _: [entropy() for _ in range(500)], range(8)))

    portions = [portion for some in drawn for portion in some]
    assert len(set(portions)) == len(portions)


def test_a_forked_child_draws_its_own() -> None:
    entropy()  # the stock is not empty
    read, write = os.pipe()
    if not (child := os.fork()):
        try:
            os.write(write, b"".join(entropy() for _ in range(20)))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    raw = os.read(read, 20 * SIZE)
    os.close(read)
    os.close(write)

    theirs = {raw[at : at + SIZE] for at in range(0, len(raw), SIZE)}
    assert len(theirs) == 20
    assert not theirs & {entropy() for _ in range(500)}


# PyDLL: a fork during which the interpreter's lock is free may leave it locked in the child.
FORK_IN_C = """
import ctypes, os
from sessionsight.capture.entropy import entropy

entropy()
if child := ctypes.PyDLL(None).fork():
    os.waitpid(child, 0)
print(*(entropy().hex() for _ in range(20)), flush=True)
if not child:
    os._exit(0)
"""


@pytest.mark.processes
def test_a_child_that_c_code_has_forked_draws_its_own() -> None:
    # In a process of its own, which has one thread.
    ran = subprocess.run([sys.executable, "-c", FORK_IN_C], stdout=subprocess.PIPE, text=True, check=True, timeout=60)

    assert len(set(ran.stdout.split())) == 40
