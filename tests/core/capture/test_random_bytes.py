from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from sessionsight.capture.records import random_bytes


def test_random_bytes_have_the_right_size_and_never_repeat() -> None:
    drawn = [random_bytes() for _ in range(5_000)]

    assert {len(value) for value in drawn} == {10}
    assert len(set(drawn)) == len(drawn)


def test_threads_never_get_the_same_random_bytes() -> None:
    with ThreadPoolExecutor(8) as pool:
        drawn = list(pool.map(lambda _: [random_bytes() for _ in range(500)], range(8)))

    values = [value for some in drawn for value in some]
    assert len(set(values)) == len(values)


def test_a_forked_child_draws_its_own_random_bytes() -> None:
    random_bytes()  # the pool is not empty
    read, write = os.pipe()
    if not (child := os.fork()):
        try:
            os.write(write, b"".join(random_bytes() for _ in range(20)))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    raw = os.read(read, 20 * 10)
    os.close(read)
    os.close(write)

    theirs = {raw[at : at + 10] for at in range(0, len(raw), 10)}
    assert len(theirs) == 20
    assert not theirs & {random_bytes() for _ in range(500)}


# PyDLL: a fork during which the interpreter's lock is free may leave it locked in the child.
FORK_IN_C = """
import ctypes, os
from sessionsight.capture.records import random_bytes

random_bytes()
if child := ctypes.PyDLL(None).fork():
    os.waitpid(child, 0)
print(*(random_bytes().hex() for _ in range(20)), flush=True)
if not child:
    os._exit(0)
"""


@pytest.mark.processes
def test_a_child_that_c_code_has_forked_draws_its_own() -> None:
    # In a process of its own, which has one thread.
    ran = subprocess.run([sys.executable, "-c", FORK_IN_C], stdout=subprocess.PIPE, text=True, check=True, timeout=60)

    assert len(set(ran.stdout.split())) == 40
