from __future__ import annotations

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor

from sessionsight.entropy import SIZE, entropy


def test_every_portion_is_of_the_right_size_and_none_comes_twice() -> None:
    drawn = [entropy() for _ in range(5_000)]

    assert {len(portion) for portion in drawn} == {SIZE}
    assert len(set(drawn)) == len(drawn)


def test_threads_share_no_portion() -> None:
    with ThreadPoolExecutor(8) as pool:
        drawn = list(pool.map(lambda _: [entropy() for _ in range(500)], range(8)))

    portions = [portion for some in drawn for portion in some]
    assert len(set(portions)) == len(portions)


def _portions_of_a_child(fork: object) -> list[bytes]:
    """What a child draws that is forked in this way, from a stock that is not empty."""
    entropy()
    read, write = os.pipe()
    if not fork():  # type: ignore[operator]
        try:
            os.write(write, b"".join(entropy() for _ in range(20)))
        finally:
            os._exit(0)
    os.wait()
    raw = os.read(read, 20 * SIZE)
    os.close(read)
    os.close(write)
    return [raw[at : at + SIZE] for at in range(0, len(raw), SIZE)]


def test_a_forked_child_draws_its_own() -> None:
    theirs = _portions_of_a_child(os.fork)

    assert len(theirs) == 20
    assert not set(theirs) & {entropy() for _ in range(500)}


def test_a_child_that_c_code_has_forked_draws_its_own() -> None:
    theirs = _portions_of_a_child(ctypes.CDLL(None).fork)

    assert len(theirs) == 20
    assert not set(theirs) & {entropy() for _ in range(500)}
